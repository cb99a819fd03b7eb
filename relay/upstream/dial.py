"""From a host name to a connected socket, and TLS on it: look-up, addresses in turn, contexts and sessions.

RFC 8305 (happy eyeballs): both families take turns, and the next address is tried after a quarter of a second. Our
own because uvloop's create_connection has no such option, and because the look-up is a step of its own.

TLS is at least 1.2 (RFC 8997), with names checked (RFC 7817). A context keeps the last session with each host, so that
the next connection need not begin from nothing (RFC 8446 section 2.2).

SECURITY: `verify_tls = false` encrypts without knowing to whom; it is the directory's explicit choice. A session that
is taken up again brings no certificate. So it belongs to one way of checking, one set of authorities and one host name,
and after an hour a certificate is asked for anew, so that one that has expired or was taken back is noticed.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from relay.system.files import in_file_thread, read_regular_file

_NEXT_ATTEMPT_AFTER = 0.25


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a host, as the socket module takes it."""

    family: int
    protocol: int
    address: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.address[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


async def resolve(host: str, port: int) -> tuple[Endpoint, ...]:
    """Return the addresses of a host, IPv6 and IPv4 in turn, in the system's order. Raises socket.gaierror."""
    loop = asyncio.get_running_loop()
    try:  # an address literal needs neither a thread nor a name server
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    endpoints = [Endpoint(family, protocol, address) for family, _, protocol, _, address in found]
    first = [endpoint for endpoint in endpoints if endpoint.family == endpoints[0].family]
    others = [endpoint for endpoint in endpoints if endpoint.family != endpoints[0].family]
    return tuple(endpoint for endpoint in chain(*zip_longest(first, others)) if endpoint is not None)


async def dial(endpoints: Sequence[Endpoint]) -> socket.socket:
    """Return a socket that is connected to the first endpoint that answers. Raises the first one's OSError.

    May be cancelled at any time: no socket stays open.
    """
    waiting = list(endpoints)
    tasks: list[asyncio.Task[socket.socket]] = []
    winner: asyncio.Task[socket.socket] | None = None
    try:
        while winner is None:
            if waiting:
                tasks.append(asyncio.create_task(_connect(waiting.pop(0))))
            running = [task for task in tasks if not task.done()]
            if not running and not waiting:
                break
            delay = _NEXT_ATTEMPT_AFTER if waiting else None
            await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            winner = next((task for task in tasks if task.done() and not task.exception()), None)
    finally:
        for task in tasks:
            if task is not winner:
                task.add_done_callback(_close_result)
                task.cancel()
    try:
        return (winner or tasks[0]).result()
    finally:
        del task, tasks  # a failed one holds its error, which holds this frame, and both would stay for a while


async def _connect(endpoint: Endpoint) -> socket.socket:
    connection = socket.socket(endpoint.family, socket.SOCK_STREAM, endpoint.protocol)
    try:
        connection.setblocking(False)
        # Commands are small and wait for an answer: they must not wait for a full segment (RFC 896).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, endpoint.address)
    except BaseException:
        connection.close()
        raise
    return connection


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


_SESSION_SECONDS = 3600.0


class ResumingContext(ssl.SSLContext):
    """A context for clients that takes up the last session with a host, where there is one."""

    clock: Callable[[], float] = time.monotonic

    def __init__(self, _protocol: int) -> None:
        super().__init__()
        self._sessions: dict[str, tuple[ssl.SSLSession, float]] = {}  # by host, with when it showed its certificate

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection. Called by the event loops, which know nothing of sessions."""
        kept, since = self._sessions.get(str(server_hostname), (session, 0.0))
        if self.clock() - since > _SESSION_SECONDS:
            kept = session
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, kept)

    def keep_session(self, connection: ssl.SSLObject) -> None:
        """Keep the session of a connection on which the server has said something (with TLS 1.3: also its tickets)."""
        host, session = str(connection.server_hostname), connection.session
        if session is None:
            return
        is_new = not connection.session_reused or host not in self._sessions
        self._sessions[host] = (session, self.clock() if is_new else self._sessions[host][1])


def keep_session(connection: ssl.SSLObject) -> None:
    """Keep a session for the next connection to the same host with the same context."""
    context = connection.context
    if isinstance(context, ResumingContext):
        context.keep_session(connection)


class Contexts:
    """The TLS contexts, one for each (verify, CA file); a CA file that changed is read again. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[tuple[bool, str], tuple[int, ResumingContext]] = {}

    async def get(self, *, verify: bool, ca_file: str) -> ssl.SSLContext:
        """Return the context. Raises OSError (ssl.SSLError is one) for a CA file that cannot be used."""
        # Nothing about a file is asked in the event loop: one on a network may take for ever.
        changed = await in_file_thread(_changed, ca_file) if ca_file else 0
        kept = self._kept.get((verify, ca_file))
        if kept is None or kept[0] != changed:
            # Reading the system's CA bundle takes tens of milliseconds.
            kept = (changed, await in_file_thread(_make_context, verify=verify, ca_file=ca_file))
            kept[1].clock = self._clock
            self._kept[verify, ca_file] = kept
        return kept[1]


def _changed(ca_file: str) -> int:
    return Path(ca_file).stat().st_mtime_ns


def _make_context(*, verify: bool, ca_file: str) -> ResumingContext:
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    # What Python's own default contexts check beyond that, from 3.13 on. Those for servers load no authorities.
    context.verify_flags |= ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).verify_flags
    if ca_file:
        # What is not ASCII stands between the certificates, and is for people.
        context.load_verify_locations(cadata=read_regular_file(ca_file).decode("ascii", "ignore"))
    else:
        context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
