"""The two ends of one connection as the session uses them: lines and chunks come in, replies go out in groups.

The protocol puts in what the network brings. What can be answered at once is answered right there, without a switch to
the session's task (`Wire.until`). Replies are held back while more input is already here, and written in one go before
the session waits for the network (RFC 2920 section 3.2: a server may send the answers of one pipelined group together).
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

_MOST_WAITING = 64 * 1024  # octets that wait for the session; with more, nothing is read from the network
_Found = TypeVar("_Found")


class ClientLeft(ConnectionError):
    """The client has closed its side, or the connection is lost: nothing more will come."""


class LineTooLong(Exception):
    """A line is longer than was asked for; all of it has been thrown away."""


class Wire:
    """The buffered ends of one connection.

    `heard_at` is the loop's time of the last part of a message, or what the session sets it to; `transport` is None
    until the connection is there.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.heard_at = loop.time()
        self.transport: asyncio.Transport | None = None
        self._loop = loop
        self._input = bytearray()
        self._is_too_long = False  # the line that has begun
        self._output: list[bytes] = []
        self._step: Callable[[], Any] | None = None
        self._found: asyncio.Future[Any] | None = None
        self._is_called_again = False
        self._is_held = False  # reading from the network
        self._is_full = False  # what is written waits until the client reads
        self._has_ended = False  # what the client sends
        self._is_lost = False
        self._change: asyncio.Future[None] | None = None  # the next time that it is not full any more, or lost
        self._borrower: asyncio.StreamReader | None = None

    # What the protocol tells.

    def connect(self, transport: asyncio.Transport) -> None:
        """The connection is there, or TLS is."""
        self.transport = transport

    def put(self, octets: bytes) -> None:
        """Octets have come."""
        if self._borrower is not None:
            self._borrower.feed_data(octets)
            return
        self._input += octets
        if self._step is not None:
            self._go_on()
        if len(self._input) > _MOST_WAITING and self.transport is not None and not self._is_held:
            self._is_held = True
            self.transport.pause_reading()

    def end(self) -> None:
        """The client sends no more."""
        self._has_ended = True
        if self._borrower is not None:
            self._borrower.feed_eof()
        self._go_on()

    def lose(self) -> None:
        """The connection is gone."""
        self._is_lost = True
        self._is_full = False
        self._tell_change()
        self.end()

    def fill(self) -> None:
        """The client does not read: nothing more is to be answered now."""
        self._is_full = True

    def drain(self) -> None:
        """The client reads again."""
        self._is_full = False
        self._tell_change()
        self._go_on()

    # What the session reads.

    async def until(self, step: Callable[[], _Found | None]) -> _Found:
        """Return what `step` returns when that is not None. It is called now, and whenever octets have come.

        Before the wait goes on, the replies that it has sent go out; while the client reads none, it is not called.
        Raises what the step raises, and ClientLeft when it has seen all that will come.
        """
        self._step, self._found = step, self._loop.create_future()
        try:
            self._go_on()
            found: _Found = await self._found
            return found
        finally:
            self._step = self._found = None

    def call_again(self) -> None:
        """Let the step that is running be called again after the other sessions had a turn."""
        self._is_called_again = True
        self._loop.call_soon(self._take_turn)

    @property
    def has_input(self) -> bool:
        """Whether something has come that nobody has read."""
        return bool(self._input)

    def next_line(self, longest: int) -> bytes | None:
        """Return the next line without its end; None where it is not whole yet. CRLF ends it, and a lone LF does too,
        as people type it into nc.

        Raises LineTooLong after the whole of a line of more than `longest` octets (its end not counted) has passed.
        """
        end = self._input.find(b"\n")
        if end < 0:
            if len(self._input) > longest + len(b"\r"):
                self._is_too_long = True
                self._input.clear()
            return None
        line = bytes(self._input[:end]).removesuffix(b"\r")
        del self._input[: end + 1]
        if self._is_too_long or len(line) > longest:
            self._is_too_long = False
            raise LineTooLong
        return line

    async def line(self, longest: int) -> bytes:
        """Return the next line as `next_line` does. Raises LineTooLong and ClientLeft."""
        return await self.until(lambda: self.next_line(longest))

    async def chunk(self, most: int | None = None) -> bytes:
        """Return what has come, whatever its borders, but not more than so many octets. Raises ClientLeft."""
        chunk = await self.until(lambda: self._next_chunk(most))
        self.heard_at = self._loop.time()
        return chunk

    def unread(self, rest: bytes) -> None:
        """Put back what belongs to the next commands."""
        self._input[:0] = rest

    def take_all(self) -> bytes:
        """Return what has come and nobody has read."""
        octets = bytes(self._input)
        self._input.clear()
        return octets

    def lend(self, limit: int) -> asyncio.StreamReader:
        """Return a reader which has all that comes from now on, until `take_back`."""
        assert self.transport is not None
        self._borrower = asyncio.StreamReader(limit, self._loop)
        self._borrower.set_transport(self.transport)
        self._borrower.feed_data(self.take_all())
        if self._has_ended:
            self._borrower.feed_eof()
        if self._is_held:
            self._read_on()
        return self._borrower

    async def take_back(self) -> None:
        """Go on with what the reader has left."""
        assert self._borrower is not None
        reader, self._borrower = self._borrower, None
        reader.feed_eof()
        self.unread(await reader.read())

    # What the session says.

    def send(self, reply: bytes) -> None:
        """Add a reply to those that go out next."""
        self._output.append(reply)

    async def flush(self) -> None:
        """Write every reply that is held back, and wait while the client does not read. Raises ClientLeft."""
        self._write()
        while self._is_full:
            self._change = self._loop.create_future()
            await self._change
        if self._is_lost or self.transport is None or self.transport.is_closing():
            raise ClientLeft

    def hang_up(self, last_words: bytes) -> None:
        """Say a last reply and close. A client that has not even read the replies before it is cut off."""
        assert self.transport is not None
        # One that is being closed under TLS waits for the client's good-bye, and knows no buffer any more.
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        self.send(last_words)
        self._write()
        self.transport.close()

    async def close(self) -> None:
        """Close our side and wait until the connection is gone."""
        # asyncio's TLS takes a second close for an abort that it then forgets to do.
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
        while not self._is_lost:
            self._change = self._loop.create_future()
            await self._change

    # Inside.

    def _go_on(self) -> None:
        """Let the step see what is here, unless the client does not read what it was told."""
        if self._step is None or self._found is None or self._found.done() or self._is_full or self._is_called_again:
            return
        if self._is_lost:
            self._found.set_exception(ClientLeft())
            return
        try:
            found = self._step()
        except Exception as error:
            # Whoever waits for the step has it.
            self._found.set_exception(error)
            return
        if found is not None:
            self._found.set_result(found)
        else:
            self._wait_on()
        if self._is_held and len(self._input) <= _MOST_WAITING:
            self._read_on()

    def _wait_on(self) -> None:
        self._write()
        if self._has_ended and not self._is_called_again and not self._is_full and self._found is not None:
            self._found.set_exception(ClientLeft())

    def _take_turn(self) -> None:
        self._is_called_again = False
        self._go_on()

    def _next_chunk(self, most: int | None) -> bytes | None:
        if not self._input:
            return None
        if most is None or most >= len(self._input):
            return self.take_all()
        chunk = bytes(self._input[:most])
        del self._input[:most]
        return chunk

    def _write(self) -> None:
        if not self._output:
            return
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(self._output))
        self._output.clear()

    def _read_on(self) -> None:
        self._is_held = False
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _tell_change(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)
