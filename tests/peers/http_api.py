"""A small HTTP server on loopback that an API in the tests is built on: it answers, is silent, or loses its answer."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.peers.loop import LoopThread, stop_listening
from tests.peers.system import LOOPBACK


class LostAnswer(Exception):
    """The connection closes, and the client never hears what came of its request."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked. `target` is the path with the query as they were sent."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    target: str = ""

    @property
    def token(self) -> str:
        """The bearer token, "" without one."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def said(self) -> dict[str, Any]:
        """The JSON of the body."""
        table: dict[str, Any] = json.loads(self.body)
        return table


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int
    said: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""

    @property
    def octets(self) -> bytes:
        """The answer on the wire: JSON, or `raw`."""
        body = json.dumps(self.said).encode() if self.said is not None else self.raw
        fields = {"Content-Type": "application/json", **self.headers, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} x\r\n{head}\r\n".encode() + body


Answers: TypeAlias = Callable[[Request], Awaitable[Reply]]
_Sent = TypeVar("_Sent")


@dataclass(slots=True)
class SendingApi(Generic[_Sent]):
    """What the APIs by which mail is sent have in common: what was asked, what was sent, and what goes wrong.

    `moods` are what happens to the next requests that send: "" sends; an HTTP status with what the API says refuses
    ("429 ApplicationThrottled"); "lost before" and "lost after" close the connection without an answer, "504 after"
    sends and answers 504.
    """

    moods: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    port: int = 0
    _sent: list[_Sent] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        """The api_url of a server in directory.toml."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def sent(self) -> tuple[_Sent, ...]:
        """Every message that was sent, in order."""
        with self._changed:
            return tuple(self._sent)

    def wait_for(self, number: int, seconds: float = 20.0) -> tuple[_Sent, ...]:
        """Wait until so many messages were sent. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sent) >= number, seconds):
                raise TimeoutError(f"{len(self._sent)} of {number} messages: {self.requests[-3:]} {self.refusals[-3:]}")
            return tuple(self._sent)

    def note(self, method: str, where: str) -> None:
        """Keep what was asked."""
        with self._changed:
            self.requests.append(f"{method} {where}")

    def next_mood(self) -> str:
        """Return what happens to a request that sends."""
        return self.moods.pop(0) if self.moods else ""

    def keep(self, sent: _Sent) -> None:
        """Keep a message that is sent."""
        with self._changed:
            self._sent.append(sent)
            self._changed.notify_all()


async def _request(reader: asyncio.StreamReader, most: int) -> Request | Reply | None:
    with suppress(asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        size = int(headers.get("content-length", "0"))
        if most and size > most:
            return Reply(413, {"error": {"code": "RequestEntityTooLarge", "message": "The request is too large."}})
        parts = urlsplit(target)
        body = await reader.readexactly(size)
        return Request(method, unquote(parts.path), dict(parse_qsl(parts.query)), headers, body, target)
    return None


@contextmanager
def http_api(answer: Answers, most: int = 0) -> Iterator[int]:
    """Answer requests of at most so many octets in their bodies (0: of any number), and give the port."""
    writers: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while (request := await _request(reader, most)) is not None:
                if isinstance(request, Reply):
                    writer.write(request.octets)
                    break
                writer.write((await answer(request)).octets)
                await writer.drain()
        except (LostAnswer, ConnectionError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            writers.discard(writer)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(handle, LOOPBACK, 0, limit=64 * 1024 * 1024)

    async def finish() -> None:
        await stop_listening(server)
        for writer in tuple(writers):
            writer.transport.abort()

    with LoopThread() as loop:
        server = loop.call(start())
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            loop.call(finish())
