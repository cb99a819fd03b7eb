"""The two ends of one connection as the session uses them: lines and chunks come in, replies go out in groups.

Replies are held back while more input is already here and written in one go before the session waits for the network
(RFC 2920 section 3.2: a server may send the answers of one pipelined group together).
"""

import asyncio
from collections.abc import Callable

_CHUNK = 256 * 1024  # octets; what one recv of asyncio brings at most
_MOST_HELD_BACK = 64  # replies, then they are written and the other sessions get a turn


class ClientLeft(ConnectionError):
    """The client has closed its side, or the connection is lost: nothing more will come."""


class LineTooLong(Exception):
    """A line is longer than was asked for; all of it has been thrown away."""


class Wire:
    """The buffered ends of one connection. `on_chunk` is told whenever a part of a message comes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_chunk: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_chunk = on_chunk
        self._input = bytearray()
        self._output: list[bytes] = []

    async def line(self, longest: int) -> bytes:
        """Return the next line without its end. CRLF ends it; a lone LF does too, as people type it into nc.

        Raises LineTooLong after the whole of a line of more than `longest` octets (its end not counted) has passed,
        and ClientLeft.
        """
        searched, too_long = 0, False
        while (end := self._input.find(b"\n", searched)) < 0:
            if len(self._input) > longest + len(b"\r"):
                too_long = True
                self._input.clear()
            searched = len(self._input)
            self._input += await self._receive()
        line = bytes(self._input[:end]).removesuffix(b"\r")
        del self._input[: end + 1]
        if too_long or len(line) > longest:
            raise LineTooLong
        return line

    async def chunk(self, most: int | None = None) -> bytes:
        """Return what has come, whatever its borders, but not more than so many octets. Raises ClientLeft."""
        if not self._input:
            self._input += await self._receive()
        chunk = bytes(self._input[:most])
        del self._input[:most]
        self._on_chunk()
        return chunk

    def unread(self, rest: bytes) -> None:
        """Put back what belongs to the next commands."""
        self._input[:0] = rest

    def send(self, reply: bytes) -> None:
        """Add a reply to those that go out next."""
        self._output.append(reply)

    async def make_way(self) -> None:
        """Write what is held back if it is much, and let other sessions run: a flood of commands must not stop them."""
        if len(self._output) >= _MOST_HELD_BACK:
            await self.flush()
            await asyncio.sleep(0)

    async def flush(self) -> None:
        """Write every reply that is held back, and wait while the client does not read. Raises ClientLeft."""
        if self._output:
            self._write()
            try:
                await self._writer.drain()
            except OSError:
                raise ClientLeft from None

    def hang_up(self, last_words: bytes) -> None:
        """Say a last reply and close. A client that has not even read the replies before it is cut off."""
        transport = self._writer.transport
        # One that is being closed under TLS waits for the client's good-bye, and knows no buffer any more.
        if transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
            return
        self.send(last_words)
        self._write()
        transport.close()

    async def close(self) -> None:
        """Close our side and wait until the connection is gone."""
        if not self._writer.is_closing():
            self._writer.close()  # asyncio's TLS takes a second close for an abort that it then forgets to do
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # lost instead of closed, which is as gone

    def abort(self) -> None:
        """Cut the connection off at once."""
        self._writer.transport.abort()

    def _write(self) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"".join(self._output))
        self._output.clear()

    async def _receive(self) -> bytes:
        await self.flush()
        try:
            chunk = await self._reader.read(_CHUNK)
        except OSError:
            raise ClientLeft from None
        if not chunk:
            raise ClientLeft
        return chunk
