"""A provider that counts connections, messages a minute and recipients a day, and refuses in its own words.

It is strict: a window of a minute begins at any moment, and a refused message counts for nothing.
"""

import asyncio
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.peers.loop import LoopThread, stop_listening
from tests.peers.system import LOOPBACK

_TOO_MANY_CONNECTIONS = "432 4.3.2 Concurrent connections limit exceeded"
_TOO_FAST = "432 4.7.0 STOREDRV.ClientSubmit; sender rate limit exceeded"
_TOO_MANY_TODAY = "454 4.7.0 Throttling failure: Daily message quota exceeded"
_TOO_MANY_AT_ONCE = "452 4.5.3 Too many recipients"


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was accepted: when its MAIL came (in seconds of `time.monotonic`), from whom, for whom.

    `ended` is when its final dot came, `hello` the name in the client's EHLO.
    """

    at: float
    login: str
    recipients: tuple[str, ...]
    ended: float = 0.0
    hello: str = ""


@dataclass(slots=True)
class Provider:
    """The limits, 0 for none, and what happened. `is_shared`: they count all logins together.

    `minute`, `day`: how many seconds it takes for one, where those who send do, too (`tests.peers.short_windows`).

    `moods` are what the next MAILs are refused with, whatever the limits. It takes `answer_seconds` to answer a final
    dot, and leaves a client that is silent for `idle_seconds` (0: never). `most_open` is how many connections were open
    at once at most, by login.
    """

    connections: int = 0
    per_minute: int = 0
    per_day: int = 0
    per_message: int = 0
    is_shared: bool = False
    idle_seconds: float = 0
    answer_seconds: float = 0
    port: int = 0
    minute: float = 60.0
    day: float = 86400.0
    moods: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    most_open: dict[str, int] = field(default_factory=dict)
    _taken: list[Taken] = field(default_factory=list)
    _begun: dict[str, list[float]] = field(default_factory=dict)
    _spent: dict[str, list[float]] = field(default_factory=dict)
    _open: dict[str, int] = field(default_factory=dict)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: LoopThread | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def taken(self) -> tuple[Taken, ...]:
        """Every message that was accepted up to now."""
        with self._changed:
            return tuple(self._taken)

    def wait_for(self, count: int, seconds: float) -> None:
        """Wait until so many messages were accepted. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._taken) >= count, seconds):
                raise TimeoutError(f"{len(self._taken)} of {count} messages within {seconds:g} s: {self.refusals[:3]}")

    def keep(self, message: Taken) -> None:
        """Accept a message."""
        with self._changed:
            self._taken.append(message)
            self._changed.notify_all()

    def refuse(self, words: str) -> str:
        """Refuse something."""
        self.refusals.append(words)
        return words

    def enter(self, login: str) -> bool:
        """Whether one more connection may be."""
        key = self._key(login)
        self._open[key] = self._open.get(key, 0) + 1
        self.most_open[key] = max(self.most_open.get(key, 0), self._open[key])
        return not self.connections or self._open[key] <= self.connections

    def leave(self, login: str) -> None:
        """A connection is over."""
        self._open[self._key(login)] -= 1

    def begin(self, login: str, now: float) -> bool:
        """Whether one more message may begin now."""
        begun = self._begun.setdefault(self._key(login), [])
        begun[:] = [at for at in begun if at > now - self.minute]
        if self.per_minute and len(begun) >= self.per_minute:
            return False
        begun.append(now)
        return True

    def spend(self, login: str, now: float) -> bool:
        """Whether one more recipient may be written to today."""
        spent = self._spent.setdefault(self._key(login), [])
        spent[:] = [at for at in spent if at > now - self.day]
        if self.per_day and len(spent) >= self.per_day:
            return False
        spent.append(now)
        return True

    def cut(self) -> None:
        """End all connections at once, without a word."""
        assert self._loop is not None
        self._loop.call(self._abort())

    async def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _key(self, login: str) -> str:
        return "" if self.is_shared else login


@dataclass(slots=True)
class _Session:
    """One connection: a login, then one transaction after the other."""

    provider: Provider
    login: str = ""
    hello: str = ""
    at: float = 0.0
    recipients: list[str] = field(default_factory=list)

    def answer(self, line: str) -> str:
        verb = line[:4].upper()
        match verb:
            case "EHLO":
                self.hello = line[5:].strip()
                return "250-provider.test\r\n250-8BITMIME\r\n250 AUTH PLAIN"
            case "AUTH":
                return self._log_in(line)
            case "MAIL":
                self.at, self.recipients = time.monotonic(), []
                if self.provider.moods:
                    return self.provider.refuse(self.provider.moods.pop(0))
                if not self.provider.begin(self.login, self.at):
                    return self.provider.refuse(_TOO_FAST)
            case "RCPT":
                return self._name(line)
        return "250 2.0.0 Ok"

    def take(self) -> str:
        self.provider.keep(Taken(self.at, self.login, tuple(self.recipients), time.monotonic(), self.hello))
        return "250 2.0.0 Ok: taken"

    def _log_in(self, line: str) -> str:
        name = b64decode(line.split()[2]).decode().split("\0")[1]
        if not self.provider.enter(name):
            self.provider.leave(name)
            return self.provider.refuse(_TOO_MANY_CONNECTIONS)
        self.login = name
        return "235 2.7.0 Welcome"

    def _name(self, line: str) -> str:
        if self.provider.per_message and len(self.recipients) >= self.provider.per_message:
            return self.provider.refuse(_TOO_MANY_AT_ONCE)
        if not self.provider.spend(self.login, time.monotonic()):
            return self.provider.refuse(_TOO_MANY_TODAY)
        self.recipients.append(line.partition("<")[2].partition(">")[0])
        return "250 2.1.5 Ok"


async def _talk(provider: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    session = _Session(provider)
    try:
        writer.write(b"220 provider.test ESMTP\r\n")
        while line := (await _heard(provider, reader, b"\n")).decode().rstrip("\r\n"):
            if line.upper() == "QUIT":
                break
            if line.upper() != "DATA":
                writer.write(f"{session.answer(line)}\r\n".encode())
                continue
            writer.write(b"354 Go on\r\n")
            await _heard(provider, reader, b"\r\n.\r\n")
            reply = session.take()
            await asyncio.sleep(provider.answer_seconds)
            writer.write(f"{reply}\r\n".encode())
    except TimeoutError:
        writer.write(b"421 4.4.2 You are silent\r\n")
        return
    finally:
        if session.login:
            provider.leave(session.login)
    writer.write(b"221 2.0.0 Bye\r\n")


async def _heard(provider: Provider, reader: asyncio.StreamReader, until: bytes) -> bytes:
    """Return what comes up to an end. Raises TimeoutError where the client is silent, IncompleteReadError behind it."""
    async with asyncio.timeout(provider.idle_seconds or None):
        return await reader.readuntil(until)


@contextmanager
def provider_server(provider: Provider) -> Iterator[Provider]:
    """The provider on a port of its own."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        provider._writers.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await _talk(provider, reader, writer)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            provider._writers.discard(writer)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(handle, LOOPBACK, 0)

    async def finish() -> None:
        await stop_listening(server)
        await provider._abort()

    with LoopThread() as loop:
        server, provider._loop = loop.call(start()), loop
        provider.port = server.sockets[0].getsockname()[1]
        try:
            yield provider
        finally:
            loop.call(finish())
