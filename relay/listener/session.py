"""One SMTP session: what its client has said, what it may say now, and the answers (RFC 5321 section 4.1.1).

A state machine: `COMMANDS` at the end of this file has every command with the states in which it is refused, and all
that moves the state stands here. Commands are answered where their octets come in (`Session._work`); a task is for
what has to wait: a message that is large or handed over, a chunk, a login, TLS, a proxy's header.
Commands are named and registered as aiosmtpd has them (smtp_MAIL); their grammar and the data are ours: aiosmtpd
decodes encoded words in addresses, takes seconds for many short lines, and tells exception texts.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final, NamedTuple

from aiosmtpd.smtp import Envelope as SmtpEnvelope
from aiosmtpd.smtp import Session as SmtpSession

from relay import log
from relay.directory.client import Login
from relay.listener import replies
from relay.listener.commands import (
    LONGEST_LOGIN_LINE,
    BdatCommand,
    CommandFault,
    parse_auth,
    parse_bdat,
    parse_hello,
    parse_mail,
    parse_rcpt,
    split_command,
)
from relay.listener.connection import ClientLeft, Connection, LineTooLong, TlsFailed
from relay.listener.entrance import Entrance, House
from relay.listener.mechanisms import MECHANISMS, Mechanism
from relay.listener.pace import Commands
from relay.listener.peer import Origin, origin_of
from relay.listener.ports import Submission
from relay.listener.proxy import ProxyFault, read_header
from relay.listener.receiving import MUCH, Chunks, CutThrough, DotReader, Intake
from relay.mail.content import Content, ContentRefused
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id

# A page in a browser can make it send these to a port of this machine; what would follow is for the attacker to say.
_HTTP_VERBS: Final = frozenset(
    [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"PRI"]
)
_LAST_WORDS: Final = (b"221", b"421")  # RFC 5321 section 4.2.1: the server closes the connection after either
_MOST_AT_ONCE: Final = 64  # commands, then the other sessions get a turn
_PROXY_BUFFER: Final = 64 * 1024  # octets; the longest header is hardly longer


class State(IntEnum):
    """How far a client has come."""

    NEW = 0  # no EHLO or HELO
    READY = 1  # for MAIL
    MAIL = 2  # a sender, and no recipient named
    REFUSED = 3  # recipients named, and none taken
    RCPT = 4  # a recipient or more
    CHUNKS = 5  # BDAT has begun the message
    DATA = 6  # the message comes
    OVER = 7  # nothing more is read


_IN_MAIL: Final = (State.MAIL, State.REFUSED, State.RCPT, State.CHUNKS)


class Transaction(SmtpEnvelope):
    """aiosmtpd's envelope, in which `mail_from` is the `Envelope` of MAIL and `rcpt_tos` has a `Recipient` each.

    `protocol` is the word of RFC 3848 for the way it comes.
    """

    mail_from: Any
    rcpt_tos: list[Any]
    chunks: Chunks | None = None


class Session(Connection):
    """The server's side of one connection."""

    session: SmtpSession
    envelope: Transaction | None = None
    _submission: Submission | None = None
    _answer_at: float | None = None  # when the last reply is due, as soon as we hurry
    _is_answered = False  # whether a message has its reply, since we stop
    _is_stopping = False
    _stops_at = 0.0
    _turn: asyncio.Handle | None = None  # when we go on: the other sessions have a turn, or this client has to wait
    _pausing: asyncio.Event | None = None  # set when the connection is gone meanwhile
    _errors = 0
    _can_starttls = False
    _may_log_in = False
    _is_in_data = False  # a message or chunk comes, or waits for its answer
    _ahead: CutThrough | None = None
    _intake: Intake | None = None  # the message that DATA has begun, until it has its answer
    _dots: DotReader
    _data_began = 0.0

    def __init__(self, house: House, entrance: Entrance) -> None:
        super().__init__(house.tolerance)
        self._house = house
        self._desk = house.desk
        self._entrance = entrance
        self._state = State.NEW
        self._commands = Commands(house.tolerance.most_commands, self._heard_at)

    # What the registry asks of a session, beside `abort` and `look_for_silence`.

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

    def _stop_in_a_lull(self) -> None:
        if self.transport is None:
            return
        now = self.loop.time()
        rest = min(self._heard_at + self._tolerance.lull, self._stops_at) - now
        if self._is_in_data:
            rest = self._tolerance.lull
        if rest > 0:
            self.loop.call_later(rest, self._stop_in_a_lull)
        else:
            self.hang_up(replies.STOPPING_LINE)

    # From the connection to the greeting, and to the end.

    def _begin(self) -> None:
        try:
            self._house.telling.connected()
            self._origin = origin_of(self.transport)
            self._client = self._entrance.gate.client_of(self._origin)
            refusal = self._house.crowd.enter(self)
            if refusal is not None:
                self._turn_away("connect", refusal)
            elif self._entrance.is_tls_first or self._entrance.gate.is_proxy(self._origin):
                self._start(self._prepare_to_greet())
            elif self._is_let_in():
                self._greet()
        except Exception:
            self._broken()

    def _broken(self) -> None:
        # The last net of a connection: whatever went wrong here ends this session and no other.
        log.broken("a session ended by a fault", exc_info=True)
        self._state = State.OVER
        self._close()

    def _left(self) -> None:
        """Nobody is there any more. A message that is being handed over hears of it, and goes on."""
        if self._pausing is not None:
            self._pausing.set()
        if self._submission is not None:
            self._submission.client_left()
        if self._task is None:
            self._end()

    def _end(self) -> None:
        """The connection is gone, and nothing of it is under way."""
        self._state = State.OVER
        if self._turn is not None:
            self._turn.cancel()
        self._forget_message()
        self._house.crowd.leave(self)

    async def _prepare_to_greet(self) -> None:
        """Find out whom a proxy speaks for, and begin TLS where that comes first."""
        is_ready = False
        try:
            is_ready = await self._is_recognized() and (not self._entrance.is_tls_first or await self._protect_first())
        except ClientLeft:
            pass
        except Exception:
            self._broken()
        if is_ready:
            self._greet()
        else:
            self._state = State.OVER
        self._resume()

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
        return self._is_let_in()

    def _is_let_in(self) -> bool:
        refusal = self._house.crowd.recognize(self, self._client)
        if refusal is not None:
            self._turn_away("connect", refusal)
        return refusal is None

    async def _read_proxy_header(self) -> Origin | None:
        reader = self._lend(_PROXY_BUFFER)
        try:
            return await read_header(reader, self._tolerance.proxy_seconds)
        finally:
            await self._take_back()

    def _turn_away(self, at: str, refusal: Reply, **facts: str) -> None:
        self._house.telling.refused(self._client.name, at, refusal, **facts)
        # Whoever waits for TLS could not read it.
        if not self._entrance.is_tls_first:
            self._out += bytes(refusal)
            self._write()
        self._state = State.OVER
        self._close()

    def _greet(self) -> None:
        self._open_dialog()
        self._out += replies.greeting(self.hostname)
        self._write()

    def _open_dialog(self) -> None:
        """From here on we can speak; what was said before TLS is forgotten (RFC 3207 section 4.2)."""
        self._is_mute = False
        self._state = State.NEW
        self._client = self._entrance.gate.client_of(self._origin)
        self.session = SmtpSession(self.loop)
        self.session.peer = self._client.peer
        self._can_starttls = self._entrance.certificate is not None and not self._is_protected
        self._may_log_in = self._entrance.gate.may_log_in(self._origin, is_tls=self._is_protected)

    async def _protect_first(self) -> bool:
        self._pause_reading()
        return await self._protect(self._take_all())

    async def _protect(self, unread: bytes = b"") -> bool:
        """Put the connection under TLS; False where that failed, and it is gone."""
        assert self._entrance.certificate is not None
        try:
            await self._begin_tls(self._entrance.certificate.context(), unread)
        except TlsFailed as failure:
            self._house.telling.unprotected(self._client.name, str(failure))
            return False
        if version := self.tls_version:  # else the client has left already
            self._house.telling.protected(version)
        return True

    # The conversation.

    def _work(self) -> None:
        """Answer the commands that are here, for as long as none of them has to wait for something.

        A flood of commands must not stop the other sessions.
        """
        try:
            turns = _MOST_AT_ONCE
            while self._input and not self._is_busy and self._state is not State.OVER:
                if not turns:
                    self._wait(self.loop.call_soon(self._take_turn))
                    break
                turns -= 1
                if self._state is State.DATA:
                    self._take_data()
                elif not self._take_command():
                    break
            self._write()
            if self._state is State.OVER or (self._has_ended and not self._is_busy and not self._is_full):
                self._state = State.OVER
                self._input, self._at = b"", 0
                self._close()
            if self._is_held:
                self._throttle()
        except Exception:
            self._broken()

    def _take_command(self) -> bool:
        """Answer the next command, or let a task do that; False where it is not whole yet."""
        try:
            line = self._next_line(LONGEST_LOGIN_LINE)
        except LineTooLong:
            self._say(bytes(self._counted(replies.LINE_TOO_LONG)))
            return True
        if line is None:
            return False
        verb = b""
        try:
            verb, argument = split_command(line)
            if verb not in COMMANDS:
                raise CommandFault(replies.NOT_HTTP if verb in _HTTP_VERBS else replies.UNKNOWN_COMMAND)
            command = COMMANDS[verb]
            if argument and command.is_bare:
                raise CommandFault(replies.NO_ARGUMENT)
            if self._state in command.refused:
                raise CommandFault(command.refused[self._state])
            answer = command.obey(self, argument)
        except Exception as error:
            answer = bytes(self._failed(verb, error))
        else:
            self._heard_at = self.loop.time()
        if answer:
            self._say(answer)
        return True

    def _say(self, answer: bytes) -> None:
        """Send an answer; take note if it is the last one, and of the time that the client has to wait for the next."""
        self._out += answer
        if self._state is State.DATA:  # the end of the message has the answer that counts
            return
        if answer[:3] in _LAST_WORDS:
            self._state = State.OVER
        elif self._is_stopping and self._is_answered:
            self._out += replies.STOPPING_LINE
            self._state = State.OVER
        elif rest := self._commands.pause(self.loop.time()):
            self._wait(self.loop.call_later(rest, self._take_turn))

    def _wait(self, turn: asyncio.Handle) -> None:
        """Let nothing be answered until this turn comes."""
        self._is_busy = True
        self._turn = turn

    def _take_turn(self) -> None:
        self._turn = None
        self._is_busy = False
        self._go_on()

    def _finish(self, answer: bytes) -> None:
        """The task ends here: give its answer, and go on with what has come meanwhile. b"": the client has left."""
        self._heard_at = self.loop.time()
        self._is_busy = False
        if not answer:
            self._state = State.OVER
        elif self.transport is not None:
            self._say(answer)
        self._resume()

    def _resume(self) -> None:
        """The task ends here: go on with what has come meanwhile."""
        self._task = None
        if self.transport is None:
            self._end()
        elif self._turn is not None:
            self._write()
        else:
            self._is_busy = False
            if not self._is_full:
                self._work()

    def _failed(self, verb: bytes, error: Exception) -> Reply:
        """Return the answer to a command that could not be obeyed."""
        if isinstance(error, CommandFault):
            return self._refused(verb, error.reply)
        # Ours to mend, not the client's: it hears nothing of the cause and may try again.
        log.broken("a command could not be answered", exc_info=error)
        self._forget_message()
        return replies.INTERNAL_FAULT

    def _refused(self, verb: bytes, reply: Reply) -> Reply:
        # What is no verb may be anything, a password that came at the wrong moment among it.
        at = "unknown" if reply == replies.UNKNOWN_COMMAND else verb.decode("ascii", "replace")[:16]
        self._house.telling.refused(self._client.name, at, reply)
        return self._counted(reply)

    def _counted(self, reply: Reply) -> Reply:
        """Return the reply, or the last one if this client has not understood the protocol too often.

        Errors of order (503) and of addresses do not count: one refused MAIL brings a 503 for each pipelined RCPT.
        """
        if reply.code != 503 and reply.enhanced.startswith("5.5."):
            self._errors += 1
        return replies.TOO_MANY_ERRORS if self._errors >= self._tolerance.errors else reply

    def _forget_message(self) -> None:
        """Forget the message that was begun; who the client is stays."""
        if self.envelope is not None:
            if self.envelope.chunks is not None:
                self.envelope.chunks.close()
            self.envelope = None
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if self._intake is not None:
            self._intake.close()
            self._intake = None
        if self._state not in {State.NEW, State.OVER}:
            self._state = State.READY

    # The commands. Each returns its answer, or b"" where a task will.

    def smtp_EHLO(self, argument: bytes) -> bytes:  # noqa: N802
        """Say what we offer."""
        self._meet(argument, is_extended=True)
        limits = self._house.limits
        extensions = (
            f"SIZE {self.data_size_limit}",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "PIPELINING",
            "CHUNKING",
            f"LIMITS RCPTMAX={limits.recipients}",
            *(["STARTTLS"] if self._can_starttls else []),
            *(["REQUIRETLS"] if self._is_protected else []),
            *(["AUTH " + b" ".join(MECHANISMS).decode()] if self._may_log_in else []),
            "ENHANCEDSTATUSCODES",
        )
        return replies.extended_hello(self.hostname, extensions)

    def smtp_HELO(self, argument: bytes) -> bytes:  # noqa: N802
        """Greet a client that knows no extensions."""
        self._meet(argument, is_extended=False)
        return bytes(replies.hello(self.hostname))

    def _meet(self, argument: bytes, *, is_extended: bool) -> None:
        self.session.host_name = parse_hello(argument)
        self.session.extended_smtp = is_extended
        self._forget_message()
        self._state = State.READY

    def smtp_MAIL(self, argument: bytes) -> bytes:  # noqa: N802
        """Begin a message."""
        mail = parse_mail(argument)
        if mail.size > self.data_size_limit:
            raise CommandFault(replies.TOO_LARGE)
        if mail.require_tls and not self._is_protected:
            raise CommandFault(replies.NEED_TLS_FOR_REQUIRETLS)
        refusal = self._desk.check_sender(self._client, mail)
        if refusal is not None:
            raise CommandFault(refusal)
        self.envelope = Transaction()
        self.envelope.mail_from = mail
        self._state = State.MAIL
        return replies.SENDER_OK_LINE

    def smtp_RCPT(self, argument: bytes) -> bytes:  # noqa: N802
        """Take a recipient."""
        if self._state is State.MAIL:
            self._state = State.REFUSED
        transaction = self.envelope
        assert transaction is not None
        recipient = parse_rcpt(argument)
        if not recipient.address.is_ascii and not transaction.mail_from.smtputf8:
            raise CommandFault(replies.NEED_SMTPUTF8)
        if len(transaction.rcpt_tos) >= self._house.limits.recipients:
            raise CommandFault(replies.TOO_MANY_RECIPIENTS)
        transaction.rcpt_tos.append(recipient)
        self._state = State.RCPT
        return replies.RECIPIENT_OK_LINE

    def smtp_DATA(self, _argument: bytes) -> bytes:  # noqa: N802
        """Let the message come."""
        self._intake = self._house.new_intake(self.loop.time)
        self._dots = DotReader()
        self._data_began = self.loop.time()
        self._is_in_data = True
        self._state = State.DATA
        return replies.START_DATA_LINE

    def smtp_BDAT(self, argument: bytes) -> bytes:  # noqa: N802
        """Take a chunk (RFC 3030). Where no message may come now it passes by; after MAIL, so do all that follow it."""
        chunk = parse_bdat(argument)
        self._is_in_data = True
        self._start(self._receive(b"BDAT", self._read_chunk(chunk), chunk))
        return b""

    def smtp_RSET(self, _argument: bytes) -> bytes:  # noqa: N802
        """Forget the message that was begun."""
        self._forget_message()
        return replies.OK_LINE

    def smtp_NOOP(self, _argument: bytes) -> bytes:  # noqa: N802
        """Be there."""
        return replies.OK_LINE

    def smtp_QUIT(self, _argument: bytes) -> bytes:  # noqa: N802
        """End the session."""
        return replies.GOODBYE_LINE

    def smtp_HELP(self, _argument: bytes) -> bytes:  # noqa: N802
        """Say what this is."""
        return bytes(replies.HELP)

    def smtp_VRFY(self, _argument: bytes) -> bytes:  # noqa: N802
        """Tell nobody who exists."""
        return bytes(replies.CANNOT_VERIFY)

    def smtp_EXPN(self, _argument: bytes) -> bytes:  # type: ignore[override]  # noqa: N802
        """This and some others are not for a submission service."""
        raise CommandFault(replies.NOT_OFFERED)

    def smtp_STARTTLS(self, argument: bytes) -> bytes:  # noqa: N802
        """Put the session under TLS, where it begins anew (RFC 3207)."""
        if self._is_protected:
            raise CommandFault(replies.ALREADY_TLS)
        if not self._can_starttls:
            raise CommandFault(replies.NOT_OFFERED)
        if argument:
            raise CommandFault(replies.NO_ARGUMENT)
        self._start(self._start_tls())
        return b""

    async def _start_tls(self) -> None:
        is_protected = False
        try:
            # Reading pauses before our 220 leaves: what is here by then came in plain and is dropped, what comes later
            # must be TLS (RFC 3207 section 4.2; CVE-2011-0411).
            self._pause_reading()
            self._out += bytes(replies.READY_FOR_TLS)
            await self._flush()
            self._forget_message()
            is_protected = await self._protect()
        except ClientLeft:
            pass
        except Exception:
            self._broken()
        if is_protected:
            self._open_dialog()
        else:
            self._state = State.OVER
        self._resume()

    def smtp_AUTH(self, argument: bytes) -> bytes:  # noqa: N802
        """Let the client log in (RFC 4954)."""
        if not self.session.extended_smtp:
            raise CommandFault(replies.NEED_HELLO)
        if not self._may_log_in:
            raise CommandFault(replies.NEED_TLS if self._can_starttls else replies.NOT_OFFERED)
        if self._client.login:
            raise CommandFault(replies.ALREADY_LOGGED_IN)
        if self.envelope is not None:
            raise CommandFault(replies.MAIL_ALREADY_GIVEN)
        command = parse_auth(argument, MECHANISMS)
        self._start(self._log_in(MECHANISMS[command.mechanism], command.initial))
        return b""

    async def _log_in(self, mechanism: Mechanism, initial: bytes | None) -> None:
        answer = b""
        try:
            result = await self._house.login_desk.log_in(self, self._client, mechanism, initial, self._pause)
            refusal: Any = result.auth_data
            answer = bytes(self._logged_in(refusal) if result.success else refusal)
        except ClientLeft:
            pass
        except Exception as error:
            answer = bytes(self._failed(b"AUTH", error))
        self._finish(answer)

    def _logged_in(self, login: Login) -> Reply:
        """The client is somebody from now on; what its network may do counts no more."""
        self._client = self._client.logged_in(login)
        self.session.authenticated = True
        vars(self.session)["auth_data"] = login
        return replies.LOGGED_IN

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the connection is gone; what waits to be said goes out before."""
        await self._flush()
        if self.transport is not None:
            self._pausing = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._pausing.wait(), seconds)

    # A message.

    def _take_data(self) -> None:
        """Take what has come of the message. What is little is read here and now, and much in the message's task."""
        octets, dots = self._take_all(), self._dots
        assert self._intake is not None
        self._heard_at = self.loop.time()
        if len(octets) < MUCH:
            try:
                self._intake.feed(dots.feed(octets))
            except Exception as error:
                self._conclude(self._unreadable(error))
                return
            octets = b""
            if dots.has_ended:
                self._input = dots.rest
            elif not self._intake.is_due:
                return
        self._start(self._receive(b"DATA", self._read_data(octets)))

    async def _read_data(self, octets: bytes) -> Content:
        """Read on to the end of the message, whatever is wrong with it. Raises ContentRefused and ClientLeft."""
        assert self._intake is not None
        if not self._dots.has_ended:
            self._ahead = CutThrough(self._intake, self._open, self.loop.time, self._data_began)
            await self._read_on(self._intake, self._dots, octets)
        return await self._intake.finish()

    async def _read_on(self, intake: Intake, dots: DotReader, octets: bytes) -> None:
        await intake.settle()
        while True:
            octets = octets or await self._chunk()
            async with intake.turn(octets):
                intake.feed(dots.feed(octets))
            await intake.settle()
            if dots.has_ended:
                break
            octets = b""
        # What was pipelined behind it stays.
        self._input = dots.rest + self._take_all()

    async def _read_chunk(self, chunk: BdatCommand) -> Content | None:
        """Read a chunk to its end, and return the message after the last. Raises ContentRefused and ClientLeft."""
        chunks = self._chunks()
        left = chunk.octets
        while left:
            octets = await self._chunk(left)
            left -= len(octets)
            await chunks.feed(octets)
        return await chunks.end(is_last=chunk.is_last)

    def _chunks(self) -> Chunks:
        transaction = self.envelope
        if transaction is not None and transaction.chunks is not None:
            return transaction.chunks
        chunks = Chunks(self._house.new_intake(self.loop.time), COMMANDS[b"DATA"].refused.get(self._state))
        if transaction is not None:
            transaction.chunks = chunks
            self._state = State.CHUNKS
        return chunks

    async def _receive(
        self, verb: bytes, reading: Coroutine[Any, Any, Content | None], chunk: BdatCommand | None = None
    ) -> None:
        """Read a message to its end, hand it over, and give its answer: the task that a message has."""
        reply: Reply | None = None
        is_read = False
        try:
            content = await reading
            is_read = True
            if self.transport is None or self.transport.is_closing():
                raise ClientLeft
            if self._is_full:
                await self._flush()
            if content is None:
                assert chunk is not None
                reply = replies.chunk_taken(chunk.octets)
            else:
                self._submission = self._ahead.take() if self._ahead is not None else self._open()
                if self._answer_at is not None:
                    self._submission.hurry(max(self._answer_at - self.loop.time(), 0.0))
                reply = await self._submission.complete(content)
                if reply.code < 300:
                    self._errors = 0
                    self._commands.forgive()
        except ClientLeft:
            pass
        except Exception as error:
            reply = self._failed(verb, error) if is_read else self._unreadable(error)
        self._submission = None
        self._conclude(reply, is_whole=chunk is None or chunk.is_last)

    def _conclude(self, reply: Reply | None, *, is_whole: bool = True) -> None:
        """The message or chunk has come to its end; no reply where the client has left."""
        self._is_in_data = False
        if is_whole:
            self._is_answered = True
            self._forget_message()
        if self._task is not None:
            self._finish(bytes(reply) if reply is not None else b"")
        elif reply is not None:
            self._say(bytes(reply))

    def _unreadable(self, error: Exception) -> Reply:
        """Return the answer to a message that could not be read."""
        if isinstance(error, ContentRefused):
            self._house.telling.refused(self._client.name, "end of data", error.reply)
            return error.reply
        # Where the message ends is not known any more; what follows must not be read as commands.
        log.broken("a message could not be read", exc_info=error)
        return replies.LOST_TRACK

    def _open(self) -> Submission:
        """Begin the submission of the message, with an id of its own."""
        transaction, client, session = self.envelope, self._client, self.session
        assert transaction is not None
        mail: Envelope = transaction.mail_from
        # RFC 3848; RFC 6531 section 4.3 where the message may need UTF-8. Plain SMTP has no letters for TLS and logins.
        protocol = "SMTP"
        if session.extended_smtp:
            protocol = "UTF8SMTP" if mail.smtputf8 else "ESMTP"
            protocol += "S" * self._is_protected + "A" * (client.login != "")
        now = datetime.now(UTC)
        arrival = Arrival(session.host_name or "", client.peer, self.hostname, protocol, new_id(now), now, client.login)
        return self._desk.open(client, mail.to(transaction.rcpt_tos), arrival)


