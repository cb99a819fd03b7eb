"""The envelope of a submission: who sends, who receives, and what MAIL and RCPT said (RFC 5321 section 2.3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from relay.mail.address import Address
from relay.mail.dsn_parameters import Notify, OriginalRecipient, Return, mail_parameters


class Body(StrEnum):
    """The BODY parameter of MAIL (RFC 6152)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One accepted RCPT. `notify` and `original` are its NOTIFY and ORCPT (RFC 3461), None where it had none."""

    address: Address
    notify: Notify | None = None
    original: OriginalRecipient | None = None

    def report_parameters(self, *, smtputf8: bool) -> tuple[str, ...]:
        """Return what RCPT tells a next server that has DSN: what was given and nothing else (RFC 3461 section 5.2.1).

        `smtputf8` says whether that server may be told an ORCPT that is not ASCII.
        """
        if self.notify is None and self.original is None:
            return ()
        original = self.original.as_ascii if self.original and not smtputf8 else self.original
        return tuple(given.parameter for given in (self.notify, original) if given is not None)


@dataclass(unsafe_hash=True, slots=True)
class Envelope:
    """One mail transaction. Nothing of it changes, though it is not frozen, which takes twice as long to make.

    `sender` None is the null sender `<>`; `size` is what SIZE declared, in octets. `ret` and `envid` are RET and ENVID
    (RFC 3461), None and "" where MAIL had none; `envid` is xtext, as it came. `require_tls`: MAIL said REQUIRETLS
    (RFC 8689).
    """

    sender: Address | None
    recipients: tuple[Recipient, ...] = ()
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    size: int = 0
    ret: Return | None = None
    envid: str = ""
    require_tls: bool = False

    def to(self, recipients: Sequence[Recipient]) -> "Envelope":
        """Return the same envelope with these recipients."""
        # dataclasses.replace takes more than twice as long, and this is on the way of every message.
        return Envelope(
            self.sender,
            tuple(recipients),
            self.body,
            self.smtputf8,
            self.size,
            self.ret,
            self.envid,
            self.require_tls,
        )

    @property
    def report_parameters(self) -> tuple[str, ...]:
        """What MAIL tells a next server that has DSN: what was given and nothing else (RFC 3461 section 5.2.1)."""
        return mail_parameters(self.ret, self.envid)
