"""The last station of the tests' mail: an SMTP server that keeps every message with the account that sent it.

Dovecot, which stands in front of it, tells by Postfix's XCLIENT command who logged in. So each message carries its
account, and a test needs no guess by time or order.
"""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.peers.loop import LoopThread, stop_listening
from tests.peers.system import LOOPBACK

_EXTENSIONS = ("250-XCLIENT ADDR PORT PROTO HELO LOGIN", "250-ENHANCEDSTATUSCODES")
# RFC 3461 section 4, as XCLIENT uses it: "+2B" is a plus sign.
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as the last station saw it. `login` is "" where nobody logged in; `sender` "" is the null sender."""

    login: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @property
    def header(self) -> EmailMessage:
        """The header, read leniently."""
        message = message_from_bytes(self.content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message

    @property
    def body(self) -> bytes:
        """What follows the first empty line, byte for byte."""
        return self.content.partition(b"\r\n\r\n")[2]


class Sink:
    """What arrived, in order."""

    def __init__(self) -> None:
        self.port = 0
        self._messages: list[Arrived] = []
        self._changed = threading.Condition()

    @property
    def messages(self) -> tuple[Arrived, ...]:
        """Everything that arrived up to now."""
        with self._changed:
            return tuple(self._messages)

    def add(self, message: Arrived) -> None:
        """Keep a message."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def to(self, recipient: str) -> list[Arrived]:
        """The messages that arrived for one recipient."""
        return [message for message in self.messages if recipient in message.recipients]

    def wait_for(self, recipient: str, count: int = 1, seconds: float = _PATIENCE) -> Arrived:
        """Return the newest message for a recipient once `count` of them have arrived. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.to(recipient)) >= count, seconds):
                raise TimeoutError(f"no message number {count} for {recipient} within {seconds:g} s")
            return self.to(recipient)[-1]


class _SinkSession(SMTP):
    """aiosmtpd's session with XCLIENT, which begins the session anew with the facts that it names."""

    login = ""
    # Clients send longer lines than RFC 5321 section 4.5.3.1.6 allows, and the relay passes up to 1 MiB on.
    line_length_limit = 1024**2 + 2

    async def smtp_XCLIENT(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd finds commands by this name
        facts = dict(part.split("=", 1) for part in (arg or "").split())
        self.login = _HEXCHAR.sub(lambda match: chr(int(match[1], 16)), facts.get("LOGIN", ""))
        await self.push("220 sink.test ESMTP")


class _Keeper:
    """aiosmtpd's hooks: everything is accepted and kept."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], *_EXTENSIONS, responses[-1]]

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: _SinkSession, session: Session, envelope: Envelope
    ) -> str:
        content = envelope.original_content
        assert isinstance(content, bytes)
        sender = "" if envelope.mail_from in {None, "<>"} else str(envelope.mail_from)
        self._sink.add(Arrived(server.login, sender, tuple(envelope.rcpt_tos), content))
        return "250 2.0.0 Ok: kept"


@contextmanager
def sink_server() -> Iterator[Sink]:
    """A sink on a port of its own."""
    sink = Sink()
    sessions: list[_SinkSession] = []

    def factory() -> _SinkSession:
        options: dict[str, Any] = {"enable_SMTPUTF8": True, "hostname": "sink.test", "data_size_limit": 64 * 1024**2}
        sessions.append(_SinkSession(_Keeper(sink), **options))
        return sessions[-1]

    async def start() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(factory, LOOPBACK, 0)

    async def finish() -> None:
        await stop_listening(server)
        for session in sessions:
            if isinstance(session.transport, asyncio.WriteTransport):
                session.transport.abort()

    with LoopThread() as loop:
        server = loop.call(start())
        sink.port = server.sockets[0].getsockname()[1]
        try:
            yield sink
        finally:
            loop.call(finish())
