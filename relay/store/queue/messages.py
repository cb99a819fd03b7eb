"""What the store keeps of a message: whom it is for, what became of it, and what is to be done next.

States, phases and meanings are plain words here. The store never decides by them: a message waits for an attempt
when it has a `next_attempt`, is under way while somebody holds its lease, and is over when it is finished.

Nothing of a value here changes, though those that every message needs are not frozen: that would take twice as
long to make one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple

from relay.directory.client import Client
from relay.mail.content import Content
from relay.mail.envelope import Envelope, Recipient
from relay.mail.header import KeptChanges
from relay.mail.trace import Arrival


class Fenced(Exception):
    """The message was taken over by somebody else, or is gone: nothing was written."""


class Leased(Exception):
    """The message is under way just now, so it cannot be edited: nothing was written."""


class NoContent(Exception):
    """The store has no content of this message: it is finished, or unknown."""


class Damaged(Exception):
    """The store has another content or envelope of this message than what came. The text says how that shows."""


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class StoredRecipient:
    """One recipient, `number` from 0 in the order of the envelope; `reply` is the last answer about it."""

    number: int
    recipient: Recipient
    state: str
    reply: str = ""
    meaning: str = ""
    changed: datetime | None = None


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class StoredMessage:
    """A message without its content.

    `envelope` holds the same recipients as `recipients`, in the same order. `profile` None is nobody's. `server` and
    `username` are the account of the last attempt. `attempts` is the number of the last attempt, `fence` grows whenever
    the message is taken. `held_seconds` counts the holds that are over, `held_since` begins the present one, and
    `held_by` says whose hold that is ("" is nobody's but the message's own). `clock_ahead`: by how many seconds the
    wall clock, which `created` is by, was ahead of the steady one (`relay.store.db.clocks`). `digest` is the
    digest of envelope and content (`relay.store.queue.contents`), None where the store has none: for a new message it
    makes it.
    """

    id: str
    created: datetime
    profile: str | None
    client: Client
    arrival: Arrival
    envelope: Envelope
    recipients: tuple[StoredRecipient, ...]
    size: int
    message_id: str
    subject: str
    state: str
    next_attempt: datetime | None
    attempts: int = 0
    unknowns: int = 0
    held_since: datetime | None = None
    held_seconds: float = 0.0
    held_by: str = ""
    warned: bool = False
    reason: str = ""
    is_report: bool = False
    server: str = ""
    username: str = ""
    delivered: datetime | None = None
    reply: str = ""
    fence: int = 0
    clock_ahead: float = 0.0
    digest: bytes | None = field(default=None, compare=False)

    def changed(self, **facts: Any) -> "StoredMessage":
        """Return the message with other facts. `dataclasses.replace` asks for each fact, which takes three times as
        long."""
        return StoredMessage(**dict(zip(_FACTS, _facts_of(self), strict=True)) | facts)


_FACTS = tuple(each.name for each in fields(StoredMessage))
_facts_of = attrgetter(*_FACTS)


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class Attempt:
    """One try to hand a message over, `number` from 1. It is open until it has `ended`.

    `changes` is what it made another in the header. None: it is not known, or the next attempt tells it.
    """

    number: int
    started: datetime
    server: str
    username: str
    phase: str
    final_dot: bool = False
    ended: datetime | None = None
    reply: str = ""
    meaning: str = ""
    tls: str = ""
    changes: KeptChanges | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnRow:
    """What a report said that came after a server had taken the message: that it came back from recipient `number`.

    `found` is when we saw the report, `status` an enhanced code, `words` its reason, and `reporter` who sent it.
    """

    number: int
    found: datetime
    status: str
    words: str
    reporter: str


class NewEvent(NamedTuple):
    """One event for one webhook (its URL). `id` is that of the event, `body` its JSON."""

    id: str
    webhook: str
    message: str
    at: datetime
    body: str


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class NewMessage:
    """A message for the store. Without `content` it is history: finished from the start.

    An `attempt` is recorded with it. If that is open, the message is under way: whoever adds it holds its lease, with
    the fence that the message says. `events` are what is told of it; None: that is to be found out.
    """

    message: StoredMessage
    content: Content | None
    attempt: Attempt | None = None
    events: Sequence[NewEvent] | None = None

    def __post_init__(self) -> None:
        if self.content is None and self.message.next_attempt is not None:
            raise ValueError("a message without content has no next attempt")

    @property
    def is_under_way(self) -> bool:
        """Whether it comes with an open attempt, and so with a lease."""
        return self.content is not None and self.attempt is not None and self.attempt.ended is None


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class Settlement:
    """What became of an attempt, or of an edit by hand: the message's new facts, all written or none.

    `recipients` are those that changed. `attempt` is recorded in place of what was known of it. `is_finished` ends
    the message and deletes its content. `reports` are stored together with it.
    `event` is what is told of the message as it is `after` that; "" is nothing.
    """

    id: str
    fence: int
    recipients: tuple[StoredRecipient, ...]
    state: str
    next_attempt: datetime | None
    reason: str
    unknowns: int
    warned: bool
    held_since: datetime | None
    held_seconds: float
    delivered: datetime | None
    reply: str
    attempt: Attempt | None
    is_finished: bool
    held_by: str = ""
    reports: tuple[NewMessage, ...] = ()
    event: str = ""
    after: StoredMessage | None = None

    def __post_init__(self) -> None:
        if self.is_finished and self.next_attempt is not None:
            raise ValueError("a finished message has no next attempt")


Change = Callable[[StoredMessage], Settlement | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRow:
    """Why an account, or with `address` one address of it, gets no mail. `until` None: until somebody ends it."""

    server: str
    username: str
    address: str
    meaning: str
    reason: str
    since: datetime
    until: datetime | None
    probes: int
    next_probe: datetime | None
    secret_version: str = ""
