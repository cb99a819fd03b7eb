"""What a person does with a waiting message, in every state that it may be in."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from relay.delivery import administrative_actions as actions
from relay.delivery.outcome import State
from relay.store.queue.messages import Change
from tests.unit.control.queue_kit import START, stored

NOW = START + timedelta(hours=2)
ALL = tuple(State)


def _states(change: Change) -> dict[State, str | None]:
    """Return the state after a change, by the state before it; None where nothing changes."""
    done = {state: change(stored(state)) for state in ALL}
    return {state: None if settlement is None else settlement.state for state, settlement in done.items()}


def test_what_waits_can_be_held() -> None:
    held = {state: "held" if state in {State.QUEUED, State.UNKNOWN} else None for state in ALL}
    assert _states(actions.hold(NOW)) == held | {State.SENDING: "held"}


def test_only_what_is_held_can_be_released() -> None:
    assert _states(actions.release(NOW)) == {state: "queued" if state is State.HELD else None for state in ALL}


def test_everything_but_what_is_under_way_can_be_removed() -> None:
    gone = {State.QUEUED, State.UNKNOWN, State.HELD}
    assert _states(actions.remove(NOW)) == {state: "removed" if state in gone else None for state in ALL}


def test_what_waits_becomes_due_and_keeps_its_state() -> None:
    waits = {State.QUEUED, State.UNKNOWN}
    assert _states(actions.retry(NOW)) == {state: str(state) if state in waits else None for state in ALL}
    settlement = actions.retry(NOW)(stored(reason="450 busy", unknowns=1, warned=True))
    assert settlement is not None
    assert (settlement.next_attempt, settlement.reason) == (NOW, "450 busy")
    assert (settlement.unknowns, settlement.warned, settlement.is_finished) == (1, True, False)


def test_a_held_message_says_since_when_and_how_to_go_on() -> None:
    settlement = actions.hold(NOW)(stored())
    assert settlement is not None
    assert (settlement.held_since, settlement.next_attempt) == (NOW, None)
    assert "relay queue release" in settlement.reason


def test_a_message_held_with_its_account_can_be_held_for_itself() -> None:
    settlement = actions.hold(NOW)(stored(State.HELD, held_by="acmejets/x"))
    assert settlement is not None
    assert (settlement.state, settlement.held_by, settlement.held_since) == ("held", "", START)
    assert settlement.recipients == ()


def test_the_time_as_held_is_counted_once() -> None:
    settlement = actions.release(NOW)(stored(State.HELD, held_seconds=60.0))
    assert settlement is not None
    assert (settlement.held_since, settlement.held_seconds) == (None, 60.0 + 7200.0)
    assert settlement.next_attempt == NOW


def test_copies_that_are_over_stay_as_they_are() -> None:
    message = stored(State.DELIVERED, State.QUEUED, to=("ann@customer.example", "bob@customer.example"))
    settlement = actions.remove(NOW)(message)
    assert settlement is not None
    assert [(one.number, one.state, one.changed) for one in settlement.recipients] == [(1, "removed", NOW)]
    assert (settlement.state, settlement.is_finished) == ("removed", True)


@pytest.mark.parametrize("change", [actions.hold, actions.release, actions.remove])
def test_the_last_words_about_a_message_stay(change: Callable[[datetime], Change]) -> None:
    settlement = change(NOW)(stored(State.HELD, held_by="a/b", reply="450 4.2.0 busy", unknowns=1))
    assert settlement is not None
    assert (settlement.reply, settlement.unknowns, settlement.attempt) == ("450 4.2.0 busy", 1, None)
