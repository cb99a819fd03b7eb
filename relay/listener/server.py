"""All [[listener]]s of the settings as one thing that opens and stops, and what accepts connections at each socket."""

import asyncio
import os
import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relay import log
from relay.config.endpoint import UnixAddress
from relay.config.settings import Limits, Listener
from relay.listener.auth import Authenticator
from relay.listener.client_identity import ClientRules, hush
from relay.listener.events import ListenerEvents
from relay.listener.login_failures import LoginFailures
from relay.listener.ports import Acceptance, Logins
from relay.listener.receiving import Memory, Turns
from relay.listener.session import Session
from relay.listener.session_context import ListenerContext, SessionContext
from relay.listener.session_limits import SessionLimits
from relay.listener.session_registry import Nowhere, SessionRegistry, Together
from relay.listener.sockets import (
    ANYBODY,
    BACKLOG,
    Factory,
    ListenError,
    PassedSockets,
    address_of,
    close,
    listen,
    serve,
)
from relay.mail.content import InMemory, NewBody

if TYPE_CHECKING:
    from relay.listener.tls import LiveCertificate


class Acceptor:
    """Gives each connection its session, and counts them. `name` is for people.

    Whoever connects waits until `serve`. The socket is closed with this.
    """

    def __init__(self, name: str, sock: socket.socket, factory: Factory) -> None:
        self.name = name
        self._sock = sock
        self._factory = factory
        self._let_in = 0
        self._let_in_before: int | None = None
        self._server: asyncio.Server | None = None

    def __call__(self) -> asyncio.BaseProtocol:
        """Let somebody in."""
        self._let_in += 1
        return self._factory()

    @property
    def address(self) -> str:
        """Where it listens, with the port that the system chose."""
        return address_of(self._sock)

    async def serve(self) -> None:
        """Let in who waits, and who comes from now on. Raises ListenError."""
        self._server = await serve(self._sock, self)

    def is_stuck(self) -> bool:
        """Whether nobody is let in though somebody waits: now and at the last call, and nobody came in between.

        The kernel takes connections for us whether we look or not, so only who waits for long tells that we do not.
        """
        if self._server is None or not self._server.is_serving():
            return True
        is_waiting = _is_waited_at(self._sock)
        was_waiting, self._let_in_before = self._let_in_before, self._let_in if is_waiting else None
        return is_waiting and was_waiting == self._let_in

    def close(self) -> None:
        """Let nobody in any more."""
        if self._server is None:
            self._sock.close()
        else:
            # Server.wait_closed() is not awaited: from Python 3.12 on it waits for every session.
            self._server.close()

    async def close_behind_the_last(self) -> None:
        """Let in who waits to be accepted, whom the kernel would cut off, and nobody else."""
        if self._server is None:
            return
        same = _same(self._sock)
        await close(self._server)
        for connection in _accept_all(same):
            with suppress(OSError):  # the client has left
                await asyncio.get_running_loop().connect_accepted_socket(self, connection)


def _is_waited_at(sock: socket.socket) -> bool:
    """Whether a connection waits to be accepted, or can no longer be."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _same(sock: socket.socket) -> socket.socket:
    """Return the same listening socket, which lives on when the server's is closed; what a server has cannot accept."""
    return socket.socket(fileno=os.dup(sock.fileno()))


def _accept_all(sock: socket.socket) -> list[socket.socket]:
    """Accept everybody who waits at a listening socket, and close it at once: meanwhile nobody else is to come."""
    accepted: list[socket.socket] = []
    with sock, suppress(OSError):  # BlockingIOError: that was the last one
        sock.setblocking(False)
        while len(accepted) < BACKLOG:
            accepted.append(sock.accept()[0])
            accepted[-1].setblocking(False)
    return accepted


__all__ = ["ListenError", "Listeners"]


