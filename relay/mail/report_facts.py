"""What a report is about, and who gets one at all (RFC 3461 sections 5.2 and 6, RFC 3464 section 2.3)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.dsn_parameters import Event, Notify
from relay.mail.envelope import Envelope, Recipient
from relay.mail.reply import Reply

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


class ReportKind(StrEnum):
    """What a report tells; one report is of one kind."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"


class Action(StrEnum):
    """What became of the message for one recipient (RFC 3464 section 2.3.3).

    RELAYED: a server took it that makes no reports, so that nobody can say more (RFC 3461 section 5.2.2).
    """

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


_EVENTS: Mapping[ReportKind, Event] = MappingProxyType(
    {ReportKind.FAILED: Event.FAILURE, ReportKind.DELAYED: Event.DELAY, ReportKind.DELIVERED: Event.SUCCESS}
)
KINDS: Mapping[Action, ReportKind] = MappingProxyType(
    {
        Action.FAILED: ReportKind.FAILED,
        Action.DELAYED: ReportKind.DELAYED,
        Action.DELIVERED: ReportKind.DELIVERED,
        Action.RELAYED: ReportKind.DELIVERED,
    }
)
# The classes of a status that an action can have; the first stands where the status is of none of them. What failed
# may have a temporary status: it was given up (RFC 3464 section 2.3.4).
_CLASSES: Mapping[ReportKind, str] = MappingProxyType(
    {ReportKind.FAILED: "54", ReportKind.DELAYED: "4", ReportKind.DELIVERED: "2"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientFacts:
    """What became of the message for one recipient.

    `reply` is the answer of the server `remote_mta`; where that is "", no server answered and the reply is our own.
    `enhanced` is the enhanced code where it is another than the reply's. The times are aware; `will_retry_until` is
    for what is delayed.
    """

    recipient: Recipient
    action: Action
    reply: Reply | None = None
    enhanced: str = ""
    remote_mta: str = ""
    last_attempt: datetime | None = None
    will_retry_until: datetime | None = None

    def __post_init__(self) -> None:
        if self.enhanced and not _ENHANCED.fullmatch(self.enhanced):
            raise ValueError(f"{self.enhanced!r} is no enhanced code")

    @property
    def status(self) -> str:
        """The enhanced code, in a class that the action can have: a delay is never 5.x.x, whatever a server said."""
        given = self.enhanced or (self.reply.enhanced if self.reply else "")
        classes = _CLASSES[KINDS[self.action]]
        return given if given and given[0] in classes else classes[0] + (given[1:] or ".0.0")

    @property
    def needs_utf8(self) -> bool:
        """Whether one of its addresses cannot be written in ASCII."""
        original = self.recipient.original
        return not self.recipient.address.is_ascii or (original is not None and not original.address.isascii())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """One report about one message. All times are aware.

    `id` comes from `new_id` and makes the Message-ID and the boundary; `date` is when the report is written.
    `reporting_mta` is our host name, `identity` the address that the report leaves from. `arrival`, `envelope` and
    `header` (the header block in CRLF lines) are the reported message's, and so is `content`, which is needed only for
    RET=FULL. Raises ValueError for a message that may not be reported, and recipients that are none or of another kind.
    """

    kind: ReportKind
    id: str
    date: datetime
    reporting_mta: str
    identity: Address
    arrival: datetime
    envelope: Envelope
    header: bytes
    recipients: tuple[RecipientFacts, ...]
    content: Content | None = None

    def __post_init__(self) -> None:
        if not may_report(self.envelope):
            raise ValueError("a message from the null sender is never reported")
        if not self.recipients or any(KINDS[facts.action] is not self.kind for facts in self.recipients):
            raise ValueError(f"a report of what is {self.kind} names recipients for whom it is that")

    @property
    def sender(self) -> Address:
        """To whom the report goes."""
        assert self.envelope.sender is not None
        return self.envelope.sender

    @property
    def needs_utf8(self) -> bool:
        """Whether the report is about an address that cannot be written in ASCII (RFC 6533)."""
        return any(facts.needs_utf8 for facts in self.recipients)


def who_wants(kind: ReportKind, notify: Notify | None) -> bool:
    """Whether the sender wants a report of this kind about a recipient with this NOTIFY (RFC 3461 sections 5.2, 6.1).

    Without NOTIFY that is failure and delay, and success only where it was asked for.
    """
    if notify is None:
        return kind is not ReportKind.DELIVERED
    return _EVENTS[kind] in notify.events


def may_report(envelope: Envelope) -> bool:
    """Whether there may be reports about a message: not from the null sender, or reports would cause reports."""
    return envelope.sender is not None
