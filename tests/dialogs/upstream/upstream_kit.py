"""What the tests of `upstream` share: a scripted server with any misbehaviour, and short ways to values.

The server is an asyncio server on loopback that answers like a plain submission server, but for what a test overrides.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from relay.directory.model import Account, Auth, Security, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.secrets.secret import Secret
from relay.upstream.transaction import Timeouts, Transfer
from tests.peers.loop import stop_listening

FAST = Timeouts(connect=5, reply=1, chunk=1, final=1, idle=5, quit=1)
SECRET = Secret("s3cret word", "v1")
CONTENT = Content(b"Subject: hello\r\nFrom: a@b.example\r\n", (b"one\r\n..two\r\n.\r\nthree\r\n",))
RAW = b"Subject: hello\r\nFrom: a@b.example\r\n\r\none\r\n...two\r\n..\r\nthree\r\n.\r\n"


@dataclass(frozen=True)
class Certificates:
    """`ca_file` knows `good` (127.0.0.1, localhost) and `wrong_name` (other.example), but not `unknown`."""

    ca_file: str
    good: ssl.SSLContext
    wrong_name: ssl.SSLContext
    unknown: ssl.SSLContext
    old: ssl.SSLContext


class Drop:
    """Instead of an answer: the connection is reset, after `first` was sent."""

    def __init__(self, first: bytes = b"") -> None:
        self.first = first


SILENCE = b""
"""Instead of an answer: nothing. What comes next is answered again."""

Answer: TypeAlias = "bytes | Drop | Callable[[Line], Awaitable[None]]"
Answers: TypeAlias = "Mapping[str, Answer | Sequence[Answer]]"


@dataclass
class Line:
    """One connection, as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: "ScriptedServer"
    commands: list[str] = field(default_factory=list)
    is_encrypted: bool = False

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):
            await self.writer.drain()

    def drop(self) -> None:
        self.writer.transport.abort()

    async def start_tls(self) -> None:
        assert self.server.tls is not None
        await self.writer.start_tls(self.server.tls)
        self.is_encrypted = True


@dataclass
class ScriptedServer:
    """A server. `answers` holds, by verb, what is said instead; a list is used up answer by answer, its last stays.

    Keys beside the verbs: "greeting", "." (the answer to the final dot), "auth" (the second and later lines of AUTH).
    `always` is offered beside `offers`.
    """

    always: ClassVar[tuple[str, ...]] = ()
    answers: Answers = field(default_factory=dict)
    offers: tuple[str, ...] = ("8BITMIME", "SMTPUTF8", "SIZE 100000000", "AUTH PLAIN LOGIN CRAM-MD5")
    offers_in_tls: tuple[str, ...] | None = None
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    receive_buffer: int = 0
    lines: list[Line] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    port: int = 0
    used: dict[str, int] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def commands(self) -> list[list[str]]:
        return [line.commands for line in self.lines]

    @property
    def verbs(self) -> list[list[str]]:
        return [[command.split(" ")[0] for command in commands] for commands in self.commands]

    def answer(self, key: str, default: bytes) -> Answer:
        if key not in self.answers:
            return default
        found = self.answers[key]
        if not isinstance(found, (list, tuple)):
            return found  # type: ignore[return-value]
        index = min(self.used.get(key, 0), len(found) - 1)
        self.used[key] = index + 1
        answer: Answer = found[index]
        return answer

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        line = Line(reader, writer, self, is_encrypted=self.implicit)
        self.lines.append(line)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            await self.talk(line)
        writer.close()

    async def talk(self, line: Line) -> None:
        await self.say(line, "greeting", b"220 scripted.example ESMTP\r\n")
        while raw := await line.reader.readline():
            command = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
            line.commands.append(command)
            await self.obey(line, command)
            if command == "QUIT":
                return

    async def obey(self, line: Line, command: str) -> None:
        verb = command.split(" ", maxsplit=1)[0].upper()
        offers = self.offers_in_tls if line.is_encrypted and self.offers_in_tls is not None else self.offers
        if verb == "EHLO":
            lines = ["scripted.example greets", *offers, *self.always]
            said = "".join(f"250{'-' if each is not lines[-1] else ' '}{each}\r\n" for each in lines)
            await self.say(line, verb, said.encode())
        elif verb == "HELO":
            await self.say(line, verb, b"250 scripted.example\r\n")
        elif verb == "STARTTLS":
            await self.say(line, verb, b"220 go on\r\n")
            if verb not in self.answers:
                await line.start_tls()
        elif verb == "DATA":
            await self.say(line, verb, b"354 go on\r\n")
            if verb not in self.answers:
                await self.take_message(line)
        elif verb == "BDAT":
            await self.take_chunk(line, int(command.split(" ")[1]))
        elif verb == "AUTH":
            await self.say(line, verb, b"235 2.7.0 welcome\r\n")
        elif verb in {"MAIL", "RCPT", "RSET"}:
            await self.say(line, verb, b"250 2.1.0 fine\r\n")
        elif verb == "QUIT":
            await self.say(line, verb, b"221 2.0.0 bye\r\n")
        else:
            await self.say(line, "auth", b"235 2.7.0 welcome\r\n")

    async def take_message(self, line: Line) -> None:
        raw = await read_message(line.reader)
        self.messages.append(raw)
        await self.say(line, ".", b"250 2.0.0 taken as 4711\r\n")

    async def take_chunk(self, line: Line, size: int) -> None:
        if "BDAT" in self.answers:
            await self.say(line, "BDAT", b"")
            return
        self.messages.append(await line.reader.readexactly(size))
        await self.say(line, ".", b"250 2.0.0 taken as 4711\r\n")

    async def say(self, line: Line, key: str, default: bytes) -> None:
        answer = self.answer(key, default)
        if isinstance(answer, Drop):
            await line.send(answer.first)
            line.drop()
        elif isinstance(answer, bytes):
            await line.send(answer)
        else:
            await answer(line)


