"""What a person does with a waiting message: hold, release, try now, remove. Pure; each is a change for `Queue.edit`.

A change returns None where the message is in no state for it, and then nothing is written. What is under way cannot
be changed (the store raises Leased).
"""

from dataclasses import replace
from datetime import datetime

from relay.delivery.outcome import TRANSITIONS, Event, State, message_state, next_state
from relay.store.queue.messages import Change, Settlement, StoredMessage, StoredRecipient

HELD_BY_HAND = "held by hand; let it go on with: relay queue release"


def hold(now: datetime, reason: str = HELD_BY_HAND) -> Change:
    """Return the change that lets a message wait until somebody releases it, whatever becomes of its account."""

    def change(message: StoredMessage) -> Settlement | None:
        moved = _moved(message, Event.HOLD, now)
        if not moved and not message.held_by:
            return None
        event = "held" if moved else ""
        return _settled(message, moved, None, event=event, reason=reason, held_since=message.held_since or now)

    return change


def release(now: datetime) -> Change:
    """Return the change that lets a held message go on, with an attempt now. Its time as held counts for nothing."""

    def change(message: StoredMessage) -> Settlement | None:
        moved = _moved(message, Event.RELEASE, now)
        if not moved:
            return None
        held = max(0.0, (now - message.held_since).total_seconds()) if message.held_since else 0.0
        return _settled(message, moved, now, event="released", held_seconds=message.held_seconds + held)

    return change


def retry(now: datetime) -> Change:
    """Return the change that makes a message due. One that is held stays so."""

    def change(message: StoredMessage) -> Settlement | None:
        return None if message.next_attempt is None else _settled(message, (), now, reason=message.reason)

    return change


def remove(now: datetime) -> Change:
    """Return the change that takes a message out of the queue, for all its open recipients."""

    def change(message: StoredMessage) -> Settlement | None:
        moved = _moved(message, Event.REMOVE, now)
        return _settled(message, moved, None, event="removed") if moved else None

    return change


def _moved(message: StoredMessage, event: Event, now: datetime) -> tuple[StoredRecipient, ...]:
    """Return the recipients to whose copies this can happen, as they are after it."""
    return tuple(
        replace(one, state=str(next_state(State(one.state), event)), changed=now)
        for one in message.recipients
        if event in TRANSITIONS[State(one.state)]
    )


def _settled(
    message: StoredMessage,
    moved: tuple[StoredRecipient, ...],
    next_attempt: datetime | None,
    *,
    event: str = "",
    reason: str = "",
    held_since: datetime | None = None,
    held_seconds: float | None = None,
) -> Settlement:
    """Return the settlement of a change that left these recipients other than before."""
    after = {one.number: one for one in message.recipients} | {one.number: one for one in moved}
    state = message_state(State(one.state) for one in after.values())
    held = message.held_seconds if held_seconds is None else held_seconds
    settled = replace(
        message,
        recipients=tuple(after[number] for number in sorted(after)),
        state=str(state),
        next_attempt=next_attempt,
        reason=reason,
        held_since=held_since,
        held_seconds=held,
        held_by="",
    )
    return Settlement(
        id=message.id,
        fence=message.fence,
        recipients=moved,
        state=settled.state,
        next_attempt=next_attempt,
        reason=reason,
        unknowns=message.unknowns,
        warned=message.warned,
        held_since=held_since,
        held_seconds=held,
        delivered=message.delivered,
        reply=message.reply,
        attempt=None,
        is_finished=state.is_final,
        event=event,
        after=settled,
    )
