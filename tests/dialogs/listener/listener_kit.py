"""What the listener's tests share: an acceptance that records, listeners on free ports, and a client of plain bytes."""

import asyncio
import functools
import inspect
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from relay.config.certificate import CertificateFiles
from relay.config.endpoint import TcpAddress, UnixAddress, parse_endpoint
from relay.config.settings import Limits, Listener
from relay.directory.client import Client, Login
from relay.listener.server import Listeners
from relay.listener.session_limits import SessionLimits
from relay.listener.tls import LiveCertificate
from relay.mail.content import Content, GrowingBody, InMemory, NewBody
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.secrets.login_password import Verifier, fake_verifier, make_verifier

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<support@acmejets.example>\r\n"
RCPT = b"RCPT TO:<jo@customer.example>\r\n"
TEXT = b"Subject: Hi\r\n\r\nHello\r\n"
SECONDS = 10.0  # a test that waits longer has failed
SECRET = "secret-detail /etc/relay"  # what an exception says; no client may ever read it
# DESIGN section 6. The real replies are tested with `relay.delivery.acceptance`.
_FULL = Reply(452, "4.3.1", "The disk is full; please try again later")
_BROKEN = Reply(451, "4.3.0", "The message cannot be stored now; please try again later")
_DECISIONS = {
    "refused": Reply(550, "5.1.1", "<refused@customer.example>: User unknown"),
    "later": Reply(451, "4.4.1", "The outgoing mail server cannot take the message now; please try again"),
    "held": Reply(451, "4.7.8", "The account that sends this mail is on hold; please try again later"),
    "queued": Reply(250, "2.0.0", "Ok: queued as 0phh4hk4mlf1s7b0"),
    "mismatch": Reply(550, "5.7.1", "From header <x@y.example> does not match the sender <support@acmejets.example>"),
    "header": Reply(554, "5.6.0", "line 2 of the header block is no field"),
    "loop": Reply(554, "5.4.6", "mail loop: 51 Received fields, 0 of them ours"),
    "full": _FULL,
    "broken": _BROKEN,
}


@dataclass
class Handed:
    """One message as `Acceptance` got it."""

    client: Client
    envelope: Envelope
    arrival: Arrival
    content: bytes = b""
    reply: Reply | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: list[float] = field(default_factory=list)
    foreseen: list[tuple[bytes, GrowingBody]] = field(default_factory=list)
    growths: int = 0
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class FakeAcceptance:
    """Answers by the names in the addresses, so that a transcript shows what it is about.

    Senders: stranger, foreign, nopassword, full, broken and crash are refused or broken at MAIL. Recipients decide at
    the end of data: those of `_DECISIONS` and crash; slow waits for `gate`.
    """

    hostname: str = "relay.example"
    messages: list[Handed] = field(default_factory=list)
    opened: list[Handed] = field(default_factory=list)  # with those that never came whole
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: list[asyncio.Task[None]] = field(default_factory=list)

    def check_sender(self, client: Client, envelope: Envelope) -> Reply | None:
        if not client.may_submit:
            return Reply(530, "5.7.0", "Authentication required")
        sender = envelope.sender
        match sender.local if sender else "":
            case "stranger":
                return Reply(550, "5.7.1", f"<{sender}>: no channel or agent sends from this address")
            case "foreign":
                return Reply(550, "5.7.1", f"<{sender}>: {client.name} may not send as this address")
            case "nopassword":
                url = "http://127.0.0.1:8025"
                text = f"<{sender}>: no email password is configured for this account; set it at {url}"
                return Reply(550, "5.7.8", text)
            case "full":
                return _FULL
            case "broken":
                return _BROKEN
            case "crash":
                raise RuntimeError(SECRET)
        return None

    def open(self, client: Client, envelope: Envelope, arrival: Arrival) -> "FakeSubmission":
        self.opened.append(Handed(client, envelope, arrival))
        return FakeSubmission(self, self.opened[-1])


class FakeSubmission:
    def __init__(self, acceptance: FakeAcceptance, handed: Handed) -> None:
        self.acceptance = acceptance
        self.handed = handed

    def foresee(self, header: bytes, body: GrowingBody) -> None:
        self.handed.foreseen.append((header, body))

    def more(self) -> None:
        self.handed.growths += 1

    def abandon(self) -> None:
        self.handed.abandoned.set()

    def begin(self, content: Content, answer: Callable[[Reply], None]) -> None:
        if self.handed.envelope.recipients[0].address.local == "crash":
            raise RuntimeError(SECRET)
        self.acceptance.under_way.append(asyncio.create_task(self.run(content, answer)))

    async def run(self, content: Content, answer: Callable[[Reply], None]) -> None:
        answer(await self.complete(content))

    async def complete(self, content: Content) -> Reply:
        self.handed.content = b"".join(content.chunks())
        self.acceptance.messages.append(self.handed)
        self.acceptance.begun.set()
        try:
            self.handed.reply = await self.decide(self.handed.envelope.recipients[0].address.local)
        finally:
            self.acceptance.finished.set()
        return self.handed.reply

    async def decide(self, recipient: str) -> Reply:
        if recipient in {"slow", "hasty"}:
            await self.acceptance.gate.wait()
        return _DECISIONS.get(recipient, Reply(250, "2.0.0", "Ok: delivered via acmejets: taken"))

    def client_left(self) -> None:
        self.handed.left.set()

    def hurry(self, seconds: float) -> None:
        self.handed.hurried.append(seconds)
        if self.handed.envelope.recipients[0].address.local == "hasty":
            self.acceptance.gate.set()