async def stand_silent(line: Line) -> None:
    """Instead of an answer: nothing, and nothing more."""
    await line.reader.read()


def has_only(raw: bytes, *verbs: str) -> bool:
    """Whether there is nothing but these commands, and so no message and no end of one."""
    return {line.split(b" ")[0].decode() for line in raw.splitlines()} <= set(verbs)


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """Everything up to CRLF . CRLF, that included."""
    raw = bytearray()
    while not (raw.endswith(b"\r\n.\r\n") or raw == b".\r\n"):
        piece = await reader.read(65536)
        if not piece:
            raise asyncio.IncompleteReadError(bytes(raw), None)
        raw += piece
    return bytes(raw)


async def until(condition: Callable[[], object]) -> None:
    """Let the others work until it holds, for 20 s at most."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for knows no event
            await asyncio.sleep(0)


@asynccontextmanager
async def scripted(kind: type[ScriptedServer] = ScriptedServer, **given: Any) -> AsyncIterator[ScriptedServer]:
    server = kind(**given)
    listener = await asyncio.start_server(
        server.handle, "127.0.0.1", 0, ssl=server.tls if server.implicit else None, limit=2**20
    )
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        await stop_listening(listener)
        for task in server.tasks:
            task.cancel()
        if server.tasks:
            await asyncio.wait(server.tasks)
        for line in server.lines:
            line.drop()
        await asyncio.sleep(0)  # the transports close in the loop's next round


def server_at(port: int, **changes: Any) -> Server:
    given: dict[str, Any] = {
        "name": "acme",
        "host": "127.0.0.1",
        "port": port,
        "security": Security.NONE,
        "auth": Auth.NONE,
        "username": "mailer",
    }
    return Server(**given | changes)


def transfer_to(server: Server, *recipients: str, **changes: Any) -> Transfer:
    given: dict[str, Any] = {
        "server": server,
        "account": Account(server.name, server.username),
        "secret": None if server.auth is Auth.NONE else SECRET,
        "sender": Address.parse("support@acme.example"),
        "recipients": tuple(Recipient(Address.parse(each)) for each in recipients or ("jo@there.example",)),
        "content": CONTENT,
    }
    return Transfer(**given | changes)


@dataclass
class Counting(ScriptedServer):
    """Counts how many connections are open at once, as a provider does: until it has read QUIT or the end."""

    open_now: int = 0
    most: int = 0

    async def talk(self, line: Line) -> None:
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        try:
            await super().talk(line)
        finally:
            self.open_now -= 1
