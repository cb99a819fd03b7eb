"""The sockets behind the addresses of the listeners.

A fault is a ListenError: one sentence that names the address and what to do about it.
"""

import asyncio
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from relay.endpoint import LONGEST_SOCKET_PATH, Endpoint, TcpAddress, UnixAddress

BACKLOG = 1024
"""Connections that wait to be accepted; the kernel lowers it to net.core.somaxconn."""
ANYBODY = 0o666
"""Who may connect to a unix socket, its folder says; the kernel asks for write permission on the socket as well."""

Factory: TypeAlias = Callable[[], asyncio.BaseProtocol]


class ListenError(Exception):
    """An address cannot be listened on. The message is one sentence."""


async def listen(endpoint: Endpoint, factory: Factory, unix_mode: int) -> asyncio.Server:
    """Open an endpoint and serve it. Raises ListenError."""
    loop = asyncio.get_running_loop()
    try:
        match endpoint:
            case TcpAddress(host, port):
                return await loop.create_server(factory, host, port, backlog=BACKLOG)
            case UnixAddress(path):
                return await loop.create_unix_server(factory, sock=bind_unix(path, unix_mode), backlog=BACKLOG)
            case _:
                raise ListenError(f"{endpoint}: only systemd opens such a socket; write host:port")
    except OSError as error:
        raise ListenError(f"{endpoint}: {listen_sentence(error)}") from error


async def serve(sock: socket.socket, factory: Factory) -> asyncio.Server:
    """Serve a socket that another opened and that listens already. A unix socket's file stays when the server closes.

    Raises ListenError.
    """
    loop = asyncio.get_running_loop()
    try:
        if sock.family != socket.AF_UNIX:
            return await loop.create_server(factory, sock=sock, backlog=BACKLOG)
        if sys.version_info >= (3, 13):
            return await loop.create_unix_server(factory, sock=sock, backlog=BACKLOG, cleanup_socket=False)
        return await loop.create_unix_server(factory, sock=sock, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(f"{address_of(sock)}: {listen_sentence(error)}") from error


async def close(server: asyncio.Server) -> None:
    """Listen no more, and let in whom the loop has just accepted.

    asyncio's own loop gives a connection its transport a turn after it took it, and none once the server is closed:
    that client would be cut off without a word.
    """
    loop = asyncio.get_running_loop()
    for sock in server.sockets:
        loop.remove_reader(sock.fileno())
    await asyncio.sleep(0)
    server.close()


def bound_addresses(server: asyncio.Server) -> tuple[str, ...]:
    """Return where a server listens, with the ports that the system chose."""
    return tuple(address_of(sock) for sock in server.sockets)


def address_of(sock: socket.socket) -> str:
    """Return where a socket is bound, as a listener's address is written; unix:@name is in the abstract namespace."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return str(UnixAddress(Path(os.fsdecode(name).replace("\0", "@", 1))))
    return str(TcpAddress(name[0], name[1]))


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Return a bound unix socket; one that nobody answers on gives way. Raises OSError."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise OSError(errno.ENAMETOOLONG, "a path that is too long")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(mode)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove the socket of a process that is gone; one that somebody still answers on is in use."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, "a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "somebody answers")


def listen_sentence(error: OSError) -> str:
    """Return what an error of bind() or listen() means for whoever chose the address."""
    # asyncio wraps the error of bind() and keeps its number; a failed name lookup has numbers of its own.
    if isinstance(error, socket.gaierror):
        return f"this host name is not known here ({error.strerror})"
    # From Python 3.13 on asyncio passes over addresses that this machine lacks; that none is left has no number.
    return {
        errno.EADDRINUSE: "this address is in use by another program; stop that one or choose another address",
        errno.EADDRNOTAVAIL: "this machine does not have this address",
        errno.EACCES: "not permitted; a port under 1024 needs privileges, a socket needs a folder to write in",
        errno.EEXIST: "there is a file that is no socket; move it away or choose another path",
        errno.ENAMETOOLONG: f"a socket's path has at most {LONGEST_SOCKET_PATH} octets; choose a shorter one",
        errno.ENOENT: "the folder of this socket does not exist",
    }.get(error.errno or errno.EADDRNOTAVAIL, error.strerror or type(error).__name__)
