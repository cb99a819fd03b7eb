"""A small upstream on loopback that takes every message and shows it: for `relay demo` and for tests.

Not for mail of anybody: it checks no address, delivers nothing, and lets a password come in without TLS.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from aiosmtpd.smtp import Session as PeerSession

_SIZE = 64 * 1024 * 1024  # octets of one message


@dataclass(frozen=True, slots=True)
class Captured:
    """One message as it arrived. `login` is "" where nobody logged in; `sender` is "" for the null sender."""

    login: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes


class _Session(PeerSession):
    # aiosmtpd logs a warning at every login for this name, which nobody here reads.
    login_data: Any = None


class _Protocol(SMTP):
    line_length_limit = 2 * 1024 * 1024

    def _create_session(self) -> PeerSession:
        return _Session(self.loop)


class CaptureServer:
    """A server that keeps what it gets in `messages` and tells `on_message`.

    `passwords` (login to password) makes it want one of these logins before MAIL; None lets everybody in, with any
    login or none.
    """

    def __init__(
        self,
        on_message: Callable[[Captured], None] | None = None,
        *,
        passwords: Mapping[str, str] | None = None,
        hostname: str = "capture.localhost",
    ) -> None:
        self.messages: list[Captured] = []
        self._on_message = on_message
        self._passwords = passwords
        self._hostname = hostname
        self._server: asyncio.Server | None = None
        self._protocols: list[_Protocol] = []

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; 0 takes any free port. Raises OSError."""
        # Its lines are about every command, with addresses in them.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        self._server = await asyncio.get_running_loop().create_server(self._protocol, host, port)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more and close what is open."""
        if self._server is not None:
            self._server.close()
        for protocol in self._protocols:
            if protocol.transport is not None:
                protocol._writer.transport.abort()
        tasks = [protocol._handler_coroutine for protocol in self._protocols if protocol._handler_coroutine]
        self._protocols.clear()
        if tasks:
            await asyncio.wait(tasks)

    def _protocol(self) -> _Protocol:
        self._protocols = [protocol for protocol in self._protocols if protocol.transport is not None]
        protocol = _Protocol(
            self,
            hostname=self._hostname,
            data_size_limit=_SIZE,
            enable_SMTPUTF8=True,
            auth_require_tls=False,
            authenticator=self._authenticate,
            loop=asyncio.get_running_loop(),
        )
        self._protocols.append(protocol)
        return protocol

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        is_right = self._passwords is None or self._passwords.get(given.login.decode()) == given.password.decode()
        return AuthResult(success=is_right, handled=False, auth_data=given.login.decode())

    # aiosmtpd calls these by their names.

    async def handle_MAIL(  # noqa: N802
        self, _server: SMTP, session: PeerSession, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take any sender of who has logged in."""
        if self._passwords is not None and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_DATA(self, _server: SMTP, session: PeerSession, envelope: Envelope) -> str:  # noqa: N802
        """Keep the message."""
        sender = envelope.mail_from or ""
        message = Captured(
            login=session.auth_data or "",
            sender="" if sender == "<>" else sender,
            recipients=tuple(envelope.rcpt_tos),
            content=envelope.original_content or b"",
        )
        self.messages.append(message)
        if self._on_message is not None:
            self._on_message(message)
        return f"250 2.0.0 Ok: captured as number {len(self.messages)}"
