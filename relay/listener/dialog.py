"""What one client has said so far, and the answers to all commands that need no waiting (RFC 5321 section 4.1.1).

A state machine without I/O: verb and argument in, reply out. DATA needs the network, so the session runs it between
`envelope_for_data` and `reset`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, TypeAlias

from relay.directory.client import Client
from relay.listener import replies
from relay.listener.commands import CommandFault, parse_hello, parse_mail, parse_rcpt
from relay.listener.ports import Desk
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply
from relay.settings import Limits

# EHLO alone is answered in several lines.
Answer: TypeAlias = Reply | bytes


class Dialog:
    """The state of one SMTP conversation."""

    def __init__(self, client: Client, desk: Desk, limits: Limits) -> None:
        self.client = client
        self.hello = ""  # what the client calls itself; "" until EHLO or HELO
        self.is_extended = False
        self._desk = desk
        self._limits = limits
        self._mail: Envelope | None = None
        self._recipients: list[Recipient] = []
        self._recipient_named = False

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

    def envelope_for_data(self, argument: bytes) -> Envelope:
        """Return the envelope that DATA completes. Raises CommandFault where there is none yet."""
        _refuse_argument(argument)
        mail = self._begun_mail()
        if not self._recipients:
            raise CommandFault(replies.NO_RECIPIENT_LEFT if self._recipient_named else replies.NEED_RECIPIENT)
        return replace(mail, recipients=tuple(self._recipients))

    @property
    def protocol(self) -> str:
        """The word for Received's `with` (RFC 3848; RFC 6531 section 4.3 where the message may need UTF-8)."""
        if self._mail and self._mail.smtputf8:
            return "UTF8SMTP"
        return "ESMTP" if self.is_extended else "SMTP"

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
        size = f"SIZE {self._limits.message_size}"
        return (size, "8BITMIME", "SMTPUTF8", "DSN", "PIPELINING", "ENHANCEDSTATUSCODES")

    def _mail_command(self, argument: bytes) -> Answer:
        if not self.hello:
            raise CommandFault(replies.NEED_HELLO)
        if self._mail is not None:
            raise CommandFault(replies.MAIL_ALREADY_GIVEN)
        command = parse_mail(argument)
        if command.size > self._limits.message_size:
            raise CommandFault(replies.TOO_LARGE)
        envelope = Envelope(
            command.sender,
            body=command.body,
            smtputf8=command.smtputf8,
            size=command.size,
            ret=command.ret,
            envid=command.envid,
        )
        refusal = self._desk.check_sender(self.client, envelope)
        if refusal is not None:
            raise CommandFault(refusal)
        self._mail = envelope
        return replies.SENDER_OK

    def _rcpt(self, argument: bytes) -> Answer:
        mail = self._begun_mail()
        self._recipient_named = True
        recipient = parse_rcpt(argument).recipient
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
            b"STARTTLS": _not_offered,
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
