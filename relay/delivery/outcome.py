"""What follows from an attempt: the new states, when it is tried again, what the account suffers, what is reported.

Pure. The same rules judge a message whose client still waits and one that comes from the queue. Everything that decides
the state of a recipient's copy goes through the table of states, which docs/architecture.md shows drawn from here; a
message's own state follows from those of its copies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from relay.config.settings import Delivery
from relay.directory.model import Meaning
from relay.mail.reply import Reply
from relay.store.queue.messages import StoredMessage, StoredRecipient
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import Progress

# The states, and every way from one to another


class State(StrEnum):
    """Where a copy is."""

    QUEUED = "queued"  # on disk, waiting for its next attempt
    SENDING = "sending"  # an attempt is under way
    UNKNOWN = "unknown"  # our final dot was sent and no answer came: the server may have it
    HELD = "held"  # nothing happens until a hold is lifted
    DELIVERED = "delivered"  # the server took it
    FAILED = "failed"  # refused for good, or given up
    REMOVED = "removed"  # taken out by hand

    @property
    def is_final(self) -> bool:
        """Whether nothing follows any more."""
        return not TRANSITIONS[self]


class Event(StrEnum):
    """What happens to a copy."""

    BEGIN = "begin"  # an attempt starts
    ACCEPT = "accept"  # the server took it
    REFUSE = "refuse"  # the server refused it for good
    DEFER = "defer"  # not now
    LOSE = "lose"  # no answer after our final dot
    HOLD = "hold"  # its account, its address or the message itself is held
    RELEASE = "release"  # the hold is lifted
    GIVE_UP = "give up"  # it waited long enough
    REMOVE = "remove"  # by hand


TRANSITIONS: Mapping[str, Mapping[Event, State]] = MappingProxyType(
    {
        State.QUEUED: {
            Event.BEGIN: State.SENDING,
            Event.HOLD: State.HELD,
            Event.DEFER: State.QUEUED,
            Event.REFUSE: State.FAILED,
            Event.GIVE_UP: State.FAILED,
            Event.REMOVE: State.REMOVED,
        },
        State.SENDING: {
            Event.ACCEPT: State.DELIVERED,
            Event.REFUSE: State.FAILED,
            Event.DEFER: State.QUEUED,
            Event.LOSE: State.UNKNOWN,
            Event.HOLD: State.HELD,
            Event.GIVE_UP: State.FAILED,
        },
        State.UNKNOWN: {
            Event.BEGIN: State.SENDING,
            Event.HOLD: State.HELD,
            Event.REMOVE: State.REMOVED,
        },
        State.HELD: {
            Event.RELEASE: State.QUEUED,
            Event.REMOVE: State.REMOVED,
        },
        State.DELIVERED: {},
        State.FAILED: {},
        State.REMOVED: {},
    }
)

# The first of these that any copy is in, is the message's state: what is under way or open counts before what is over.
# What a person has removed counts before what came of the other copies, which each say so themselves.
_ORDER = (
    State.SENDING,
    State.UNKNOWN,
    State.QUEUED,
    State.HELD,
    State.REMOVED,
    State.FAILED,
    State.DELIVERED,
)


_FINAL = frozenset(state for state in State if state.is_final)


class IllegalMove(Exception):
    """No such transition: a fault of ours."""


def next_state(state: str, event: Event) -> State:
    """Return the state after an event; `state` may be the bare word. Raises IllegalMove."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalMove(f"a copy that is {state} cannot {event}") from None


def message_state(states: Iterable[str]) -> State:
    """Return the state of a message with copies in these states (at least one), which may be bare words."""
    present = set(states)
    if len(present) == 1:
        return State(present.pop())
    return next(state for state in _ORDER if state in present)


# When a message is tried again, warned about and given up

_SPREAD = 0.1  # each pause is spread by +-10 %, so that what failed together is not tried together


