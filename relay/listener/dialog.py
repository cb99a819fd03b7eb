"""What one client has said so far, and the answers to all commands that need no waiting (RFC 5321 section 4.1.1).

A state machine without I/O: verb and argument in, reply out. DATA, BDAT and AUTH need the network, so the session runs
them: between `envelope_for_data` and `reset`, between `chunks` and `reset`, and between `mechanism` and `logged_in`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import ClassVar, TypeAlias

from relay.directory.client import Client, Login
from relay.listener import replies
from relay.listener.chunking import Chunks
from relay.listener.commands import CommandFault, parse_auth, parse_hello, parse_mail, parse_rcpt
from relay.listener.intake import Intake
from relay.listener.mechanisms import MECHANISMS, Mechanism
from relay.listener.ports import Desk
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id
from relay.settings import Limits

# EHLO alone is answered in several lines.
Answer: TypeAlias = Reply | bytes


class Dialog:
    """The state of one SMTP conversation."""

    def __init__(self, client: Client, desk: Desk, limits: Limits) -> None:
        self.client = client
        # What the session knows of the connection: whether TLS protects it, whether it can still begin, and whether a
        # login may travel on it.
        self.is_tls = False
        self.can_starttls = False
        self.may_log_in = False
        self.hello = ""  # what the client calls itself; "" until EHLO or HELO
        self.is_extended = False
        self._desk = desk
        self._limits = limits
        self._mail: Envelope | None = None
        self._recipients: list[Recipient] = []
        self._recipient_named = False
        self._chunks: Chunks | None = None

    def answer(self, verb: bytes, argument: bytes) -> Answer:
        """Return the answer to one command. Raises CommandFault with the reply that refuses it."""
        command = self._COMMANDS.get(verb)
        if command is None:
            raise CommandFault(replies.UNKNOWN_COMMAND)
        return command(self, argument)

    def reset(self) -> None:
        """Forget the message that was begun; who the client is stays."""
        self._mail = None
        self._recipients = []
        self._recipient_named = False
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None

    def envelope_for_data(self, argument: bytes) -> Envelope:
        """Return the envelope that DATA completes. Raises CommandFault where there is none yet."""
        _refuse_argument(argument)
        self._refuse_within_chunks()
        return self.envelope

    @property
    def envelope(self) -> Envelope:
        """What MAIL and RCPT said. Raises CommandFault where they are missing."""
        mail = self._begun_mail()
        if not self._recipients:
            raise CommandFault(replies.NO_RECIPIENT_LEFT if self._recipient_named else replies.NEED_RECIPIENT)
        return mail.to(self._recipients)

    def chunks(self, new_intake: Callable[[], Intake]) -> Chunks:
        """Return the message that BDAT begins or goes on with.

        Where no message may come now it is one that refuses every chunk; after MAIL, it stays so until the next one.
        """
        if self._chunks is not None:
            return self._chunks
        refusal = None
        try:
            _ = self.envelope
        except CommandFault as fault:
            refusal = fault.reply
        chunks = Chunks(new_intake(), refusal)
        if self._mail is not None:
            self._chunks = chunks
        return chunks

    def mechanism(self, argument: bytes) -> tuple[Mechanism, bytes | None]:
        """Return the mechanism that AUTH begins, and the initial response if there is one.

        Raises CommandFault where there may be no login now.
        """
        if not self.is_extended:
            raise CommandFault(replies.NEED_HELLO)
        if not self.may_log_in:
            raise CommandFault(replies.NEED_TLS if self.can_starttls else replies.NOT_OFFERED)
        if self.client.login:
            raise CommandFault(replies.ALREADY_LOGGED_IN)
        if self._mail is not None:
            raise CommandFault(replies.MAIL_ALREADY_GIVEN)
        command = parse_auth(argument, MECHANISMS)
        return MECHANISMS[command.mechanism], command.initial

    def logged_in(self, login: Login) -> Reply:
        """The client is somebody from now on; what its network may do counts no more."""
        self.client = self.client.logged_in(login)
        return replies.LOGGED_IN

    @property
    def protocol(self) -> str:
        """The word for Received's `with`: with "S" for TLS and "A" for a login.

        RFC 3848; RFC 6531 section 4.3 where the message may need UTF-8. Plain SMTP has no such letters.
        """
        if not self.is_extended:
            return "SMTP"
        word = "UTF8SMTP" if self._mail and self._mail.smtputf8 else "ESMTP"
        return word + "S" * self.is_tls + "A" * bool(self.client.login)

    def arrival(self, protocol: str, now: datetime) -> Arrival:
        """Return how a message comes that is here now, with an id of its own."""
        return Arrival(
            helo=self.hello,
            peer=self.client.peer,
            hostname=self._desk.hostname,
            protocol=protocol,
            id=new_id(now),
            received_at=now,
            login=self.client.login,
        )

    def _refuse_within_chunks(self) -> None:
        if self._chunks is not None:
            raise CommandFault(replies.CHUNKS_BEGUN)

    def _begun_mail(self) -> Envelope:
        if not self.hello:
            raise CommandFault(replies.NEED_HELLO)
        if self._mail is None:
            raise CommandFault(replies.NEED_MAIL)
        return self._mail

    def _ehlo(self, argument: bytes) -> Answer:
        self._greet(argument, is_extended=True)
        return replies.extended_hello(self._desk.hostname, self._extensions())

    def _helo(self, argument: bytes) -> Answer:
        self._greet(argument, is_extended=False)
        return replies.hello(self._desk.hostname)

    def _greet(self, argument: bytes, *, is_extended: bool) -> None:
        self.hello = parse_hello(argument)
        self.is_extended = is_extended
        self.reset()

    def _extensions(self) -> tuple[str, ...]:
        return (
            f"SIZE {self._limits.message_size}",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "PIPELINING",
            "CHUNKING",
            f"LIMITS RCPTMAX={self._limits.recipients}",
            *(["STARTTLS"] if self.can_starttls else []),
            *(["REQUIRETLS"] if self.is_tls else []),
            *(["AUTH " + b" ".join(MECHANISMS).decode()] if self.may_log_in else []),
            "ENHANCEDSTATUSCODES",
        )

    def _mail_command(self, argument: bytes) -> Answer:
        if not self.hello:
            raise CommandFault(replies.NEED_HELLO)
        if self._mail is not None:
            raise CommandFault(replies.MAIL_ALREADY_GIVEN)
        envelope = parse_mail(argument)
        if envelope.size > self._limits.message_size:
            raise CommandFault(replies.TOO_LARGE)
        if envelope.require_tls and not self.is_tls:
            raise CommandFault(replies.NEED_TLS_FOR_REQUIRETLS)
        refusal = self._desk.check_sender(self.client, envelope)
        if refusal is not None:
            raise CommandFault(refusal)
        self._mail = envelope
        return replies.SENDER_OK

    def _rcpt(self, argument: bytes) -> Answer:
        mail = self._begun_mail()
        self._refuse_within_chunks()
        self._recipient_named = True
        recipient = parse_rcpt(argument)
        if not recipient.address.is_ascii and not mail.smtputf8:
            raise CommandFault(replies.NEED_SMTPUTF8)
        if len(self._recipients) >= self._limits.recipients:
            raise CommandFault(replies.TOO_MANY_RECIPIENTS)
        self._recipients.append(recipient)
        return replies.RECIPIENT_OK

    def _rset(self, argument: bytes) -> Answer:
        _refuse_argument(argument)
        self.reset()
        return replies.OK

    def _quit(self, argument: bytes) -> Answer:
        _refuse_argument(argument)
        return replies.GOODBYE

    def _noop(self, _argument: bytes) -> Answer:
        return replies.OK

    def _help(self, _argument: bytes) -> Answer:
        return replies.HELP

    def _vrfy(self, _argument: bytes) -> Answer:
        return replies.CANNOT_VERIFY

    def _starttls(self, argument: bytes) -> Answer:
        if self.is_tls:
            raise CommandFault(replies.ALREADY_TLS)
        if not self.can_starttls:
            raise CommandFault(replies.NOT_OFFERED)
        _refuse_argument(argument)
        return replies.READY_FOR_TLS

    def _not_offered(self, _argument: bytes) -> Answer:
        raise CommandFault(replies.NOT_OFFERED)

    # RFC 5321 section 4.1.1: each is a function of the dialog and the argument. An unlisted verb is not recognized.
    _COMMANDS: ClassVar[Mapping[bytes, Callable[["Dialog", bytes], Answer]]] = MappingProxyType(
        {
            b"EHLO": _ehlo,
            b"HELO": _helo,
            b"MAIL": _mail_command,
            b"RCPT": _rcpt,
            b"RSET": _rset,
            b"QUIT": _quit,
            b"NOOP": _noop,
            b"HELP": _help,
            b"VRFY": _vrfy,
            b"STARTTLS": _starttls,
            b"AUTH": _not_offered,
            b"BDAT": _not_offered,
            b"EXPN": _not_offered,
            b"ETRN": _not_offered,
            b"ATRN": _not_offered,
            b"TURN": _not_offered,
            b"SEND": _not_offered,
            b"SOML": _not_offered,
            b"SAML": _not_offered,
        }
    )


def _refuse_argument(argument: bytes) -> None:
    if argument:
        raise CommandFault(replies.NO_ARGUMENT)
