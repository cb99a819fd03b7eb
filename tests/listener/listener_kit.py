"""What the listener's tests share: a desk that remembers, listeners on free ports, and a client of plain bytes."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from relay.directory.client import Client
from relay.endpoint import TcpAddress, UnixAddress, parse_endpoint
from relay.listener.server import Listeners
from relay.listener.tolerance import Tolerance
from relay.mail.content import Content
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival
from relay.settings import Limits, Listener

HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<support@acmejets.example>\r\n"
RCPT = b"RCPT TO:<jo@customer.example>\r\n"
TEXT = b"Subject: Hi\r\n\r\nHello\r\n"
SECONDS = 10.0  # a test that waits longer has failed
SECRET = "secret-detail /etc/relay"  # what an exception says; no client may ever read it


@dataclass
class Handed:
    """One message as the desk got it."""

    client: Client
    envelope: Envelope
    arrival: Arrival
    content: bytes = b""
    reply: Reply | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class FakeDesk:
    """Answers by the names in the addresses, so that a transcript shows what it is about.

    Senders: stranger, foreign, nopassword and crash are refused or broken at MAIL. Recipients: refused, later and
    crash decide at the end of data; slow waits for `gate`.
    """

    hostname: str = "relay.example"
    messages: list[Handed] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def check_sender(self, client: Client, envelope: Envelope) -> Reply | None:
        if not client.is_trusted:
            return Reply(530, "5.7.0", "Authentication required")
        sender = envelope.sender
        match sender.local if sender else "":
            case "stranger":
                return Reply(550, "5.7.1", f"<{sender}>: no channel or agent sends from this address")
            case "foreign":
                return Reply(550, "5.7.1", f"<{sender}>: {client.name} may not send as this address")
            case "nopassword":
                return Reply(550, "5.7.8", f"<{sender}>: no email password is configured for this account")
            case "crash":
                raise RuntimeError(SECRET)
        return None

    def open(self, client: Client, envelope: Envelope, arrival: Arrival) -> "FakeSubmission":
        return FakeSubmission(self, Handed(client, envelope, arrival))


class FakeSubmission:
    def __init__(self, desk: FakeDesk, handed: Handed) -> None:
        self.desk = desk
        self.handed = handed

    async def complete(self, content: Content) -> Reply:
        self.handed.content = b"".join(content.chunks())
        self.desk.messages.append(self.handed)
        self.desk.begun.set()
        try:
            self.handed.reply = await self.decide(self.handed.envelope.recipients[0].address.local)
        finally:
            self.desk.finished.set()
        return self.handed.reply

    async def decide(self, recipient: str) -> Reply:
        match recipient:
            case "refused":
                return Reply(550, "5.1.1", "<refused@customer.example>: User unknown")
            case "later":
                return Reply(451, "4.4.1", "The outgoing mail server cannot take the message now; please try again")
            case "crash":
                raise RuntimeError(SECRET)
            case "slow":
                await self.desk.gate.wait()
        return Reply(250, "2.0.0", "Ok: delivered via acmejets: taken")

    def client_left(self) -> None:
        self.handed.left.set()


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

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return  # the other side was faster


@dataclass
class Door:
    """Open listeners with the desk behind them."""

    listeners: Listeners
    desk: FakeDesk

    @asynccontextmanager
    async def client(self, address: str = "") -> AsyncIterator[RawClient]:
        endpoint = parse_endpoint(address or self.listeners.addresses[0])
        match endpoint:
            case TcpAddress(host, port):
                streams = await asyncio.open_connection(host, port)
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
            while tasks := [session.task for session in self.listeners._crowd._sessions]:
                await asyncio.wait(tasks)


@asynccontextmanager
async def door(
    *listeners: Listener, limits: Limits | None = None, tolerance: Tolerance | None = None
) -> AsyncIterator[Door]:
    desk = FakeDesk()
    opened = Listeners(listeners or (Listener(address="127.0.0.1:0"),), limits or Limits(), desk, tolerance=tolerance)
    await opened.open()
    try:
        yield Door(opened, desk)
    finally:
        desk.gate.set()
        await opened.stop(patience=SECONDS)


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
