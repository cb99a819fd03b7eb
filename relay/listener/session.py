"""One SMTP session: what its client has said, what it may say now, and the answers (RFC 5321 section 4.1.1).

A state machine: `COMMANDS` at the end of this file has every command with the states in which it is refused, and what
moves the state from NEW on stands here. Commands are answered where their octets come in (`Session._work`); a task is
for what has to wait: a message that is large or handed over, a chunk, a login, TLS. Commands are named as aiosmtpd has
them (smtp_MAIL). Their grammar and the data are ours: aiosmtpd decodes encoded words in addresses, takes seconds for
many short lines, and tells exception texts.
"""

from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from relay import log
from relay.listener import replies
from relay.listener.auth import MECHANISM_NAMES, MECHANISMS, Mechanism
from relay.listener.commands import (
    HTTP_VERBS,
    LONGEST_LOGIN_LINE,
    BdatCommand,
    CommandFault,
    command_alone,
    parse_auth,
    parse_bdat,
    parse_hello,
    parse_mail,
    parse_rcpt,
    split_command,
)
from relay.listener.connection import ClientLeft, LineTooLong
from relay.listener.ports import Submission
from relay.listener.receiving import MUCH, Chunks, CutThrough, DotReader, MessageReceiver, read_on, read_whole
from relay.listener.reception import Command, Reception, State, Transaction
from relay.listener.session_context import ListenerContext, SessionContext
from relay.listener.session_limits import Commands
from relay.mail.content import Content, ContentRefused
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id

_LAST_WORDS: Final = (b"221", b"421")  # RFC 5321 section 4.2.1: the server closes the connection after either
_MOST_AT_ONCE: Final = 64  # commands, then the other sessions get a turn
_IN_MAIL: Final = (State.MAIL, State.REFUSED, State.RCPT, State.CHUNKS)


