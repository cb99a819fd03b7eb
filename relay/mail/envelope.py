"""The envelope of a submission: who sends, who receives, and what MAIL and RCPT said (RFC 5321 section 2.3.1)."""

from dataclasses import dataclass
from enum import StrEnum

from relay.mail.address import Address


class Body(StrEnum):
    """The BODY parameter of MAIL (RFC 6152)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One accepted RCPT."""

    address: Address


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail transaction. `sender` None is the null sender `<>`; `size` is what SIZE declared, in octets."""

    sender: Address | None
    recipients: tuple[Recipient, ...] = ()
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    size: int = 0
