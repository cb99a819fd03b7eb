"""The sockets behind the addresses of the listeners: opened here, passed by systemd, and the one of our own.

systemd keeps its own descriptor of each that it passed: while no relay runs, or one ends and the next begins, clients
wait in the kernel's queue and are not refused; and a port under 1024 needs no privilege of ours. Such a socket is found
by its name (fd:NAME) or by the address that it has already. Where there are several workers, the supervisor passes each
its sockets in the same way. A fault is a ListenError: one sentence that names the address and what to do about it.
"""

import asyncio
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TypeAlias

from relay.config.endpoint import LONGEST_SOCKET_PATH, Endpoint, InheritedSocket, TcpAddress, UnixAddress
from relay.config.settings import Listener, Settings

BACKLOG = 1024
"""Connections that wait to be accepted; the kernel lowers it to net.core.somaxconn."""
ANYBODY = 0o666
"""Who may connect to a unix socket, its folder says; the kernel asks for write permission on the socket as well."""

Factory: TypeAlias = Callable[[], asyncio.BaseProtocol]
# As the socket functions have it, by family.
Where: TypeAlias = tuple[Any, ...]
# What getaddrinfo() finds: family, type, protocol, canonical name, address.
Found: TypeAlias = tuple[int, int, int, str, Where]

_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class ListenError(Exception):
    """An address cannot be listened on. The message is one sentence."""


async def listen(endpoint: Endpoint, unix_mode: int) -> list[socket.socket]:
    """Open an endpoint: clients may connect from now on, and wait until somebody serves them. Raises ListenError."""
    try:
        match endpoint:
            case TcpAddress(host, port):
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
                return _listen_at_all(ours(found))
            case UnixAddress(path):
                return [listen_unix(path, unix_mode)]
            case _:
                raise ListenError(f"{endpoint}: only systemd opens such a socket; write host:port")
    except OSError as error:
        raise ListenError(f"{endpoint}: {listen_sentence(error)}") from error


async def serve(sock: socket.socket, factory: Factory) -> asyncio.Server:
    """Serve a socket that listens already. A unix socket's file stays when the server closes.

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


def ours(found: Sequence[Found]) -> list[tuple[int, Where]]:
    """Return those addresses of a name, once each, that this machine has; where it has none, all of them.

    So "localhost" is enough where /etc/hosts names ::1 too and the machine has no IPv6.
    """
    each = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
    return [(family, where) for family, where in each if _is_ours(family, where)] or each


def address_of(sock: socket.socket) -> str:
    """Return where a socket is bound, as a listener's address is written; unix:@name is in the abstract namespace."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return str(UnixAddress(Path(os.fsdecode(name).replace("\0", "@", 1))))
    return str(TcpAddress(name[0], name[1]))


def bind_tcp(family: int, where: Where, *, is_shared: bool = False) -> socket.socket:
    """Return a bound TCP socket; where it `is_shared`, others of the same user may bind theirs too. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def listen_unix(path: Path, mode: int) -> socket.socket:
    """Return a unix socket that listens; one that nobody answers on gives way. Raises OSError."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise OSError(errno.ENAMETOOLONG, "a path that is too long")
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(mode)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _is_ours(family: int, where: Where) -> bool:
    try:
        bind_tcp(family, (where[0], 0, *where[2:])).close()
    except OSError as error:
        return error.errno not in _NOT_OURS
    return True


def _listen_at_all(addresses: Sequence[tuple[int, Where]]) -> list[socket.socket]:
    """Return a socket that listens at each address. Raises OSError, and leaves none open."""
    sockets: list[socket.socket] = []
    try:
        for family, where in addresses:
            sockets.append(bind_tcp(family, where))
            sockets[-1].listen(BACKLOG)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


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
    # A failed name lookup has numbers of its own.
    if isinstance(error, socket.gaierror):
        return f"this host name is not known here ({error.strerror})"
    return {
        errno.EADDRINUSE: "this address is in use by another program; stop that one or choose another address",
        **dict.fromkeys(_NOT_OURS, "this machine does not have this address"),
        errno.EACCES: "not permitted; a port under 1024 needs privileges, a socket needs a folder to write in",
        errno.EEXIST: "there is a file that is no socket; move it away or choose another path",
        errno.ENAMETOOLONG: f"a socket's path has at most {LONGEST_SOCKET_PATH} octets; choose a shorter one",
        errno.ENOENT: "the folder of this socket does not exist",
    }.get(error.errno or 0, error.strerror or type(error).__name__)