class Unknown(StrEnum):
    """What follows when a server gave no answer after our final dot."""

    RETRY = "retry"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The settings of [delivery] that say when; all in seconds."""

    retry: tuple[float, ...]
    warn_after: float
    give_up_after: float
    probe: tuple[float, ...]
    unknown: Unknown
    unknown_pause: float

    @classmethod
    def of(cls, delivery: Delivery) -> "Schedule":
        """Return the schedule that the settings say."""
        return cls(
            retry=delivery.retry,
            warn_after=delivery.warn_after,
            give_up_after=delivery.give_up_after,
            probe=delivery.probe,
            unknown=Unknown(delivery.unknown),
            unknown_pause=delivery.unknown_pause,
        )

    @property
    def longest(self) -> float:
        """In so many seconds, at the latest, whatever waits is tried again."""
        return max(*self.retry, self.unknown_pause, 0.0) * (1 + _SPREAD)

    def next_attempt(self, now: datetime, attempts: int, chance: float) -> datetime:
        """Return when to try again after `attempts` tries (1 or more); `chance` in 0..1 spreads it."""
        pause = step(self.retry, attempts - 1) * (1 - _SPREAD + 2 * _SPREAD * chance)
        return now + timedelta(seconds=pause)

    def next_probe(self, now: datetime, probes: int) -> datetime:
        """Return when a held account tries its login again after `probes` tries (0 or more)."""
        return now + timedelta(seconds=step(self.probe, probes))

    def next_mark(self, waited: float, *, is_warned: bool) -> float | None:
        """Return how long until a message that has waited so long is late or over: it is tried again by then.

        Without it a sender would be told of a delay only after the next pause, which is hours long by then.
        """
        marks = (self.give_up_after,) if is_warned else (self.warn_after, self.give_up_after)
        return min((mark - waited for mark in marks if mark > waited), default=None)

    def is_late(self, waited: float) -> bool:
        """Whether the sender is told of a delay after `waited` seconds, held time taken off."""
        return waited >= self.warn_after

    def is_over(self, waited: float) -> bool:
        """Whether a message is given up after `waited` seconds, held time taken off."""
        return waited >= self.give_up_after


def step(pauses: Sequence[float], number: int) -> float:
    """Return the pause of a step, counted from 0; the last repeats."""
    return pauses[min(number, len(pauses) - 1)]


# What an attempt makes of its message

# How long an account rests where the server names no window. Microsoft names none for a lock-out and lifts it by
# itself (providers.md); quotas are rolling, so that every hour some of it is free again.
REST_SECONDS: Mapping[Meaning, float] = {
    Meaning.QUOTA: 3600,
    Meaning.LOCK_OUT: 4 * 3600,
    Meaning.ACCOUNT_FULL: 3600,
}
# What holds the account, and so its mail, instead of counting against a message.
HOLDING = frozenset({*REST_SECONDS, Meaning.LOGIN_REFUSED, Meaning.IDENTITY_REFUSED})
_REST = Failure(
    phase=Phase.RCPT,
    reply=Reply(452, "4.5.3", "This recipient follows in another transaction"),
    meaning=Meaning.TEMPORARY,
    from_server=False,
    in_next_transaction=True,
)
# After these the others have a chance of their own: the server judged, or may have, a message for the first ones.
_ABOUT_THE_FIRST = frozenset({Meaning.REFUSED, Meaning.UNKNOWN})


@dataclass(unsafe_hash=True, slots=True)
class Copy:
    """What happened to one recipient's copy: `failure` None where the server took it, with its `reply`."""

    number: int
    reply: Reply
    failure: Failure | None = None


@dataclass(unsafe_hash=True, slots=True, kw_only=True)
class Verdict:
    """The message as it is from now on, and what else is owed.

    `failed` and `delivered` are the copies that ended with this attempt, `waiting` those that were put off to
    another; `is_delayed`: their sender has waited long enough to be told.
    """

    message: StoredMessage
    failed: tuple[Copy, ...] = ()
    delivered: tuple[Copy, ...] = ()
    waiting: tuple[Copy, ...] = ()
    is_delayed: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the message is to be tried again, now or after a hold."""
        return self.message.state not in _FINAL


def copies_of(message: StoredMessage, outcome: Outcome) -> tuple[Copy, ...]:
    """Return what an outcome means for the open copies of a message, which were the transfer's recipients in order."""
    copies: list[Copy] = []
    for index, recipient in enumerate(sending(message)):
        failure = outcome.failure_at(index)
        reply = outcome.accepted if failure is None else failure.reply
        assert reply is not None
        copies.append(Copy(recipient.number, reply, failure))
    return tuple(copies)


def sending(message: StoredMessage) -> tuple[StoredRecipient, ...]:
    """Return the recipients whose copies an attempt is about."""
    return tuple([recipient for recipient in message.recipients if recipient.state == State.SENDING])


def waited_seconds(message: StoredMessage, now: datetime, ahead: float) -> float:
    """Return how long a message has waited, time spent held taken off, and what the clock was set by since it came."""
    return (now - message.created).total_seconds() - (ahead - message.clock_ahead) - message.held_seconds


