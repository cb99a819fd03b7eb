"""An upstream that keeps every byte it was sent, answers as told, and waits at any step until the test lets it go."""

import asyncio
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import SupportsIndex

from tests.peers.loop import LoopThread, stop_listening
from tests.peers.system import LOOPBACK

# Instead of a reply: close the connection without a word.
HANG_UP = b""
# What is answered where the test says nothing else. "." is the end of data, "greeting" the start.
REPLIES: Mapping[str, bytes] = {
    "greeting": b"220 recorder.test ESMTP\r\n",
    "EHLO": b"250-recorder.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-AUTH PLAIN\r\n250 ENHANCEDSTATUSCODES\r\n",
    "AUTH": b"235 2.7.0 Hello\r\n",
    "MAIL": b"250 2.1.0 Sender ok\r\n",
    "RCPT": b"250 2.1.5 Recipient ok\r\n",
    "DATA": b"354 Go on\r\n",
    ".": b"250 2.0.0 Ok: recorded\r\n",
    "BDAT": b"250 2.0.0 Ok: recorded\r\n",
    "RSET": b"250 2.0.0 Reset\r\n",
    "NOOP": b"250 2.0.0 Here\r\n",
    "QUIT": b"221 2.0.0 Bye\r\n",
}
_UNKNOWN = b"500 5.5.2 What?\r\n"
_PATIENCE = 60.0


@dataclass(slots=True)
class Conversation:
    """One connection: every byte that came, and the messages in it as they stood on the wire, dots included.

    `chunks` are what came by BDAT. `turns` has what came together: one for each time that the client had something to
    say. A client that waits for an answer in between has two; so they count round trips, as long as each is small.
    """

    received: bytearray = field(default_factory=bytearray)
    messages: list[bytes] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    turns: list[bytes] = field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        """The command lines, in order, without the messages."""
        rest = bytes(self.received)
        for message in self.messages:
            rest = rest.replace(message + b".\r\n", b"", 1)
        for chunk in self.chunks:
            rest = rest.replace(chunk, b"", 1)
        return rest.decode(errors="replace").split("\r\n")[:-1]


class Recorder:
    """What the recorder heard, and what it will answer. `replies` may be changed at any time."""

    def __init__(self, replies: Mapping[str, bytes]) -> None:
        self.port = 0
        self.replies = {**REPLIES, **replies}
        self.conversations: list[Conversation] = []
        # Every message in the order of their ends, as on the wire: with stuffed dots, without the final one.
        self.messages: list[bytes] = []
        self.most_open = 0  # connections at once
        self._lines: dict[asyncio.StreamWriter, asyncio.AbstractEventLoop] = {}
        self._waiting: dict[str, threading.Event] = {}
        self._open: dict[str, threading.Event] = {}

    def cut(self) -> None:
        """Cut off every connection. All of them are closed when it returns."""
        for writer, loop in list(self._lines.items()):
            asyncio.run_coroutine_threadsafe(_abort(writer), loop).result(_PATIENCE)

    def hold(self, step: str) -> None:
        """Let every connection wait at a step, before it is answered, until `release`."""
        self._waiting[step], self._open[step] = threading.Event(), threading.Event()

    def wait_for(self, step: str) -> None:
        """Wait until a connection stands at a held step. Raises TimeoutError."""
        if not self._waiting[step].wait(_PATIENCE):
            raise TimeoutError(f"no connection came to {step} within {_PATIENCE:g} s")

    def release(self, step: str) -> None:
        """Let those who wait at a step go on."""
        self._open[step].set()

    async def reply_to(self, step: str, line: str = "") -> bytes:
        """Return the answer to a step, when it may be given.

        `replies` may have one for the whole command line, or for the line up to its path: "RCPT TO:<a@b.example>".
        """
        if step in self._open:
            self._waiting[step].set()
            await asyncio.to_thread(self._open[step].wait, _PATIENCE)
        said = (line, line.partition("> ")[0] + ">")
        return next((self.replies[one] for one in said if one in self.replies), self.replies.get(step, _UNKNOWN))


class _Reader(asyncio.StreamReader):
    """Notes what comes together."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.conversation = Conversation()

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self.conversation.turns.append(bytes(data))
        super().feed_data(data)


@contextmanager
def recorder_server(
    replies: Mapping[str, bytes] | None = None, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Recorder]:
    """A recorder on a port of its own, or on this one; with `tls` the port speaks TLS from the start."""
    recorder = Recorder(replies or {})

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _Reader)
        recorder.conversations.append(reader.conversation)
        recorder._lines[writer] = asyncio.get_running_loop()
        recorder.most_open = max(recorder.most_open, len(recorder._lines))
        try:
            await _converse(recorder, reader.conversation, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            del recorder._lines[writer]
            writer.transport.abort()

    async def start() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: asyncio.StreamReaderProtocol(_Reader(limit=64 * 1024**2), serve), LOOPBACK, port, ssl=tls
        )

    with LoopThread() as loop:
        server = loop.call(start())
        recorder.port = server.sockets[0].getsockname()[1]
        try:
            yield recorder
        finally:
            for step in list(recorder._open):
                recorder.release(step)
            loop.call(stop_listening(server))


async def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    await asyncio.sleep(0)  # the loop closes the socket in its next round


async def _converse(
    recorder: Recorder, conversation: Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    step, command = "greeting", ""
    while True:
        if step == "BDAT":
            chunk = await reader.readexactly(int(command.split()[1]))
            conversation.received += chunk
            conversation.chunks.append(chunk)
            recorder.messages.append(chunk)
        reply = await recorder.reply_to(step, command)
        writer.write(reply)
        await writer.drain()
        if reply == HANG_UP or step == "QUIT":
            return
        if step == "DATA" and reply.startswith(b"354"):
            step, command = ".", ""
            message = await _read_message(conversation, reader)
            conversation.messages.append(message)
            recorder.messages.append(message)
        else:
            line = await reader.readuntil(b"\r\n")
            conversation.received += line
            command = line.decode("ascii", "replace").strip()
            step = command[:4].strip().upper()


async def _read_message(conversation: Conversation, reader: asyncio.StreamReader) -> bytes:
    """Only CRLF.CRLF ends a message (RFC 5321 section 4.1.1.4): what else looks like an end is kept as content."""
    parts: list[bytes] = []
    while True:
        # By what may end a message instead of by lines: many megabytes pass here.
        part = await reader.readuntil(b".\r\n")
        parts.append(part)
        conversation.received += part
        before = b"".join(parts[-3:])[:-3]
        if before.endswith(b"\r\n") or (before == b"" and len(parts) == 1):
            return b"".join(parts)[:-3]