class Session(Reception):
    """The server's side of one connection, from its greeting to its last reply."""

    envelope: Transaction | None = None
    _reads_whole = True  # a small message takes one look
    _parse_mail = staticmethod(parse_mail)
    _parse_rcpt = staticmethod(parse_rcpt)
    _ahead: CutThrough | None = None
    _receiver: MessageReceiver | None = None  # of the message that DATA has begun; a small one needs none
    _held = 0  # octets of a small one in the common memory
    _dots: DotReader
    _data_began = 0.0

    def __init__(self, context: SessionContext, listener: ListenerContext) -> None:
        super().__init__(context, listener)
        self._acceptance = context.acceptance
        self._commands = Commands(context.session_limits.most_commands, self._heard_at)

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
            if self._out:
                self._write()
            if self._state is State.OVER or (self._has_ended and not self._is_busy and not self._is_full):
                self._state = State.OVER
                self._input, self._at = b"", 0
                self._close()
            if self._is_held:
                self._throttle()
        except Exception:
            # Whatever a client made us meet ends its connection alone, with a reply.
            self._broken()

    def _take_command(self) -> bool:
        """Answer the next command, or let a task do that; False where it is not whole yet."""
        verb = b""
        try:
            # Nearly always one command has come, and nothing else.
            whole = None if self._at or self._is_too_long else command_alone(self._input)
            if whole is not None:
                self._input = b""
                verb, argument = whole
            else:
                line = self._next_line(LONGEST_LOGIN_LINE)
                if line is None:
                    return False
                verb, argument = split_command(line)
            if verb not in COMMANDS:
                raise CommandFault(replies.NOT_HTTP if verb in HTTP_VERBS else replies.UNKNOWN_COMMAND)
            command = COMMANDS[verb]
            if argument and command.is_bare:
                raise CommandFault(replies.NO_ARGUMENT)
            if self._state in command.refused:
                raise CommandFault(command.refused[self._state])
            answer = command.obey(self, argument)
        except LineTooLong:
            answer = bytes(self._counted(replies.LINE_TOO_LONG))
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

    def _finish(self, answer: bytes) -> None:
        """What was waited for ends here: answer, and go on with what has come meanwhile. b"": the client has left."""
        self._heard_at = self.loop.time()
        self._is_busy = False
        if not answer:
            self._state = State.OVER
        elif self.transport is not None:
            self._say(answer)
        self._resume()

    def _forget_message(self) -> None:
        """Forget the message that was begun; who the client is stays."""
        if self.envelope is not None:
            if self.envelope.chunks is not None:
                self.envelope.chunks.close()
            self.envelope = None
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if self._held:
            self._context.memory.give_back(self._held)
            self._held = 0
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        if self._state not in {State.NEW, State.OVER}:
            self._state = State.READY

    # The commands. Each returns its answer, or b"" where a task will.

    def smtp_EHLO(self, argument: bytes) -> bytes:  # noqa: N802
        """Say what we offer."""
        self._meet(argument, is_extended=True)
        return replies.extended_hello(
            self.hostname,
            self.data_size_limit,
            self._context.limits.recipients,
            MECHANISM_NAMES if self._may_log_in else "",
            can_starttls=self._can_starttls,
            is_tls=self._is_protected,
        )

    def smtp_HELO(self, argument: bytes) -> bytes:  # noqa: N802
        """Greet a client that knows no extensions."""
        self._meet(argument, is_extended=False)
        return bytes(replies.hello(self.hostname))

    def _meet(self, argument: bytes, *, is_extended: bool) -> None:
        self.session.host_name = parse_hello(argument)
        self.session.extended_smtp = is_extended
        if self.envelope is not None:
            self._forget_message()
        self._state = State.READY

    def smtp_MAIL(self, argument: bytes) -> bytes:  # noqa: N802
        """Begin a message."""
        mail = self._parse_mail(argument)
        if mail.size > self.data_size_limit:
            raise CommandFault(replies.TOO_LARGE)
        if mail.require_tls and not self._is_protected:
            raise CommandFault(replies.NEED_TLS_FOR_REQUIRETLS)
        refusal = self._acceptance.check_sender(self._client, mail)
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
        recipient = self._parse_rcpt(argument)
        if not recipient.address.is_ascii and not transaction.mail_from.smtputf8:
            raise CommandFault(replies.NEED_SMTPUTF8)
        if len(transaction.rcpt_tos) >= self._context.limits.recipients:
            raise CommandFault(replies.TOO_MANY_RECIPIENTS)
        transaction.rcpt_tos.append(recipient)
        self._state = State.RCPT
        return replies.RECIPIENT_OK_LINE

    def smtp_DATA(self, _argument: bytes) -> bytes:  # noqa: N802
        """Let the message come."""
        self._data_began = self.loop.time()
        self._is_in_data = True
        self._state = State.DATA
        return replies.START_DATA_LINE

    def smtp_BDAT(self, argument: bytes) -> bytes:  # noqa: N802
        """Take a chunk (RFC 3030). Where no message may come now it passes by; after MAIL, so do all that follow it."""
        chunk = parse_bdat(argument)
        self._is_in_data = True
        self._start(self._receive(b"BDAT", self._chunks().read(self, chunk), chunk))
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
            # Whatever a client made us meet ends its connection alone, with a reply.
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
            result = await self._context.authenticator.log_in(self, self._client, mechanism, initial, self._pause)
            data: Any = result.auth_data
            if result.success:
                # It is somebody from now on; what its network may do counts no more.
                self._client = self._client.logged_in(data)
                self.session.authenticated, self.session.auth_data = True, data
                answer = bytes(replies.LOGGED_IN)
            else:
                answer = bytes(data)
        except ClientLeft:
            pass
        except Exception as error:
            answer = bytes(self._failed(b"AUTH", error))
        self._finish(answer)

    # A message.

    def _take_data(self) -> None:
        """Take what has come of the message. What is little is read here and now, and much in a task."""
        octets, context = self._take_all(), self._context
        number = len(octets)
        self._heard_at = self.loop.time()
        if self._receiver is None:
            limits = context.limits
            is_small = self._reads_whole and number < MUCH and number < limits.memory_per_message
            whole = read_whole(octets, limits.message_size) if is_small else None
            if whole is not None and context.memory.take(number):
                self._held = number
                content, self._input = whole
                try:
                    self._hand_over(content)
                except Exception as error:
                    self._is_busy = False
                    self._conclude(self._failed(b"DATA", error))
                return
            self._receiver, self._dots = context.new_receiver(self.loop.time, self._data_began), DotReader()
        dots = self._dots
        if number < MUCH:
            try:
                self._receiver.feed(dots.feed(octets))
            except Exception as error:
                self._conclude(self._unreadable(error))
                return
            octets = b""
            if dots.has_ended:
                self._input = dots.rest
            elif not self._receiver.is_due:
                return
        self._start(self._receive(b"DATA", self._read_data(octets)))

    async def _read_data(self, octets: bytes) -> Content:
        """Read on to the end of the message. Raises ContentRefused and ClientLeft."""
        assert self._receiver is not None
        if not self._dots.has_ended:
            self._ahead = CutThrough(self._receiver, self._open, self.loop.time, self._data_began)
            await read_on(self, self._receiver, self._dots, octets)
        return await self._receiver.finish()

    def _chunks(self) -> Chunks:
        transaction = self.envelope
        if transaction is not None and transaction.chunks is not None:
            return transaction.chunks
        chunks = Chunks(
            self._context.new_receiver(self.loop.time, self.loop.time()), COMMANDS[b"DATA"].refused.get(self._state)
        )
        if transaction is not None:
            transaction.chunks = chunks
            self._state = State.CHUNKS
        return chunks

    async def _receive(
        self, verb: bytes, reading: Coroutine[Any, Any, Content | None], chunk: BdatCommand | None = None
    ) -> None:
        """Read a message to its end and hand it over, or take a chunk: the task that reads much has."""
        reply: Reply | None = None
        is_read = False
        try:
            content = await reading
            is_read = True
            if self.transport is None or self.transport.is_closing():
                raise ClientLeft
            if self._is_full:
                await self._flush()
            if content is not None:
                self._task = None
                self._hand_over(content)
                return
            assert chunk is not None
            reply = replies.chunk_taken(chunk.octets)
        except ClientLeft:
            pass
        except Exception as error:
            reply = self._failed(verb, error) if is_read else self._unreadable(error)
        self._conclude(reply, is_whole=chunk is None or chunk.is_last)

    def _hand_over(self, content: Content) -> None:
        """Hand the message over: nothing is answered before `_answered` is called with its reply."""
        self._is_busy = True
        submission = self._ahead.take() if self._ahead is not None else self._open()
        if self._answer_at is not None:
            submission.hurry(max(self._answer_at - self.loop.time(), 0.0))
        submission.begin(content, self._answered)
        self._submission = submission

    def _answered(self, reply: Reply) -> None:
        """The message has its reply."""
        self._submission = None
        if reply.code < 300:
            self._errors = 0
            self._commands.forgive()
        self._conclude(reply)

    def _conclude(self, reply: Reply | None, *, is_whole: bool = True) -> None:
        """The message or chunk has come to its end; no reply where the client has left."""
        self._is_in_data = False
        if is_whole:
            self._is_answered = True
            self._forget_message()
        if self._is_busy:
            self._finish(bytes(reply) if reply is not None else b"")
        elif reply is not None:
            self._say(bytes(reply))

    def _unreadable(self, error: Exception) -> Reply:
        """Return the answer to a message that could not be read."""
        if isinstance(error, ContentRefused):
            self._context.events.refused(self._client.name, "end of data", error.reply)
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
        return self._acceptance.open(client, mail.to(transaction.rcpt_tos), arrival)


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