class Listeners:
    """The listeners of one relay, and the sessions of all of them."""

    def __init__(  # noqa: PLR0913 - all that listeners have to do with
        self,
        listeners: Sequence[Listener],
        limits: Limits,
        acceptance: Acceptance,
        *,
        logins: Logins,
        session_limits: SessionLimits | None = None,
        events: ListenerEvents | None = None,
        certificate: "LiveCertificate | None" = None,
        new_body: NewBody = InMemory,
        together: Together | None = None,
    ) -> None:
        self._listeners = tuple(listeners)
        self._listener_contexts: list[ListenerContext] = []  # in the order of the listeners
        session_limits = session_limits or SessionLimits()
        events = events or ListenerEvents()
        together = together or Together(Nowhere(), LoginFailures(limits.login_failures))
        self._registry = SessionRegistry(limits, together.elsewhere, session_limits.idle_seconds)
        self._failures = together.failures
        self._context = SessionContext(
            acceptance=acceptance,
            authenticator=Authenticator(logins, together.failures, events, session_limits.login_pause),
            limits=limits,
            session_limits=session_limits,
            events=events,
            registry=self._registry,
            memory=Memory(session_limits.memory),
            turns=Turns(),
            new_body=new_body,
        )
        self._acceptors: list[Acceptor] = []
        self._socket_files: list[tuple[Path, int]] = []
        self._certificate = certificate

    def adopt(self, listeners: Sequence[Listener], limits: Limits, certificate: "LiveCertificate | None") -> None:
        """Receive whoever comes from now on by these rules. Sessions that are open end as they began.

        The listeners are the same as before, in the same order: no address is opened or closed.
        """
        self._listeners, self._certificate = tuple(listeners), certificate
        self._registry.limits, self._failures.limit = limits, limits.login_failures
        self._context = replace(self._context, limits=limits)
        self._listener_contexts = [self._listener(listener) for listener in listeners[: len(self._listener_contexts)]]
        self._prepare()

    async def open(self, passed: PassedSockets | None = None) -> None:
        """Open every address that systemd did not open for us, or none. Clients wait there until `serve`.

        Raises ListenError with the sentence about the first that cannot be had.
        """
        passed = passed or PassedSockets()
        hush()
        self._prepare()
        try:
            for listener in self._listeners:
                await self._open(listener, passed.take(listener))
        except ListenError:
            self._close_sockets()
            raise
        for sentence in passed.left():
            log.warned(sentence)

    async def serve(self) -> None:
        """Let in who waits, at every address. Raises ListenError."""
        for acceptor in self._acceptors:
            await acceptor.serve()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where clients can connect now, as they are written in the settings, with the real ports."""
        return tuple(acceptor.address for acceptor in self._acceptors)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._registry)

    @property
    def per_peer(self) -> dict[str, int]:
        """How many of them come from each peer."""
        return self._registry.per_peer

    def stuck(self) -> tuple[str, ...]:
        """Return the listeners where somebody has waited since the call before this one and nobody was let in."""
        return tuple(acceptor.name for acceptor in self._acceptors if acceptor.is_stuck())

    def rest(self, *, is_wanted: bool) -> None:
        """Turn away whoever comes for as long as that is wanted (421), and let those who are here end their message.

        Where proxies send us clients, their checks are turned away first: nobody has to come again who they can send
        to another.
        """
        if is_wanted == self._registry.is_leaving:
            return
        if not is_wanted:
            self._registry.wake()
        else:
            is_behind = any(listener.proxy_protocol for listener in self._listeners)
            self._registry.rest(self._context.session_limits.notice if is_behind else 0.0)

    async def stop(self, patience: float) -> None:
        """Let nobody in, end silent sessions, and give those with a message `patience` seconds to end it.

        A message that is still being handed over after that goes on without its client.
        """
        for acceptor in self._acceptors:
            await acceptor.close_behind_the_last()
        self._close_sockets()
        await self._registry.stop(patience)

    def _prepare(self) -> None:
        context = self._context
        hostname, largest = context.acceptance.hostname, context.limits.message_size
        self._session = Session.prepare(hostname, largest)
        if any(listener.devices for listener in self._listeners):
            from relay.listener.devices import DeviceSession, folding  # noqa: PLC0415  few relays have such a listener

            self._device_session = DeviceSession.prepare(hostname, largest)
            self._device_context = replace(context, new_body=folding(context.new_body))

    async def _open(self, listener: Listener, passed: Sequence[socket.socket]) -> None:
        endpoint = listener.endpoint
        new_session = partial(self._new_session, len(self._listener_contexts))
        self._listener_contexts.append(self._listener(listener))
        for sock in passed or await listen(endpoint, ANYBODY):
            self._acceptors.append(Acceptor(listener.name, sock, new_session))
        if isinstance(endpoint, UnixAddress) and not passed:
            self._socket_files.append((endpoint.path, endpoint.path.stat().st_ino))

    def _new_session(self, number: int) -> Session:
        listener = self._listener_contexts[number]
        if listener.is_for_devices:
            return self._device_session(self._device_context, listener)
        return self._session(self._context, listener)

    def _listener(self, listener: Listener) -> ListenerContext:
        if listener.security == "none":
            return ListenerContext(ClientRules(listener), is_for_devices=listener.devices)
        if self._certificate is None:
            raise ListenError(f"{listener.endpoint}: its security needs a certificate; set tls.certificate and tls.key")
        is_tls_first = listener.security == "tls"
        return ListenerContext(ClientRules(listener), self._certificate, is_tls_first, listener.devices)

    def _close_sockets(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        for path, inode in self._socket_files:
            # A relay that was started meanwhile has its own socket under this name.
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()
        self._socket_files.clear()
