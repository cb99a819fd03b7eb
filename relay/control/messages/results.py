"""What the operations on messages return: the keys of the JSON as fields. Times are those of RFC 3339, in UTC."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientRecord:
    """One recipient: the state that its copy is in, and what the server said to it last."""

    address: str
    state: str
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedRecord:
    """What a report said that came after the server had taken the message."""

    found: str
    status: str
    words: str
    reporter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyRecipient(RecipientRecord):
    """A recipient, and what came back from there; None where nothing did."""

    returned: ReturnedRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRecord:
    """A message that waits. `server` is where it goes next, None where its route is gone."""

    id: str
    state: str
    sender: str
    profile: str | None
    server: str | None
    recipients: Sequence[RecipientRecord]
    size: int
    created: str
    next_attempt: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueItem(QueueRecord):
    """A message that waits as a page of the queue lists it."""

    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRecord:
    """A message that waits, or one of which all is over."""

    id: str
    message_id: str
    sender: str
    recipients: Sequence[RecipientRecord]
    profile: str | None
    server: str | None
    state: str
    created: str
    delivered: str | None
    reply: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryItem(HistoryRecord):
    """A message as a page of the history lists it."""

    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderChangeRecord:
    """One header field that was changed; `before` is "" where it was added, `after` where it was removed."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt. `ended` None: it is under way. `meaning` "": the server took the message.

    `changes` None: nobody knows what was changed in the header; `changes_left_out` is how many are not kept.
    """

    number: int
    started: str
    ended: str | None
    account: str | None
    phase: str
    final_dot: bool
    reply: str
    meaning: str
    tls: str
    changes: Sequence[HeaderChangeRecord] | None
    changes_left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRecord:
    """A report about a message to its sender: a message of its own. `kind`: "failed", "delayed" or "delivered"."""

    id: str
    kind: str
    state: str
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyRecord(HistoryRecord):
    """All that is known of a message: the keys of both lists, how it came, every attempt, and what came back."""

    recipients: Sequence[JourneyRecipient]
    size: int
    next_attempt: str | None
    reason: str
    subject: str
    client: str
    peer: str
    helo: str
    protocol: str
    account: str | None
    held_since: str | None
    held_by: str | None
    is_report: bool
    attempts: Sequence[AttemptRecord]
    reports: Sequence[ReportRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRecord:
    """By which route a message would leave now, and what would be changed in its header."""

    profile: str | None
    server: str
    account: str
    identity: str
    override: bool
    sender: str
    script: str | None
    reason: str
    changes: Sequence[HeaderChangeRecord] | None
    changes_left_out: int


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A part of a list. `next` is given back as `after` (of the audit: as `before`); None at the end."""

    items: Sequence[Item]
    next: str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """How many messages are tried now."""

    ok: bool = True
    retried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDone:
    """Something was done with the message of this whole id."""

    ok: bool = True
    id: str


@dataclass(frozen=True, slots=True)
class MessageChunk:
    """A part of a message as it came, in base64."""

    chunk: str


@dataclass(frozen=True, slots=True)
class FollowBegun:
    """What was there before has been told; what follows is news."""

    begun: bool = True


@dataclass(frozen=True, slots=True)
class FollowQuiet:
    """Nothing happened for a while: an empty object, by which both sides notice an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRecord:
    """How many messages came in one step of time, by the state that they are in now."""

    at: str
    delivered: int
    failed: int
    queued: int
    held: int
    other: int


@dataclass(frozen=True, slots=True)
class ChangedHeader:
    """What these attempts changed, by their numbers, and how many more changes are not kept."""

    attempts: Sequence[int]
    changes: Sequence[HeaderChangeRecord]
    left_out: int

    @property
    def whose(self) -> str:
        """Return whose changes these are: "attempt 2", "attempts 1 to 3", "attempts 1, 3"."""
        first, last = self.attempts[0], self.attempts[-1]
        if first == last:
            return f"attempt {first}"
        is_row = last - first + 1 == len(self.attempts)
        return f"attempts {first} to {last}" if is_row else f"attempts {', '.join(map(str, self.attempts))}"


def changed_headers(attempts: Sequence[AttemptRecord]) -> list[ChangedHeader]:
    """Return what attempts changed, told once where several changed the same, in the order of the first of each.

    Those of which it is not known, or whose message never left, are left out.
    """
    found: list[ChangedHeader] = []
    for attempt in attempts:
        changes, left_out = attempt.changes, attempt.changes_left_out
        if changes is None:
            continue
        same = next((at for at, one in enumerate(found) if (one.changes, one.left_out) == (changes, left_out)), None)
        if same is None:
            found.append(ChangedHeader((attempt.number,), changes, left_out))
        else:
            found[same] = ChangedHeader((*found[same].attempts, attempt.number), changes, left_out)
    return found