def judge(
    message: StoredMessage,
    copies: tuple[Copy, ...],
    *,
    now: datetime,
    schedule: Schedule,
    chance: float,
    ahead: float = 0.0,
) -> Verdict:
    """Return what follows from an attempt. Its copies are SENDING; `chance` in 0..1 spreads the next attempt.

    A copy that was no part of it stays the same value. `ahead`: seconds that the clock is ahead of the steady one.
    """
    waited = waited_seconds(message, now, ahead)
    is_over = schedule.is_over(waited)
    recipients = {one.number: one for one in message.recipients}  # in their order
    failed: list[Copy] = []
    delivered: list[Copy] = []
    waiting: list[Copy] = []
    reason, has_unknown = "", False
    for copy in copies:
        event, failure = _event(copy.failure, message.unknowns, schedule, is_over=is_over), copy.failure
        recipients[copy.number] = _moved(recipients[copy.number], copy, event, now)
        if event is Event.ACCEPT:
            delivered.append(copy)
        elif event is Event.DEFER:
            # A sender is told what is known: not of a copy that the server may have, nor that what is held is tried
            # again.
            waiting.append(copy)
        elif event is Event.REFUSE or event is Event.GIVE_UP:
            failed.append(copy)
        if failure is not None:
            reason = reason or _why(failure)
            has_unknown = has_unknown or failure.meaning is Meaning.UNKNOWN
    moved = tuple(recipients.values())
    state = message_state([recipient.state for recipient in moved])
    is_delayed = bool(waiting) and not message.warned and schedule.is_late(waited)
    attempts, is_warned = message.attempts + 1, message.warned or is_delayed
    again = None
    if state is State.QUEUED or state is State.UNKNOWN:
        again = _next_attempt(attempts, state, copies, now, schedule, chance, waited, is_warned=is_warned)
    judged = message.changed(
        recipients=moved,
        state=str(state),
        next_attempt=again,
        attempts=attempts,
        unknowns=message.unknowns + has_unknown,
        held_since=now if state is State.HELD else None,
        warned=is_warned,
        reason="" if state in _FINAL else reason or _held_reason(moved),
        reply=_reply(state, moved),
        delivered=now if state is State.DELIVERED else None,
    )
    return Verdict(
        message=judged,
        failed=tuple(failed),
        delivered=tuple(delivered),
        waiting=tuple(waiting),
        is_delayed=is_delayed,
    )


def consequence_of(outcome: Outcome) -> Failure | None:
    """Return the failure that concerns the account, None where none does."""
    failures = (*outcome.refused.values(), outcome.failure)
    return next((one for one in failures if one and (one.meaning in HOLDING or one.meaning is Meaning.THROTTLE)), None)


def _next_attempt(
    attempts: int,
    state: State,
    copies: tuple[Copy, ...],
    now: datetime,
    schedule: Schedule,
    chance: float,
    waited: float,
    *,
    is_warned: bool,
) -> datetime:
    if state is State.UNKNOWN:
        return now + timedelta(seconds=schedule.unknown_pause)
    # A server that takes some recipients now and the rest in another transaction is asked at once (RFC 5321
    # section 4.5.3.1.10), but only while each transaction gets on.
    has_rest = any(copy.failure and copy.failure.in_next_transaction for copy in copies)
    if has_rest and any(copy.failure is None or copy.failure.meaning is Meaning.REFUSED for copy in copies):
        return now
    moment = schedule.next_attempt(now, attempts, chance)
    mark = schedule.next_mark(waited, is_warned=is_warned)
    return moment if mark is None else min(moment, now + timedelta(seconds=mark))


def begun(message: StoredMessage) -> StoredMessage:
    """Return the message with its open copies SENDING.

    A copy that waits for its account goes along: were that held, there would be no attempt. One that a server may
    have twice waits for a person.
    """
    recipients = tuple(
        replace(recipient, state=str(_begun(recipient.state, recipient.meaning))) for recipient in message.recipients
    )
    return message.changed(recipients=recipients, state=str(State.SENDING))


def _begun(state: str, meaning: str) -> str:
    if state == State.HELD and meaning in HOLDING:
        state = next_state(state, Event.RELEASE)
    return next_state(state, Event.BEGIN) if state in {State.QUEUED, State.UNKNOWN} else state


