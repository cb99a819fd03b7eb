"""A TCP proxy that harms what passes through it: late, slow, cut at a byte or at a word, reset, without STARTTLS."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.peers.loop import LoopThread, stop_listening
from tests.peers.system import LOOPBACK

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Harm:
    """What happens to one direction. `delay` is seconds before each chunk, `rate` octets a second (0: no limit).

    The connection is cut after `cut_after` octets, after the word `cut_at` passed, or before `cut_before` passes.
    """

    delay: float = 0
    rate: int = 0
    cut_after: int | None = None
    cut_at: bytes = b""
    cut_before: bytes = b""
    strips_starttls: bool = False


class Proxy:
    """A running proxy. `upload` (client to server), `download` and `resets` hold for connections that come."""

    def __init__(self, upload: Harm, download: Harm, *, resets: bool) -> None:
        self.port = 0
        self.upload = upload
        self.download = download
        self.resets = resets
        self.connections = 0


class _Cut(Exception):
    """The connection ends here, on purpose."""


class _Stream:
    """One direction of one connection."""

    def __init__(self, harm: Harm) -> None:
        self._harm = harm
        self._passed = 0
        self._tail = b""

    def judge(self, chunk: bytes) -> tuple[bytes, bool]:
        """Return what of a chunk may pass, and whether the connection ends behind it."""
        harm = self._harm
        if harm.strips_starttls:
            chunk = without_starttls(chunk)
        end = len(chunk)
        if harm.cut_after is not None:
            end = min(end, harm.cut_after - self._passed)
        text = self._tail + chunk
        for word, length in ((harm.cut_at, len(harm.cut_at)), (harm.cut_before, 0)):
            found = text.find(word) if word else -1
            if found >= 0:
                end = min(end, max(0, found + length - len(self._tail)))
        longest = max(len(harm.cut_at), len(harm.cut_before))
        self._tail = text[-longest + 1 :] if longest > 1 else b""
        self._passed += end
        is_cut = end < len(chunk) or self._passed == harm.cut_after
        is_cut = is_cut or bool(harm.cut_at and harm.cut_at in text)
        return chunk[:end], is_cut

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction to its end."""
        size = min(_CHUNK, self._harm.rate // 10 or 1) if self._harm.rate else _CHUNK
        while chunk := await reader.read(size):
            passing, is_cut = self.judge(chunk)
            await asyncio.sleep(self._harm.delay + (len(chunk) / self._harm.rate if self._harm.rate else 0))
            writer.write(passing)
            await writer.drain()
            if is_cut:
                raise _Cut
        writer.write_eof()


def without_starttls(chunk: bytes) -> bytes:
    """Return a server's EHLO reply without its STARTTLS line, still well-formed; anything else as it is."""
    lines = chunk.splitlines(keepends=True)
    kept = [line for line in lines if line[4:].strip() != b"STARTTLS"]
    if len(kept) == len(lines):
        return chunk
    kept[-1] = kept[-1].replace(b"250-", b"250 ", 1)
    return b"".join(kept)


@contextmanager
def proxy_server(
    target: int, *, upload: Harm | None = None, download: Harm | None = None, resets: bool = False
) -> Iterator[Proxy]:
    """A proxy to a port of this machine. With `resets` a cut is an RST, else both sides are closed in order."""
    proxy = Proxy(upload or Harm(), download or Harm(), resets=resets)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.connections += 1
        try:
            await _carry(proxy, target, reader, writer)
        except OSError:
            writer.transport.abort()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, LOOPBACK, 0)

    with LoopThread() as loop:
        server = loop.call(start())
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            loop.call(stop_listening(server))


async def _carry(proxy: Proxy, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    server_reader, server_writer = await asyncio.open_connection(LOOPBACK, target)
    tasks = (
        asyncio.create_task(_Stream(proxy.upload).pump(reader, server_writer)),
        asyncio.create_task(_Stream(proxy.download).pump(server_reader, writer)),
    )
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if proxy.resets and any([isinstance(task.exception(), _Cut) for task in done]):  # noqa: C419 - asks every task
            _reset_on_close(writer)
    finally:
        for task in tasks:
            task.cancel()
        # Closing sends first what was written, unless the connection is reset.
        for end in (writer, server_writer):
            end.close()


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    """A socket that closes with a linger time of 0 sends RST."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
