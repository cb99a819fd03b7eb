"""One SMTP session: from the first octet of a connection to its good-bye.

Commands are answered where their octets come in (`Session._work_off`); the session's task runs for what has to wait.
Reading commands, addresses and data and replying to faults are ours and not aiosmtpd's: that decodes encoded words in
addresses, takes seconds for many short lines, and tells exception texts.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

from relay import log
from relay.listener import replies
from relay.listener.commands import LONGEST_LOGIN_LINE, CommandFault, parse_bdat, split_command
from relay.listener.connection import Connection, TlsFailed
from relay.listener.data import read_data
from relay.listener.dialog import Answer, Dialog
from relay.listener.entrance import Entrance, House
from relay.listener.foresight import Foresight
from relay.listener.intake import Intake
from relay.listener.pace import Commands
from relay.listener.peer import Origin, origin_of
from relay.listener.ports import Submission
from relay.listener.proxy import ProxyFault, read_header
from relay.listener.wire import ClientLeft, LineTooLong
from relay.mail.content import Content, ContentRefused
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply

# A page in a browser can make it send these to a port of this machine; what would follow is for the attacker to say.
_HTTP_VERBS: Final = frozenset(
    [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"PRI"]
)
_LAST_WORDS: Final = (221, 421)  # RFC 5321 section 4.2.1: the server closes the connection after either
_CONTENT: Final = (b"DATA", b"")  # not the command: what comes after it
_TAKES_TIME: Final = frozenset([b"BDAT", b"AUTH", b"STARTTLS"])
_MOST_AT_ONCE: Final = 64  # commands, then the other sessions get a turn
_PROXY_BUFFER: Final = 64 * 1024  # octets; the longest header is hardly longer
_Read = TypeVar("_Read", Content, Content | None)


class Session(Connection):
    """The server's side of one connection."""

    def __init__(self, house: House, entrance: Entrance) -> None:
        super().__init__(house.tolerance)
        self._house = house
        self._desk = house.desk
        self._limits = house.limits
        self._telling = house.telling
        self._entrance = entrance
        self._commands = Commands(house.tolerance.most_commands, self.loop.time())
        self._errors = 0
        self._rest = 0.0  # seconds that the client has to wait before its next command
        self._is_over = False
        self._begun: tuple[Envelope, str, Intake] | None = None  # the message that DATA has begun, until it comes
        self._is_in_data = False
        self._is_stopping = False
        self._stops_at = 0.0
        self._answer_at: float | None = None  # when the last reply is due, as soon as we hurry
        self._is_answered = False  # whether a message has its reply, since we stop
        self._submission: Submission | None = None
        self._pausing: asyncio.Event | None = None  # set when the connection is gone meanwhile

    # What the crowd asks of a session, beside its task and `abort`.

    @property
    def is_handing_over(self) -> bool:
        """Whether a message is on its way from us."""
        return self._submission is not None

    def stop(self) -> None:
        """End soon: now where the client is silent, else when its message has the reply or it falls silent.

        Who is just about to hand over a message need not come again.
        """
        self._is_stopping = True
        self._is_answered = False
        self._stops_at = self.loop.time() + self._tolerance.farewell
        self._stop_in_a_lull()

    def hurry(self, seconds: float) -> None:
        """Answer within so many seconds, whatever is under way."""
        self._answer_at = self.loop.time() + seconds
        if self._submission is not None:
            self._submission.hurry(seconds)

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody is there any more. A message that is being handed over hears of it, and goes on."""
        super().connection_lost(error)
        if self._pausing is not None:
            self._pausing.set()
        if self._submission is not None:
            self._submission.client_left()

    def _stop_in_a_lull(self) -> None:
        if self.transport is None:
            return
        now = self.loop.time()
        rest = min(self._wire.heard_at + self._tolerance.lull, self._stops_at) - now
        if self._is_in_data:
            rest = self._tolerance.lull
        if rest > 0:
            self.loop.call_later(rest, self._stop_in_a_lull)
        else:
            self.hang_up(bytes(replies.STOPPING))

    # From the connection to the greeting.

    async def _handle_client(self) -> None:
        try:
            await self._admit()
            await self._wire.flush()
        except ClientLeft:
            pass
        except Exception:
            # The last net of a connection: whatever went wrong here ends this session and no other.
            log.broken("a session ended by a fault", exc_info=True)
        finally:
            await self._wire.close()
            self._house.crowd.leave(self)

    async def _admit(self) -> None:
        self._telling.connected()
        assert self._wire.transport is not None
        self._origin = origin_of(self._wire.transport)
        self._client = self._entrance.gate.client_of(self._origin)
        refusal = self._house.crowd.enter(self)
        if refusal is not None:
            self._turn_away("connect", refusal)
        elif await self._is_recognized() and (not self._entrance.is_tls_first or await self._protect_first()):
            self._wire.send(bytes(replies.greeting(self._desk.hostname)))
            self._begin_dialog()
            try:
                await self._converse()
            finally:
                self._dialog.reset()

    async def _is_recognized(self) -> bool:
        """Find out whom a proxy speaks for, and count the client; False where it was turned away."""
        try:
            if self._entrance.gate.is_proxy(self._origin):
                proxy = self._origin
                behind = await self._read_proxy_header()
                if behind is None and self._house.crowd.is_leaving:
                    # Its check: it is to send the next clients to another.
                    self._turn_away("PROXY", replies.STOPPING)
                    return False
                self._origin = behind or proxy
                self._client = self._entrance.gate.client_of(self._origin)
        except ProxyFault as fault:
            self._turn_away("PROXY", replies.NO_PROXY_HEADER, reason=str(fault))
            return False
        refusal = self._house.crowd.recognize(self, self._client)
        if refusal is not None:
            self._turn_away("connect", refusal)
        return refusal is None

    async def _read_proxy_header(self) -> Origin | None:
        reader = self._wire.lend(_PROXY_BUFFER)
        try:
            return await read_header(reader, self._tolerance.proxy_seconds)
        finally:
            await self._wire.take_back()

    def _turn_away(self, at: str, refusal: Reply, **facts: str) -> None:
        self._telling.refused(self._client.name, at, refusal, **facts)
        # Whoever waits for TLS could not read it.
        if not self._entrance.is_tls_first:
            self._wire.send(bytes(refusal))

    async def _protect_first(self) -> bool:
        return await self._protect(self.unread())

    async def _protect(self, unread: bytes = b"") -> bool:
        """Put the connection under TLS; False where that failed, and it is gone."""
        assert self._entrance.certificate is not None
        try:
            await self.begin_tls(self._entrance.certificate.context(), unread)
        except TlsFailed as failure:
            self._telling.unprotected(self._client.name, str(failure))
            return False
        if version := self.tls_version:  # else the client has left already
            self._telling.protected(version)
        return True

    def _begin_dialog(self) -> None:
        """From here on we can speak; what was said before TLS is forgotten (RFC 3207 section 4.2)."""
        self._is_mute = False
        dialog = Dialog(self._client, self._desk, self._limits)
        dialog.is_tls = self.is_protected
        dialog.can_starttls = self._entrance.certificate is not None and not dialog.is_tls
        dialog.may_log_in = self._entrance.gate.may_log_in(self._origin, is_tls=dialog.is_tls)
        self._dialog = dialog

    # The conversation.

    async def _converse(self) -> None:
        while not self._is_over:
            command = await self._wire.until(self._work_off)
            if command:
                answer = await self._answer_in_time(*command)
                self._say(answer)
                if answer == replies.READY_FOR_TLS:
                    await self._start_tls()
            if self._rest:
                await self._pause(self._rest)
                self._rest = 0.0

    def _work_off(self) -> tuple[bytes, bytes] | tuple[()] | None:
        """Answer the commands that are here, for as long as none of them needs the session's task.

        Return verb and argument of one that takes its time, () where the task has to rest or to end, and None where
        more has to come first. A flood of commands must not stop the other sessions.
        """
        for _ in range(_MOST_AT_ONCE):
            if self._begun is not None:
                return _CONTENT if self._wire.has_input else None
            try:
                line = self._wire.next_line(LONGEST_LOGIN_LINE)
            except LineTooLong:
                self._say(self._counted(replies.LINE_TOO_LONG))
            else:
                if line is None:
                    return None
                answer = self._answer(line)
                if answer is None:
                    return split_command(line)
                self._say(answer)
            if self._is_over or self._rest:
                return ()
        self._wire.call_again()
        return None

    def _say(self, answer: Answer) -> None:
        """Send an answer; take note if it is the last one, and of the time that the client has to wait for the next."""
        self._wire.send(bytes(answer))
        if answer is replies.START_DATA:  # the end of the message has the answer that counts
            return
        self._is_over = isinstance(answer, Reply) and answer.code in _LAST_WORDS
        if self._is_stopping and self._is_answered and not self._is_over:
            self._wire.send(bytes(replies.STOPPING))
            self._is_over = True
        self._rest = self._commands.pause(self.loop.time())

    async def _start_tls(self) -> None:
        # Reading pauses before our 220 leaves: what is here by then came in plain and is dropped, what comes later
        # must be TLS (RFC 3207 section 4.2; CVE-2011-0411).
        self.pause()
        await self._wire.flush()
        self._dialog.reset()
        if not await self._protect():
            raise ClientLeft
        self._begin_dialog()

    def _answer(self, line: bytes) -> Answer | None:
        """Return the answer to a command; None for one that takes its time."""
        verb = b""
        try:
            verb, argument = split_command(line)
            if verb in _TAKES_TIME:
                return None
            if verb in _HTTP_VERBS:
                return self._refused(verb, replies.NOT_HTTP)
            answer = self._begin_data(argument) if verb == b"DATA" else self._dialog.answer(verb, argument)
        except Exception as error:
            return self._failed(verb, error)
        self._wire.heard_at = self.loop.time()
        return answer

    async def _answer_in_time(self, verb: bytes, argument: bytes) -> Answer:
        try:
            answer = await self._obey(verb, argument)
        except ClientLeft:
            raise
        except Exception as error:
            return self._failed(verb, error)
        self._wire.heard_at = self.loop.time()
        return answer

    async def _obey(self, verb: bytes, argument: bytes) -> Answer:
        match verb:
            case b"DATA":
                return await self._data()
            case b"BDAT":
                return await self._chunk(argument)
            case b"AUTH":
                return await self._log_in(argument)
        return self._dialog.answer(verb, argument)

    def _failed(self, verb: bytes, error: Exception) -> Reply:
        """Return the answer to a command that could not be obeyed."""
        if isinstance(error, CommandFault):
            return self._refused(verb, error.reply)
        # Ours to mend, not the client's: it hears nothing of the cause and may try again.
        log.broken("a command could not be answered", exc_info=error)
        self._dialog.reset()
        return replies.INTERNAL_FAULT

    def _refused(self, verb: bytes, reply: Reply) -> Reply:
        # What is no verb may be anything, a password that came at the wrong moment among it.
        at = "unknown" if reply == replies.UNKNOWN_COMMAND else verb.decode("ascii", "replace")[:16]
        self._telling.refused(self._dialog.client.name, at, reply)
        return self._counted(reply)

    def _counted(self, reply: Reply) -> Reply:
        """Return the reply, or the last one if this client has not understood the protocol too often.

        Errors of order (503) and of addresses do not count: one refused MAIL brings a 503 for each pipelined RCPT.
        """
        if reply.code != 503 and reply.enhanced.startswith("5.5."):
            self._errors += 1
        return replies.TOO_MANY_ERRORS if self._errors >= self._tolerance.errors else reply

    def _begin_data(self, argument: bytes) -> Reply:
        self._begun = (
            self._dialog.envelope_for_data(argument),
            self._dialog.protocol,
            self._house.new_intake(self.loop.time),
        )
        self._is_in_data = True
        return replies.START_DATA

    async def _data(self) -> Reply:
        assert self._begun is not None
        (envelope, protocol, intake), self._begun = self._begun, None
        try:
            open_ = partial(self._open, envelope, protocol)
            with intake, Foresight(intake, open_, self.loop.time) as foresight:
                content = await self._read_content(read_data(self._wire, intake))
                return content if isinstance(content, Reply) else await self._submit(foresight.take, content)
        finally:
            self._is_in_data = False
            self._is_answered = True
            self._dialog.reset()

    async def _chunk(self, argument: bytes) -> Reply:
        chunk = parse_bdat(argument)
        self._is_in_data = True
        try:
            content = await self._read_content(
                self._dialog.chunks(partial(self._house.new_intake, self.loop.time)).read(self._wire, chunk)
            )
            if content is None:
                return replies.chunk_taken(chunk.octets)
            if isinstance(content, Reply):
                return content
            return await self._submit(partial(self._open, self._dialog.envelope, self._dialog.protocol), content)
        finally:
            self._is_in_data = False
            if chunk.is_last:
                self._is_answered = True
                self._dialog.reset()

    async def _log_in(self, argument: bytes) -> Reply:
        mechanism, initial = self._dialog.mechanism(argument)
        login = await self._house.login_desk.log_in(self._wire, self._dialog.client, mechanism, initial, self._pause)
        return login if isinstance(login, Reply) else self._dialog.logged_in(login)

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the connection is gone; what waits to be said goes out before."""
        await self._wire.flush()
        if self.transport is not None:
            self._pausing = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._pausing.wait(), seconds)

    async def _read_content(self, reading: Awaitable[_Read]) -> _Read | Reply:
        try:
            return await reading
        except ContentRefused as refusal:
            self._telling.refused(self._dialog.client.name, "end of data", refusal.reply)
            return refusal.reply
        except ClientLeft:
            raise
        except Exception:
            # Where the message ends is not known any more; what follows must not be read as commands.
            log.broken("a message could not be read", exc_info=True)
            return replies.LOST_TRACK

    def _open(self, envelope: Envelope, protocol: str) -> Submission:
        arrival = self._dialog.arrival(protocol, datetime.now(UTC))
        return self._desk.open(self._dialog.client, envelope, arrival)

    async def _submit(self, open_: Callable[[], Submission], content: Content) -> Reply:
        await self._wire.flush()
        self._submission = open_()
        if self._answer_at is not None:
            self._submission.hurry(max(self._answer_at - self.loop.time(), 0.0))
        try:
            reply = await self._submission.complete(content)
        finally:
            self._submission = None
            self._wire.heard_at = self.loop.time()
        if reply.is_success:
            self._errors = 0
            self._commands.forgive()
        return reply
