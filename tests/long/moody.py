"""An upstream in any mood: gone, full, deaf to logins, slow, silent after the last dot, or cutting the line.

It remembers who got which message how often, by recipient, and nothing of the messages themselves.
"""

import asyncio
import re
import ssl
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from tests.peers.loop import LoopThread, stop_listening
from tests.peers.system import LOOPBACK, free_port

_LATE = 1.5  # longer than the clients' patience, shorter than the relay's
_RECIPIENT = re.compile(rb"^Final-Recipient: *rfc822; *(\S+)", re.IGNORECASE | re.MULTILINE)
_LARGEST_REPORT = 100_000


class Mood(StrEnum):
    """What it does instead of taking mail."""

    GOOD = "good"
    DOWN = "down"
    FULL = "4xx"
    DEAF = "535"
    SLOW = "tarpit"
    SILENT = "lost replies"
    CUTTING = "connections cut"


class Upstream:
    """One server with its mood, and what it took: `taken` by recipient, `reports` by the recipient they are about."""

    def __init__(self, context: ssl.SSLContext | None, password: str) -> None:
        self.port = free_port()
        self.mood = Mood.GOOD
        self.taken: Counter[str] = Counter()
        self.reports: Counter[str] = Counter()
        self.open = 0
        self.password = password
        self._context = context
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def change(self, mood: Mood) -> None:
        """Fall into a mood. One that is down closes its port and every connection."""
        self.mood = mood
        if mood is Mood.DOWN:
            await self.close()
        elif self._server is None:
            self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port, ssl=self._context, backlog=512)

    async def close(self) -> None:
        """Listen no more, and leave every client."""
        if self._server is not None:
            server, self._server = self._server, None
            await stop_listening(server)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        # A cancelled one ends in order, too: asyncio's own callback asks it for its exception.
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await _Session(self, reader, writer).run()
        self.open -= 1
        self._tasks.discard(task)
        writer.transport.abort()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()


class _Session:
    """One connection. Its replies are those of a plain server, but for the mood of now."""

    def __init__(self, server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._sender = b""
        self._recipients: list[str] = []

    async def run(self) -> None:
        await self._say("220 moody.test ESMTP")
        while line := await self._reader.readline():
            command = line.strip()
            verb = command[:4].upper()
            if verb == b"DATA" and self._recipients:
                await self._say("354 go on")
                if not await self._take():
                    return
            else:
                await self._say(self._answer(verb, command))
            if verb == b"QUIT":
                return

    def _answer(self, verb: bytes, command: bytes) -> str:
        mood = self._server.mood
        if verb == b"EHLO":
            return "250-moody.test\r\n250-8BITMIME\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 ENHANCEDSTATUSCODES"
        if verb == b"AUTH":
            given = b64decode(command.split()[-1]).split(b"\0")[-1].decode()
            is_good = given == self._server.password and mood is not Mood.DEAF
            return "235 2.7.0 in" if is_good else "535 5.7.8 Error: authentication failed"
        if verb == b"MAIL":
            self._sender, self._recipients = command, []
            return "250 2.1.0 ok"
        if verb == b"RCPT":
            return self._recipient(command, mood)
        if verb in {b"RSET", b"NOOP", b"QUIT"}:
            self._recipients = []
            return "221 2.0.0 bye" if verb == b"QUIT" else "250 2.0.0 ok"
        return "503 5.5.1 no"

    def _recipient(self, command: bytes, mood: Mood) -> str:
        recipient = command.decode().partition("<")[2].partition(">")[0]
        if mood is Mood.FULL:
            return "451 4.3.0 try again later"
        if recipient.startswith("gone"):
            return "550 5.1.1 no such user"
        self._recipients.append(recipient)
        return "250 2.1.5 ok"

    async def _take(self) -> bool:
        """Take a message; False where the line is cut."""
        said = bytearray()
        is_report = b"<>" in self._sender
        while (line := await self._reader.readline()) != b".\r\n":
            if not line or (self._server.mood is Mood.CUTTING and len(said) > 20):
                return False
            if len(said) < _LARGEST_REPORT:
                said += line
        if is_report:
            self._server.reports.update(name.decode() for name in _RECIPIENT.findall(said))
        else:
            self._server.taken.update(self._recipients)
        if self._server.mood is Mood.SILENT:
            return False
        await self._say("250 2.0.0 ok")
        self._recipients = []
        return True

    async def _say(self, reply: str) -> None:
        if self._server.mood is Mood.SLOW:
            await asyncio.sleep(_LATE)
        self._writer.write(reply.encode() + b"\r\n")
        await self._writer.drain()


class Upstreams:
    """Some of them in one loop."""

    def __init__(self, loop: LoopThread, servers: dict[str, Upstream]) -> None:
        self._loop = loop
        self.servers = servers

    def change(self, name: str, mood: Mood) -> None:
        """Change the mood of one."""
        self._loop.call(self.servers[name].change(mood))

    @property
    def taken(self) -> Counter[str]:
        """How often each recipient got its message, from all together."""
        return sum((one.taken for one in self.servers.values()), Counter())

    @property
    def reports(self) -> Counter[str]:
        """How often a report was taken about each recipient."""
        return sum((one.reports for one in self.servers.values()), Counter())

    @property
    def open(self) -> int:
        """How many connections are open."""
        return sum(one.open for one in self.servers.values())


@contextmanager
def moody_upstreams(servers: dict[str, Upstream]) -> Iterator[Upstreams]:
    """Have them run."""
    with LoopThread() as loop:
        upstreams = Upstreams(loop, servers)
        for name in servers:
            upstreams.change(name, Mood.GOOD)
        try:
            yield upstreams
        finally:
            for one in servers.values():
                loop.call(one.close())
