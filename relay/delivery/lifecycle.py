"""The states of a recipient's copy of a message, and every way from one to another.

Everything that decides a state goes through this table; docs/architecture.md shows it drawn from here. A message's
own state follows from its recipients'.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType


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


TRANSITIONS: Mapping[State, Mapping[Event, State]] = MappingProxyType(
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


class IllegalMove(Exception):
    """No such transition: a fault of ours."""


def next_state(state: State, event: Event) -> State:
    """Return the state after an event. Raises IllegalMove."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalMove(f"a copy that is {state} cannot {event}") from None


def message_state(states: Iterable[State]) -> State:
    """Return the state of a message with copies in these states (at least one)."""
    present = set(states)
    return next(state for state in _ORDER if state in present)
