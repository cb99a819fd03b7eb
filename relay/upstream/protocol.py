"""The asyncio protocol of one connection: commands out in one write, and for each of them one reply in.

A protocol of our own, because aiosmtplib's knows one command at a time and drops what nobody asked for, while here that
matters: a 421 between two commands says why the connection is closed, and anything else means that replies and commands
no longer belong together (out of step). A reply is read by the letter (RFC 5321 section 4.2).

SECURITY: the server may send anything. A line has at most 8 KiB, a reply at most 500 lines and 32 KiB, what comes
unasked is kept up to 2 KiB, and every wait has a deadline. Whatever is no reply is none: to guess what a server
means is how replies and commands lose their step.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol, TypeAlias, cast

from aiosmtplib.errors import SMTPReadTimeoutError, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from relay.upstream.outcome import Phase

RawReply: TypeAlias = tuple[bytes, bytes]
"""A reply as it came: its code, and its text with LF between the lines. Of most replies only the code is looked at."""

_LONGEST_LINE = 8192
_LONGEST_REPLY = 32 * 1024
_MOST_LINES = 500
_MOST_UNASKED = 2048
# A whole reply of one line behind which others are waited for, or 3xx at the end. All else `take_reply` reads.
_ONE_LINE = re.compile(rb"^((?!421)[245][0-9]{2}|3[0-9]{2}(?=[^\n]*\n\Z)) ([^\r\n]{0,8000})\r\n", re.MULTILINE)
# Three digits, and then a blank, a hyphen where more lines follow, or the end of the line.
_LINE = re.compile(rb"([0-9]{3})(?:([ -])([^\n]*))?\r?\n")
_CODE = re.compile(rb"^([2-5][0-9]{2})(?:[ \r\n]|\Z)", re.MULTILINE)
# What ends a line early would be a command of its own.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_CLOSING = b"421"
# What answers a command that others follow; 3xx is the answer to the last of a group (RFC 2920 section 3.1).
_ANSWERS = frozenset({b"2", b"4", b"5"})


class Watch(Protocol):
    """Where whoever waits sees how far it is."""

    phase: Phase


class OutOfStep(SMTPResponseException):
    """The server said something that nobody asked for; what it says next cannot be trusted to be an answer."""

    def __init__(self, said: bytes) -> None:
        super().__init__(-1, f"unasked: {said[:200]!r}")


class EarlyAnswer(Exception):
    """The server answered while the message was still on its way to it."""

    def __init__(self, reply: RawReply) -> None:
        super().__init__(repr(reply))
        self.reply = reply


class Link(asyncio.Protocol):
    """The protocol of one connection, unconnected at first. After any exception that it raises only `abort` is of use.

    `replies` are those to what was sent last. `is_in_step`: the connection is open and no reply is left over.
    """

    def __init__(self) -> None:
        self.replies: list[RawReply] = []
        self.is_in_step = False
        self.is_paused = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._unasked = bytearray()
        self._awaited = 0  # replies that are still to come; then the waiter is woken
        self._waiter: asyncio.Future[None] = self._loop.create_future()
        self._phases: Sequence[Phase] = ()
        self._watch: Watch | None = None
        self._go_on: Callable[[], bool] | None = None
        self._patience = inf  # seconds for each reply
        self._deadline = inf  # for the next one, by the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf
        self._drained = asyncio.Event()
        self._lost = asyncio.Event()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport, and expect the greeting."""
        self._set_up(cast("asyncio.Transport", transport))
        self.is_in_step = True
        self.expect()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the server, asked for or not."""
        awaited = self._awaited
        if not awaited:
            if data.strip():  # some servers end a line twice
                self._unasked += data[: _MOST_UNASKED - len(self._unasked)]
                self.is_in_step = False
            return
        if not self._buffer:
            # Nearly always whole replies of one line each have come, and no more of them than are awaited.
            found = _ONE_LINE.findall(data)
            number = len(found)
            is_all = 0 < number <= awaited and data.count(b"\n") == number and data[-1:] == b"\n"
            if is_all and (number == awaited or found[-1][0][:1] != b"3"):
                self.replies += found
                self._awaited = awaited - number
                if number < awaited or self.is_paused:
                    self._read_on()
                    return
                if self._watch is not None:
                    self._watch.phase, self._watch = self._phases[-1], None
                go_on, self._go_on = self._go_on, None
                if not (self._waiter.done() or (go_on is not None and go_on())):
                    self._waiter.set_result(None)
                return
        self._buffer += data
        if b"\n" not in data and len(self._buffer) <= _LONGEST_REPLY:
            return  # no line has ended
        try:
            self._read_replies()
        except SMTPResponseException as error:
            self._fail(error)

    def pause_writing(self) -> None:
        """What was written has not left."""
        self.is_paused = True
        self._drained.clear()

    def resume_writing(self) -> None:
        """All that was written has left."""
        self.is_paused = False
        self._drained.set()

    def eof_received(self) -> bool:
        """Close: whoever says nothing more answers nothing more."""
        self.is_in_step = False
        self._fail(SMTPServerDisconnected("Unexpected EOF received"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        error = SMTPServerDisconnected("Connection lost")
        error.__cause__ = exc
        self._end()
        self._fail(error)

    # What others see

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def left_over(self) -> str:
        """What the server said that nobody asked for; "" where that is nothing, or the 421 of a server that closes."""
        said = self._left_over()
        return "" if said.startswith(_CLOSING) else said[:200].decode("utf-8", "backslashreplace")

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, where there is one."""
        return self._transport.get_extra_info("ssl_object") if self._transport else None

    # Commands and replies

    def expect(self) -> None:
        """Take what comes from now on for the reply to what is sent next. Raises as `check_open`."""
        self.check_open()
        self.replies = []
        self._awaited = 1
        self._deadline = inf
        self._waiter = self._loop.create_future()

    def check_open(self) -> None:
        """Raise OutOfStep where the server said something unasked, SMTPServerDisconnected where it has gone."""
        if not self.is_in_step:
            said = self._left_over()
            raise OutOfStep(said) if said else SMTPServerDisconnected("Connection lost")

    def check_quiet(self) -> None:
        """Raise EarlyAnswer if the server has answered what is not sent yet, SMTPServerDisconnected if it has gone."""
        if self._waiter.done():
            self._waiter.result()
            raise EarlyAnswer(self.replies[-1])
        if not self.is_open:
            raise SMTPServerDisconnected("Connection lost")

    def write(self, data: bytes) -> None:
        """Send octets. Raises SMTPServerDisconnected."""
        if self._transport is None or self._transport.is_closing():
            raise SMTPServerDisconnected("Connection lost")
        self._transport.write(data)

    def send(
        self,
        data: bytes,
        patience: float,
        number: int = 1,
        phases: Sequence[Phase] = (),
        watch: Watch | None = None,
        go_on: Callable[[], bool] | None = None,
    ) -> asyncio.Future[None]:
        """Send so many commands, whole lines, in one write; what is returned is done when all replies are there.

        `patience` is seconds for each reply. `watch` is told the phase of the command that is waited for, one of
        `phases`. Fewer replies than commands come where nothing is worth waiting for behind the last: after a 421 the
        server closes (RFC 5321 section 3.8), and after an answer to no command they are not in step.

        `go_on` may be asked as soon as all replies are there: where it calls `follow` and returns True, what is
        returned is done with the reply to that.

        Raises OutOfStep and SMTPServerDisconnected; the future raises those, SMTPReadTimeoutError and
        SMTPResponseException (-1: no reply by the rules).
        """
        self.replies = []
        self._waiter = self._loop.create_future()
        if not self.is_in_step and self._was_said_unasked():
            return self._waiter
        self._awaited = number
        self._phases = phases
        self._watch = watch
        self._go_on = go_on
        if self._transport is None:
            raise SMTPServerDisconnected("Connection lost")
        self._transport.write(data)
        self._wait(patience)
        return self._waiter

    def follow(self, data: bytes, patience: float) -> None:
        """Send what has one reply, behind the replies to what was sent before (`send`, `go_on`)."""
        self.replies = []
        self._awaited = 1
        if self._transport is not None:  # else `connection_lost` has told it
            self._transport.write(data)
        self._wait(patience)

    def reply(self, patience: float) -> asyncio.Future[None]:
        """Return what is done when the reply is there that `expect` announced."""
        self._wait(patience)
        return self._waiter

    async def ask(self, line: bytes, patience: float) -> SMTPResponse:
        """Send one command, without its line end, and return its reply, with whatever code. Raises as `send`.

        And ValueError for a control character in a command.
        """
        check_line(line)
        await self.send(line + b"\r\n", patience)
        self.check_step()
        return response_of(self.replies[0])

    async def greeting(self, patience: float) -> SMTPResponse:
        """Return what the server says first. Raises as `ask`."""
        await self.reply(patience)
        return response_of(self.replies[0])

    def check_step(self) -> None:
        """Raise OutOfStep where more was answered than asked; a 421 may come at any moment, and ends what is read."""
        if self.is_in_step or self.replies[-1][0] == _CLOSING:
            return
        said = self._left_over()
        if said and not said.startswith(_CLOSING):
            raise OutOfStep(said)

    def check_final_step(self) -> None:
        """Raise OutOfStep where what follows the answer to the final dot says something else about the message.

        One of them is an answer too many, and nobody can tell which. That both accept it makes no difference.
        """
        said = self._left_over()
        if not said or said.startswith(_CLOSING):
            return
        codes = [found[1] for found in _CODE.finditer(said)]
        if self.replies[0][0][:1] != b"2" or any(code[:1] != b"2" and code != _CLOSING for code in codes):
            raise OutOfStep(said)

    async def drain(self, within: float) -> None:
        """Wait until what was written has left, or an answer has come before that. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while self.is_paused and not self._waiter.done():
                await self._drained.wait()

    # Its protection and its end

    async def secure(self, context: ssl.SSLContext, host: str, within: float) -> None:
        """STARTTLS and the handshake, by aiosmtplib: it drops what came in clear behind the 220 (RFC 3207 section 4.2).

        Raises SMTPResponseException with the server's words if it will not, ssl.SSLError, OSError.
        """
        if self._transport is None:
            raise SMTPServerDisconnected("Connection lost")
        upgrade = SMTPProtocol(self._loop, connection_lost_callback=lambda _: self._end())
        upgrade.connection_made(self._transport)
        self._transport.set_protocol(upgrade)
        await upgrade.start_tls(context, server_hostname=host, timeout=within)
        secured = cast("asyncio.Transport", upgrade.transport)
        secured.set_protocol(self)
        self._buffer.clear()
        self._unasked.clear()
        self.is_in_step = True
        self._set_up(secured)

    async def close(self, within: float) -> None:
        """Say QUIT, close, and be closed within so many seconds of each. Raises nothing but CancelledError."""
        try:
            if self.is_in_step:
                await self.ask(b"QUIT", within)
            if self._transport is not None:
                self._transport.close()
                await asyncio.wait_for(self._lost.wait(), within)
        except (OSError, SMTPResponseException):
            pass  # it was the last word in any case
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once: nothing that is still to be sent leaves."""
        self._watch = self._go_on = None  # they may hold a whole message
        self._buffer.clear()
        self._unasked.clear()
        self.is_in_step = False
        if self._transport is not None:
            self._transport.abort()

    def _set_up(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # The next piece waits until the one before has left, so that a deadline measures the server and not a buffer.
        # 1 and not 0: asyncio's TLS compares with ">=", and would wait for ever for less than nothing.
        transport.set_write_buffer_limits(high=1, low=0)

    def _end(self) -> None:
        self._transport = None
        self.is_in_step = False
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        self._lost.set()

    # Reading

    def _read_replies(self) -> None:
        """Take all replies that have come whole. Raises SMTPResponseException for what is none."""
        before = self._awaited
        while self._awaited and b"\n" in self._buffer:
            if self._buffer.startswith((b"\r", b"\n")):  # some servers end a line twice
                self._buffer = self._buffer.lstrip(b"\r\n")
                continue
            reply = take_reply(self._buffer)
            if reply is None:
                break
            self.replies.append(reply)
            code = reply[0]
            self._awaited = self._awaited - 1 if code[:1] in _ANSWERS and code != _CLOSING else 0
        if self._awaited and len(self._buffer) > _LONGEST_REPLY:
            raise _too_long()
        if self._awaited < before:
            self._read_on()

    def _read_on(self) -> None:
        """Replies have come: wake who waits where they are all, and give the next one its time where not."""
        number = len(self.replies)
        if self._watch is not None:
            self._watch.phase = self._phases[number if self._awaited else number - 1]
        if not self._awaited:
            self._watch = self._go_on = None
            if self._buffer:
                self.is_in_step = self.is_in_step and not self._left_over()
            if not self._waiter.done():
                self._waiter.set_result(None)
            if self.is_paused:
                self._drained.set()  # an answer in the middle of the upload: nobody waits for the buffer any more
            return
        self._wait(self._patience)

    def _fail(self, error: Exception) -> None:
        if self._watch is not None:
            self._watch.phase = self._phases[len(self.replies)]
        self._awaited = 0
        self._watch = self._go_on = None
        self._drained.set()
        if not self._waiter.done():
            self._waiter.set_exception(error)
            self._waiter.exception()  # seen: nobody may ever wait for it

    # Deadlines

    def _wait(self, patience: float) -> None:
        """Give the next reply so many seconds."""
        self._patience = patience
        self._deadline = deadline = self._loop.time() + patience
        # One timer serves many replies: where it rings too early, it is set anew. To make and end one for each costs
        # more than all else that a wait needs.
        if self._rings_at > deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, inf
        if not self._awaited or self._deadline == inf or self._transport is None:
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._fail(SMTPReadTimeoutError("Timed out waiting for server response"))

    # What nobody asked for

    def _left_over(self) -> bytes:
        """What came unasked, white space aside (some servers end a line twice)."""
        return bytes(self._buffer + self._unasked).strip() if self._buffer or self._unasked else b""

    def _was_said_unasked(self) -> bool:
        """Take the 421 that the server said of its own accord (RFC 5321 section 3.8) for the reply, where there is one.

        Raises OutOfStep for other words, SMTPServerDisconnected where there are none.
        """
        said = self._left_over()
        if not said.startswith(_CLOSING):
            raise OutOfStep(said) if said else SMTPServerDisconnected("Connection lost")
        self.replies.append((_CLOSING, said.partition(b"\n")[0][4:].strip()))
        self._waiter.set_result(None)
        return True


def check_line(line: bytes) -> None:
    """Raise ValueError for a command that holds a control character. SECURITY: see above."""
    if _CONTROL.search(line):
        raise ValueError("a command holds a control character")


def response_of(reply: RawReply) -> SMTPResponse:
    """Return a reply with its code as a number and its text decoded."""
    return SMTPResponse(int(reply[0]), reply[1].decode("utf-8", "surrogateescape"))


def take_reply(buffer: bytearray) -> RawReply | None:
    """Take the first reply out of the buffer, None where its last line is still to come.

    Raises SMTPResponseException (-1) for what is no reply, such as lines with different codes (RFC 5321 section 4.2.1).
    """
    texts: list[bytes] = []
    code, start = b"", 0
    while (end := buffer.find(b"\n", start) + 1) > 0:
        line = _LINE.fullmatch(buffer, start, end)
        if line is None:
            raise _no_reply("Malformed SMTP response line", buffer[start:end])
        if end - start > _LONGEST_LINE or len(texts) == _MOST_LINES:
            raise _too_long()
        if texts and line[1] != code:
            raise _no_reply(f"one response with two codes, {code.decode()} and", buffer[start:end])
        code = bytes(line[1])
        texts.append((line[3] or b"").strip(b" \t\r"))
        start = end
        if line[2] != b"-":
            del buffer[:end]
            text = b"\n".join(texts)
            if len(text) > _LONGEST_REPLY:
                raise _too_long()
            return code, text
    return None


def _too_long() -> SMTPResponseException:
    return SMTPResponseException(-1, "Response too long")


def _no_reply(what: str, line: bytearray) -> SMTPResponseException:
    return SMTPResponseException(-1, f"{what}: {bytes(line[:200])!r}")