_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class PassedSockets:
    """The passed sockets that no listener has yet. Raises ListenError for one that nobody can listen on."""

    def __init__(self, descriptors: Mapping[str, Sequence[int]] | None = None) -> None:
        self._by_name: dict[str, list[socket.socket]] = {}
        try:
            for name, numbers in (descriptors or {}).items():
                for number in numbers:
                    self._by_name.setdefault(name, []).append(_checked(name, number))
        except ListenError:
            self.close()
            raise

    def addresses(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return what an fd:NAME that nobody took stands for; of another endpoint itself."""
        if not isinstance(endpoint, InheritedSocket):
            return (str(endpoint),)
        return tuple(
            address_of(sock) for name in (str(endpoint), endpoint.name) for sock in self._by_name.get(name, ())
        )

    def take(self, listener: Listener) -> tuple[socket.socket, ...]:
        """Return the sockets for a listener, which has them from now on; none where it has to open its address itself.

        Raises ListenError where it names a socket that was not passed, or one that does not fit its other keys.
        """
        endpoint = listener.endpoint
        found = tuple(self._by_name.get(str(endpoint), ()))
        if not found:
            found = self._named(endpoint) if isinstance(endpoint, InheritedSocket) else self._bound_to(endpoint)
        for sock in found:
            _check_fit(listener, sock)
        for sockets in self._by_name.values():
            sockets[:] = [sock for sock in sockets if sock not in found]
        return found

    def left(self) -> tuple[str, ...]:
        """Return a sentence about each socket that no listener took: whoever connects there waits in vain."""
        return tuple(
            f"systemd passed a socket for {address_of(sock)} that no listener uses; "
            f'give one the address "fd:{name}", or disable the socket unit'
            for name, sockets in self._by_name.items()
            for sock in sockets
        )

    def close(self) -> None:
        """Close what nobody took; systemd keeps its own descriptors."""
        for sockets in self._by_name.values():
            for sock in sockets:
                sock.close()
        self._by_name.clear()

    def _bound_to(self, endpoint: Endpoint) -> tuple[socket.socket, ...]:
        every = (sock for sockets in self._by_name.values() for sock in sockets)
        return tuple(sock for sock in every if address_of(sock) == str(endpoint))

    def _named(self, endpoint: InheritedSocket) -> tuple[socket.socket, ...]:
        if found := self._by_name.get(endpoint.name):
            return tuple(found)
        mend = f"enable the socket unit with FileDescriptorName={endpoint.name}"
        names = sorted(name for name, sockets in self._by_name.items() if sockets)
        if names:
            only = ", ".join(names)
            raise ListenError(
                f"{endpoint}: systemd passed no socket of this name, only {only}; {mend}, or name another"
            )
        raise ListenError(
            f"{endpoint}: systemd passed no socket; {mend} and let systemd start relay, or write host:port"
        )


def _checked(name: str, number: int) -> socket.socket:
    """Return a passed descriptor as the listening stream socket that it must be."""
    where = f"fd:{name}: what systemd passed"
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
    except OSError as error:
        what = "is no socket" if error.errno == errno.ENOTSOCK else f"cannot be used: {error.strerror}"
        raise ListenError(f"{where} {what}; its unit must have ListenStream=") from None
    is_stream = sock.family in _FAMILIES and sock.type == socket.SOCK_STREAM
    if not is_stream or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ListenError(f"{where} is no listening socket; its unit must have ListenStream= and Accept=no")
    return sock


def _check_fit(listener: Listener, sock: socket.socket) -> None:
    is_unix = sock.family == socket.AF_UNIX
    if listener.users and not is_unix:
        raise ListenError(
            f"{listener.endpoint}: only a unix socket knows its users, and this one is {address_of(sock)}; "
            f"remove the key users of listener '{listener.name}', or let its unit listen at a path"
        )
    if listener.proxy_protocol and is_unix:
        raise ListenError(
            f"{listener.endpoint}: no proxy comes through the unix socket {address_of(sock)}; "
            f"remove the key proxy_protocol of listener '{listener.name}'"
        )


_LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_ROOT = 0


def places_of(settings: Settings, passed: PassedSockets | None = None) -> Mapping[str, tuple[str, ...]]:
    """Return the addresses of each listener by its name. An fd:NAME is what systemd `passed` and nobody took yet."""
    passed = passed or PassedSockets()
    return {listener.name: passed.addresses(listener.endpoint) for listener in settings.listeners}


def own_socket(settings: Settings, own_uid: int, places: Mapping[str, tuple[str, ...]]) -> Listener | None:
    """Return the listener on submit.sock; None where a [[listener]] has this path, with rules of its own.

    A user of this machine may do there what it may do over loopback at the first listener that trusts loopback.
    Where none does, root and the relay's own user may send as anybody, and everybody else needs a login.
    """
    address = str(UnixAddress(settings.submit_socket))
    if any(address in addresses for addresses in places.values()):
        return None
    own = Listener(name="submit", address=address)
    for listener in settings.listeners:
        is_unix = any(address.startswith("unix:") for address in places[listener.name])
        if not is_unix and _trusts_loopback(listener):
            return replace(own, may_send_as=listener.may_send_as, bounces=listener.bounces)
    return replace(own, users={str(uid): ("*",) for uid in (_ROOT, own_uid)})


def _trusts_loopback(listener: Listener) -> bool:
    if listener.auth == "required":
        return False
    return any(address in network for address in _LOOPBACK for network in listener.trusted_networks)