@dataclass
class FakeLogins:
    """Knows `passwords` by name; each login may send as itself. With `fault` set, it cannot tell."""

    passwords: Mapping[str, str] = field(default_factory=dict)
    fault: Exception | None = None
    checked: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    is_slow: bool = False
    _asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def asked(self, times: int) -> None:
        """Wait until so many more logins have been asked about."""
        async with asyncio.timeout(SECONDS):
            for _ in range(times):
                await self._asked.acquire()

    async def check(self, name: str, password: str) -> Login | None:
        await self.ask(name)
        return Login(name, (name,)) if self.passwords.get(name) == password else None

    async def verifier(self, name: str) -> tuple[Login | None, Verifier]:
        await self.ask(name)
        if name not in self.passwords:
            return None, fake_verifier(b"key", name)
        return Login(name, (name,)), make_verifier(self.passwords[name])

    async def ask(self, name: str) -> None:
        self.checked.append(name)
        self._asked.release()
        if self.is_slow:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault


class RawClient:
    """A client that sends bytes as they are told and reads replies line by line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def line(self) -> str:
        """Return the next line without its end; "" when the connection is closed."""
        async with asyncio.timeout(SECONDS):
            return (await self.reader.readline()).decode().removesuffix("\r\n")

    async def reply(self) -> str:
        """Return the last line of the next reply; "" when the connection is closed."""
        while (line := await self.line())[3:4] == "-":
            pass
        return line

    async def ask(self, *parts: bytes) -> str:
        await self.send(*parts)
        return await self.reply()

    async def until_closed(self) -> bytes:
        """Return everything that comes until the other side closes."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read()

    async def begin(self, *parts: bytes) -> None:
        """Read the greeting, say hello, and send more commands, whose replies are read and good."""
        assert (await self.reply()).startswith("220 ")
        for part in (HELLO, *parts):
            assert (await self.ask(part))[:1] in {"2", "3"}

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Begin TLS on this connection."""
        await self.writer.start_tls(context, server_hostname="127.0.0.1")

    def reset(self) -> None:
        """Be gone at once, as a machine that crashed: the other side hears of it without an end of what was sent."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return  # the other side was faster


@dataclass
class Door:
    """Open listeners with a fake `Acceptance`."""

    listeners: Listeners
    acceptance: FakeAcceptance
    logins: FakeLogins

    @asynccontextmanager
    async def client(self, address: str = "", tls: ssl.SSLContext | None = None) -> AsyncIterator[RawClient]:
        endpoint = parse_endpoint(address or self.listeners.addresses[0])
        match endpoint:
            case TcpAddress(host, port):
                streams = await asyncio.open_connection(host, port, ssl=tls)
            case UnixAddress(path):
                streams = await asyncio.open_unix_connection(str(path))
            case _:
                raise AssertionError(endpoint)
        client = RawClient(*streams)
        try:
            yield client
        finally:
            await client.close()

    async def all_left(self) -> None:
        """Wait until every session that was let in has ended by itself."""
        async with asyncio.timeout(SECONDS):
            await self.listeners._registry.ended()


@asynccontextmanager
async def door(
    *listeners: Listener,
    limits: Limits | None = None,
    session_limits: SessionLimits | None = None,
    logins: FakeLogins | None = None,
    certificate: LiveCertificate | None = None,
    new_body: NewBody = InMemory,
) -> AsyncIterator[Door]:
    acceptance, logins = FakeAcceptance(), logins or FakeLogins()
    opened = Listeners(
        listeners or (Listener(address="127.0.0.1:0"),),
        limits or Limits(),
        acceptance,
        logins=logins,
        session_limits=session_limits,
        certificate=certificate,
        new_body=new_body,
    )
    await opened.open()
    await opened.serve()
    try:
        yield Door(opened, acceptance, logins)
    finally:
        acceptance.gate.set()
        logins.gate.set()
        await opened.stop(patience=SECONDS)


@functools.cache
def _pair() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert("127.0.0.1")


@contextmanager
def certificate() -> Iterator[LiveCertificate]:
    """A server's certificate for 127.0.0.1, in files that are there as long as this lasts."""
    with tempfile.TemporaryDirectory() as folder:
        files = CertificateFiles(Path(folder, "chain.pem"), Path(folder, "key.pem"))
        files.certificate.write_bytes(_pair()[1].cert_chain_pems[0].bytes())
        files.key.write_bytes(_pair()[1].private_key_pem.bytes())
        yield LiveCertificate(files)


def trusting_context() -> ssl.SSLContext:
    """What a client of that certificate uses."""
    context = ssl.create_default_context()
    _pair()[0].configure_trust(context)
    return context


def unix_listener(folder: Path) -> Listener:
    return Listener(address=f"unix:{folder / 'submit.sock'}")


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on asyncio's own loop and on uvloop."""

    @functools.wraps(test)
    def run(*args: Any, loop_factory: Callable[[], asyncio.AbstractEventLoop], **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(*args, **kwargs))

    own = inspect.signature(test)
    extra = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    vars(run)["__signature__"] = own.replace(parameters=[*own.parameters.values(), extra], return_annotation=None)
    del vars(run)["__wrapped__"]
    loops: pytest.MarkDecorator = pytest.mark.parametrize(
        "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    marked: Callable[..., None] = loops(run)
    return marked


async def within(awaitable: Awaitable[Any]) -> Any:
    """Await something that must come soon."""
    async with asyncio.timeout(SECONDS):
        return await awaitable