class Command(NamedTuple):
    """One command: the method that obeys it, and the states in which it is refused, each with the reply.

    One that `is_bare` takes no argument.
    """

    obey: Callable[[Session, bytes], bytes]
    refused: Mapping[State, Reply] = {}
    is_bare: bool = False


# RFC 5321 section 4.1.4: the order of commands. A verb that is not here is not recognized.
COMMANDS: Final[Mapping[bytes, Command]] = {
    b"EHLO": Command(Session.smtp_EHLO),
    b"HELO": Command(Session.smtp_HELO),
    b"MAIL": Command(
        Session.smtp_MAIL,
        {State.NEW: replies.NEED_HELLO, **dict.fromkeys(_IN_MAIL, replies.MAIL_ALREADY_GIVEN)},
    ),
    b"RCPT": Command(
        Session.smtp_RCPT,
        {State.NEW: replies.NEED_HELLO, State.READY: replies.NEED_MAIL, State.CHUNKS: replies.CHUNKS_BEGUN},
    ),
    b"DATA": Command(
        Session.smtp_DATA,
        {
            State.NEW: replies.NEED_HELLO,
            State.READY: replies.NEED_MAIL,
            State.MAIL: replies.NEED_RECIPIENT,
            State.REFUSED: replies.NO_RECIPIENT_LEFT,
            State.CHUNKS: replies.CHUNKS_BEGUN,
        },
        is_bare=True,
    ),
    # Refused as DATA is, but for its octets, which have to pass by.
    b"BDAT": Command(Session.smtp_BDAT),
    b"RSET": Command(Session.smtp_RSET, is_bare=True),
    b"NOOP": Command(Session.smtp_NOOP),
    b"QUIT": Command(Session.smtp_QUIT, is_bare=True),
    b"HELP": Command(Session.smtp_HELP),
    b"VRFY": Command(Session.smtp_VRFY),
    b"STARTTLS": Command(Session.smtp_STARTTLS),
    b"AUTH": Command(Session.smtp_AUTH),
    **dict.fromkeys([b"EXPN", b"ETRN", b"ATRN", b"TURN", b"SEND", b"SOML", b"SAML"], Command(Session.smtp_EXPN)),
}
