"""One line to a server: aiosmtplib's protocol, with what a relay needs beyond it.

All that touches aiosmtplib's inside is in this file. What is added, and why:

- An answer that nobody asked for is kept, not dropped: a 421 between two commands says why the line is closed, and
  anything else means that answers and commands no longer belong together.
- DATA in pieces, each with its own deadline, with a gate before the final dot. aiosmtplib's own writes the whole
  message at once, and its timeout counts the upload too.
- An answer that comes before the final dot ends the upload, and is never taken for the answer to it.

SECURITY: the server may send anything. aiosmtplib bounds a line (8 KiB) and an answer (32 KiB); we bound what comes
unasked, and every wait has a deadline.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import cast

from aiosmtplib.errors import SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from relay.upstream.transfer import Gate, Progress
from relay.upstream.wire import FINAL_DOT

_MOST_UNASKED = 2048


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
        self._is_sending = False
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport. Called by asyncio once."""
        super().connection_made(transport)
        self._set_up(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the server, asked for or not."""
        waiter = self._response_waiter
        if waiter is None or waiter.done() or not self._response_pending:
            self._unasked += data[: _MOST_UNASKED - len(self._unasked)]
            return
        super().data_received(data)
        if self._is_sending and waiter.done():
            self.resume_writing()  # an answer in the middle of the upload: nobody waits for the buffer any more

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits. Called by asyncio once."""
        super().connection_lost(exc)
        self._lost.set()

    @property
    def is_in_step(self) -> bool:
        """Whether the line is open and no answer is left over."""
        return self.is_connected and not self._left_over()

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, where there is one."""
        return self.transport.get_extra_info("ssl_object") if self.transport else None

    async def ask(self, *words: bytes, timeout: float) -> SMTPResponse:  # noqa: ASYNC109  aiosmtplib's own way
        """Send a command and return the answer, with whatever code.

        Raises OutOfStep, SMTPServerDisconnected, SMTPReadTimeoutError, SMTPResponseException (-1: no answer by the
        rules), ValueError for a control character in a word.
        """
        if (unasked := self._take_unasked()) is not None:
            return unasked
        return await self.execute_command(*words, timeout=timeout)

    async def send(self, pieces: Iterable[bytes], *, progress: Progress, chunk: float, final: float) -> SMTPResponse:
        """Send the pieces of a message after 354 and then the final dot, and return the answer to it.

        `chunk` and `final` are seconds for each piece and for the answer; no deadline runs while the gate of
        `progress` is awaited. Raises EarlyAnswer, GateFailed and TimeoutError beside what `ask` raises.
        """
        if self._left_over():
            raise OutOfStep(self._left_over())
        self._is_sending = self._response_pending = True
        last = await self._send_all_but_last(pieces, chunk)
        # Without a gate nothing is awaited from here to the dot: whoever sees that it has not left may still set one.
        if progress.before_final_dot is not None:
            await self._send_piece(last, chunk)
            await _pass(progress.before_final_dot)
            await self._check()
            last = b""
        progress.note_final_dot()
        self._is_sending = False
        self.write(last + FINAL_DOT)
        return await self.read_response(timeout=final)

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
                await self.execute_command(b"QUIT", timeout=within)
            if self.transport is not None:
                self.transport.close()
                await asyncio.wait_for(self._lost.wait(), within)
        except (OSError, SMTPResponseException):
            pass  # it was the last word in any case
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once: nothing that is still to be sent leaves."""
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()

    def _set_up(self, transport: asyncio.BaseTransport) -> None:
        # The next piece waits until the one before has left, so that a deadline measures the server and not a buffer.
        # 1 and not 0: asyncio's TLS compares with ">=", and would wait for ever for less than nothing.
        cast("asyncio.WriteTransport", transport).set_write_buffer_limits(high=1, low=0)

    async def _send_all_but_last(self, pieces: Iterable[bytes], within: float) -> bytes:
        """Return the last piece: in a small message it is the only one, and leaves in one write with the dot."""
        rest = iter(pieces)
        piece = next(rest)
        for following in rest:
            await self._send_piece(piece, within)
            piece = following
        await self._check()
        return piece

    async def _send_piece(self, piece: bytes, within: float) -> None:
        await self._check()
        self.write(piece)
        if self._paused:
            await asyncio.wait_for(self._drain_helper(), within)
        else:
            await asyncio.sleep(0)  # a fast server would take the whole message before anyone else had a turn

    async def _check(self) -> None:
        """Raise EarlyAnswer if the server has answered already, SMTPServerDisconnected if it has gone."""
        waiter = self._response_waiter
        if waiter is not None and waiter.done():
            raise EarlyAnswer(await self.read_response())
        if not self.is_connected:
            raise SMTPServerDisconnected("Connection lost")

    def _left_over(self) -> bytes:
        """What came unasked, white space aside (some servers end a line twice)."""
        return bytes(self._buffer + self._unasked).strip()

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


async def _pass(gate: Gate) -> None:
    try:
        await gate()
    except Exception as error:
        raise GateFailed from error
