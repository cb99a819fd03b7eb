"""One line to a server: aiosmtplib's protocol, with what a relay needs beyond it.

All that touches aiosmtplib's inside is in this file. What is added, and why:

- Several commands in one write, and an answer for each (RFC 2920). aiosmtplib knows one command at a time.
- An answer that nobody asked for is kept, not dropped: a 421 between two commands says why the line is closed, and
  anything else means that answers and commands no longer belong together.
- DATA in pieces, each with its own deadline, with a gate before the final dot. aiosmtplib's own writes the whole
  message at once, and its timeout counts the upload too.
- An answer that comes before the final dot ends the upload, and is never taken for the answer to it.

SECURITY: the server may send anything. aiosmtplib bounds a line (8 KiB), we bound an answer (32 KiB) and what comes
unasked, and every wait has a deadline.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from math import inf
from typing import TypeAlias, cast

from aiosmtplib.errors import SMTPReadTimeoutError, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import COMMAND_INJECTION_REGEX, MAX_RESPONSE_LENGTH, SMTPProtocol
from aiosmtplib.response import SMTPResponse

from relay.upstream.reply_parser import parse_reply
from relay.upstream.transfer import Gate, Progress

Heard: TypeAlias = Callable[[SMTPResponse], bool]
"""Takes an answer when it comes, and tells whether those behind it are waited for. Raises nothing."""

_MOST_UNASKED = 2048
_CODE = re.compile(rb"^([2-5][0-9]{2})(?:[ \r\n]|\Z)", re.MULTILINE)


class OutOfStep(SMTPResponseException):
    """The server said something that nobody asked for; what it says next cannot be trusted to be an answer."""

    def __init__(self, said: bytes) -> None:
        super().__init__(-1, f"unasked: {said[:200]!r}")


class EarlyAnswer(Exception):
    """The server answered while the message was still on its way to it."""

    def __init__(self, response: SMTPResponse) -> None:
        super().__init__(str(response))
        self.response = response


class GateFailed(Exception):
    """What was to be done before the final dot raised (its exception is the cause); the dot was not sent."""


class Link(SMTPProtocol):
    """The protocol of one connection. After any exception that it raises only `abort` is of use."""

    def __init__(self) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._unasked = bytearray()
        self._awaited = 0  # answers that are still to come; the last one, or an error, goes to _response_waiter
        self._heard: Heard | None = None
        self._patience = 0.0  # seconds for each answer
        self._deadline = inf  # for the next one, by the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self._is_sending = False
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport, and expect the greeting. Called by asyncio once."""
        super().connection_made(transport)
        self._expect(1)
        self._set_up(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the server, asked for or not."""
        if not self._awaited:
            self._unasked += data[: _MOST_UNASKED - len(self._unasked)]
            return
        self._buffer += data
        if b"\n" not in data and len(self._buffer) <= MAX_RESPONSE_LENGTH:
            return  # no line has ended
        try:
            self._read_answers()
        except SMTPResponseException as error:
            self._fail(error)
        if self._is_sending and not self._awaited:
            self.resume_writing()  # an answer in the middle of the upload: nobody waits for the buffer any more

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits. Called by asyncio once."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        self._lost.set()

    @property
    def is_in_step(self) -> bool:
        """Whether the line is open and no answer is left over."""
        return self.is_connected and not self._left_over()

    @property
    def left_over(self) -> str:
        """What the server said that nobody asked for; "" where that is nothing, or the 421 of a server that closes."""
        said = self._left_over()
        return "" if said.startswith(b"421") else said[:200].decode("utf-8", "backslashreplace")

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, where there is one."""
        return self.transport.get_extra_info("ssl_object") if self.transport else None

    async def ask(self, *lines: bytes, heard: Heard | None = None, timeout: float) -> SMTPResponse:  # noqa: ASYNC109
        """Send commands (without their line ends) in one write, and return the last answer, with whatever code.

        `heard` is given each answer when it comes, in the order of the commands. `timeout` is seconds for each answer.
        Raises OutOfStep, SMTPServerDisconnected, SMTPReadTimeoutError, SMTPResponseException (-1: no answer by the
        rules), ValueError for a control character in a command.
        """
        # SECURITY: what ends a line early would be a command of its own.
        if any(map(COMMAND_INJECTION_REGEX.search, lines)):
            raise ValueError("a command holds a control character")
        if (unasked := self._take_unasked()) is not None:
            if heard is not None:
                heard(unasked)
            return unasked
        self._expect(len(lines), heard)
        self.write(b"\r\n".join(lines) + b"\r\n")
        response = await self.read_response(timeout)
        if (self._buffer or self._unasked) and response.code != 421:  # behind a 421 nothing is read
            self._check_left_over()
        return response

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:  # noqa: ASYNC109
        """Wait for what is expected, or for one answer, and return the last. Raises as `ask`."""
        if self._response_waiter is None:
            self._expect(1)
        waiter = self._response_waiter
        assert waiter is not None
        assert timeout is not None, "a wait without a deadline"
        self._patience = timeout
        self._set_deadline()
        try:
            return await waiter
        finally:
            self._awaited = 0
            self._heard = self._response_waiter = None

    async def send(
        self,
        pieces: Iterable[bytes] | AsyncIterator[bytes],
        end: bytes,
        *,
        progress: Progress,
        chunk: float,
        final: float,
    ) -> SMTPResponse:
        """Send the pieces of a message and then its `end`, such as the final dot, and return the answer to it.

        `chunk` and `final` are seconds for each piece and for the answer; no deadline runs while the gate of
        `progress` is awaited. Raises EarlyAnswer, GateFailed and TimeoutError beside what `ask` raises.
        """
        if left_over := self._left_over():
            raise OutOfStep(left_over)
        self._expect(1)
        self._is_sending = True
        last = await self._send_all_but_last(pieces, chunk)
        # Without a gate nothing is awaited from here to the dot: whoever sees that it has not left may still set one.
        if progress.before_final_dot is not None:
            await self._send_piece(last, chunk)
            await _pass(progress.before_final_dot)
            self._check()
            last = b""
        progress.note_final_dot()
        self._is_sending = False
        self.write(last + end)
        response = await self.read_response(final)
        if self._buffer or self._unasked:
            self._check_final(response)
        return response

    async def secure(self, context: ssl.SSLContext, *, host: str, timeout: float) -> SMTPResponse:  # noqa: ASYNC109
        """STARTTLS and the handshake. What the server sent in clear behind its 220 is dropped (RFC 3207 section 4.2).

        Raises SMTPResponseException with the server's words if it will not, ssl.SSLError, OSError.
        """
        response = await self.start_tls(context, server_hostname=host, timeout=timeout)
        self._unasked.clear()
        if self.transport is not None:
            self._set_up(self.transport)
        return response

    async def close(self, *, within: float) -> None:
        """Say QUIT, close, and be closed within so many seconds of each. Raises nothing but CancelledError."""
        try:
            if self.is_in_step:
                await self.ask(b"QUIT", timeout=within)
            if self.transport is not None:
                self.transport.close()
                await asyncio.wait_for(self._lost.wait(), within)
        except (OSError, SMTPResponseException):
            pass  # it was the last word in any case
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once: nothing that is still to be sent leaves."""
        self._heard = None  # it may hold a whole message
        self._buffer.clear()
        self._unasked.clear()
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()

    def _set_up(self, transport: asyncio.BaseTransport) -> None:
        # The next piece waits until the one before has left, so that a deadline measures the server and not a buffer.
        # 1 and not 0: asyncio's TLS compares with ">=", and would wait for ever for less than nothing.
        cast("asyncio.WriteTransport", transport).set_write_buffer_limits(high=1, low=0)

    # Answers

    def _expect(self, answers: int, heard: Heard | None = None) -> None:
        """Take what comes from now on for answers. To be called before the commands are written."""
        self._awaited = answers
        self._heard = heard
        self._deadline = inf
        self._response_waiter = self._loop.create_future()

    def _read_answers(self) -> None:
        """Hand out all answers that have come whole. Raises SMTPResponseException for what is none."""
        before = self._awaited
        while self._awaited and b"\n" in self._buffer:
            if self._buffer.startswith((b"\r", b"\n")):  # some servers end a line twice
                self._buffer = self._buffer.lstrip(b"\r\n")
                continue
            response = parse_reply(self._buffer)
            if response is None:
                break
            if len(response.message) > MAX_RESPONSE_LENGTH:
                raise _too_long()
            self._take(response)
        if self._awaited and len(self._buffer) > MAX_RESPONSE_LENGTH:
            raise _too_long()
        if 0 < self._awaited < before:
            self._set_deadline()

    def _take(self, response: SMTPResponse) -> None:
        goes_on = self._heard(response) if self._heard is not None else False
        self._awaited = self._awaited - 1 if goes_on else 0
        waiter = self._response_waiter
        if not self._awaited and waiter is not None and not waiter.done():
            waiter.set_result(response)

    def _fail(self, error: Exception) -> None:
        self._awaited = 0
        waiter = self._response_waiter
        if waiter is not None and not waiter.done():
            self._set_response_exception(waiter, error)

    def _set_deadline(self) -> None:
        """Give the next answer its time."""
        self._deadline = self._loop.time() + self._patience
        # One timer serves many answers: where it rings too early, it is set anew. To make and end one for each costs
        # more than all else that a wait needs.
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if not self._awaited or self._deadline == inf or self.transport is None:
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._fail(SMTPReadTimeoutError("Timed out waiting for server response"))

    # The message

    async def _send_all_but_last(self, pieces: Iterable[bytes] | AsyncIterator[bytes], within: float) -> bytes:
        """Return the last piece: in a small message it is the only one, and leaves in one write with the dot."""
        if isinstance(pieces, AsyncIterator):
            return await self._send_as_it_comes(pieces, within)
        rest = iter(pieces)
        piece = next(rest)
        for following in rest:
            await self._send_piece(piece, within)
            piece = following
        self._check()
        return piece

    async def _send_as_it_comes(self, pieces: AsyncIterator[bytes], within: float) -> bytes:
        async for piece in pieces:
            await self._send_piece(piece, within)
        self._check()
        return b""

    async def _send_piece(self, piece: bytes, within: float) -> None:
        self._check()
        self.write(piece)
        if self._paused:
            async with asyncio.timeout(within):
                await self._drain_helper()
        else:
            await asyncio.sleep(0)  # a fast server would take the whole message before anyone else had a turn

    def _check(self) -> None:
        """Raise EarlyAnswer if the server has answered already, SMTPServerDisconnected if it has gone."""
        waiter = self._response_waiter
        if waiter is not None and waiter.done():
            raise EarlyAnswer(waiter.result())
        if not self.is_connected:
            raise SMTPServerDisconnected("Connection lost")

    # What nobody asked for

    def _left_over(self) -> bytes:
        """What came unasked, white space aside (some servers end a line twice)."""
        return bytes(self._buffer + self._unasked).strip() if self._buffer or self._unasked else b""

    def _check_left_over(self) -> None:
        """Raise OutOfStep where more was answered than asked; a 421 may come at any moment."""
        said = self._left_over()
        if said and not said.startswith(b"421"):
            raise OutOfStep(said)

    def _check_final(self, response: SMTPResponse) -> None:
        """Raise OutOfStep where what follows the answer to the final dot says something else about the message.

        One of them is an answer too many, and nobody can tell which. That both accept it makes no difference.
        """
        said = self._left_over()
        if not said or said.startswith(b"421"):
            return
        codes = [int(found[1]) for found in _CODE.finditer(said)]
        if response.code // 100 != 2 or any(code // 100 != 2 and code != 421 for code in codes):
            raise OutOfStep(said)

    def _take_unasked(self) -> SMTPResponse | None:
        """Return the 421 that the server said of its own accord (RFC 5321 section 3.8). Raises OutOfStep for others."""
        said = self._left_over()
        if said.startswith(b"421"):
            text = said.partition(b"\n")[0][4:].strip()
            return SMTPResponse(421, text.decode("utf-8", "surrogateescape"))
        if said:
            raise OutOfStep(said)
        self._buffer.clear()
        self._unasked.clear()
        return None


def _too_long() -> SMTPResponseException:
    return SMTPResponseException(-1, "Response too long")


async def _pass(gate: Gate) -> None:
    try:
        await gate()
    except Exception as error:
        raise GateFailed from error