def interrupted(message: StoredMessage, failure: Failure, *, now: datetime, again: datetime) -> StoredMessage:
    """Return a message whose attempt ended with us, before its final dot: it is tried `again`.

    Nothing is judged by how long it has waited. The next attempt does that, and tells the sender.
    """
    recipients = tuple(
        _moved(one, Copy(one.number, failure.reply, failure), Event.DEFER, now) if one.state == State.SENDING else one
        for one in message.recipients
    )
    return message.changed(
        recipients=recipients,
        state=str(message_state(one.state for one in recipients)),
        attempts=message.attempts + 1,
        next_attempt=again,
        reason=_why(failure),
        reply=str(failure.reply),
    )


def _event(failure: Failure | None, unknowns: int, schedule: Schedule, *, is_over: bool) -> Event:
    if failure is None:
        return Event.ACCEPT
    if failure.meaning is Meaning.REFUSED:
        return Event.REFUSE
    if failure.meaning is Meaning.UNKNOWN:
        may_retry = schedule.unknown is Unknown.RETRY and unknowns == 0
        return Event.LOSE if may_retry else Event.HOLD
    if failure.meaning in HOLDING:
        return Event.HOLD
    return Event.GIVE_UP if is_over else Event.DEFER


def _moved(recipient: StoredRecipient, copy: Copy, event: Event, now: datetime) -> StoredRecipient:
    return StoredRecipient(
        number=recipient.number,
        recipient=recipient.recipient,
        state=str(next_state(recipient.state, event)),
        reply=str(copy.reply),
        meaning=str(copy.failure.meaning) if copy.failure is not None else "",
        changed=now,
    )


def _why(failure: Failure) -> str:
    """Return why a message is still here, in the server's words."""
    return f"{failure.meaning}: {failure.why}"


def _held_reason(recipients: tuple[StoredRecipient, ...]) -> str:
    """Return why a message waits whose last attempt went well: the copies that were no part of it."""
    return next((f"{one.meaning}: {one.reply}" for one in recipients if one.state == State.HELD), "")


def _reply(state: State, recipients: tuple[StoredRecipient, ...]) -> str:
    """Return the last answer about a copy that the message has its state from."""
    return next(one.reply for one in recipients if one.state == state)


def is_about_null_sender(failure: Failure) -> bool:
    """Whether a server refused MAIL FROM:<> as such: at once, or later as an address that the account may not use."""
    if failure.meaning is Meaning.IDENTITY_REFUSED:
        return True
    is_refusal = failure.meaning in {Meaning.REFUSED, Meaning.LOGIN_REFUSED}
    return failure.phase is Phase.MAIL and failure.from_server and failure.reply.is_permanent and is_refusal


def without_blame(outcome: Outcome, meaning: Meaning) -> Outcome:
    """Return the outcome as one that holds no account: a refusal stays one, and everything else may be tried again."""
    if meaning is Meaning.REFUSED:
        return replace(outcome, refuses_null_sender=True)

    def lenient(failure: Failure) -> Failure:
        return replace(failure, meaning=Meaning.TEMPORARY) if failure.meaning is meaning else failure

    assert outcome.failure is not None
    return replace(
        outcome,
        failure=lenient(outcome.failure),
        refused={index: lenient(failure) for index, failure in outcome.refused.items()},
        refuses_null_sender=True,
    )


def used_recipients(number: int, outcome: Outcome | None, progress: Progress) -> int:
    """Return for how many recipients the server has the message, or may have it: those count for the provider."""
    if outcome is None:  # cancelled, or a fault of ours
        return number if progress.final_dot_sent else 0
    if outcome.failure is not None and outcome.failure.meaning is not Meaning.UNKNOWN:
        return 0
    return number - len(outcome.refused)


def with_rest(outcome: Outcome, done: int, total: int) -> Outcome:
    """Return the outcome of a transaction for the first `done` of `total` recipients: the others follow in another."""
    if done == total or (outcome.failure is not None and outcome.failure.meaning not in _ABOUT_THE_FIRST):
        return outcome
    return replace(outcome, refused={**outcome.refused, **dict.fromkeys(range(done, total), _REST)})


def is_refused_for_all(outcome: Outcome, recipients: int) -> bool:
    """Whether nobody has the message, and each of the recipients was refused for good."""
    failures = [outcome.failure_at(index) for index in range(recipients)]
    return outcome.accepted is None and all(_is_refusal(failure) for failure in failures if failure)


def _is_refusal(failure: Failure) -> bool:
    """Whether a failure is about the message or recipient, and for good."""
    return failure.meaning is Meaning.REFUSED and failure.reply.is_permanent


def may_be_there(outcome: Outcome) -> bool:
    """Whether the server may have the message for somebody."""
    return outcome.failure is None or outcome.failure.phase is Phase.FINAL
