"""The table of states: what it allows, and what a message is while its copies differ."""

from pathlib import Path

import pytest

from relay.delivery.outcome import TRANSITIONS, Event, IllegalMove, State, message_state, next_state


def test_every_state_is_in_the_table_and_every_target_is_a_state() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {target for moves in TRANSITIONS.values() for target in moves.values()} == set(State)


def test_what_is_over_stays_over() -> None:
    assert {state for state in State if state.is_final} == {State.DELIVERED, State.FAILED, State.REMOVED}
    for state in (State.DELIVERED, State.FAILED, State.REMOVED):
        for event in Event:
            with pytest.raises(IllegalMove, match=f"a copy that is {state} cannot {event}"):
                next_state(state, event)


def test_only_an_attempt_delivers() -> None:
    assert [state for state, moves in TRANSITIONS.items() if State.DELIVERED in moves.values()] == [State.SENDING]
    assert [state for state, moves in TRANSITIONS.items() if State.UNKNOWN in moves.values()] == [State.SENDING]


@pytest.mark.parametrize(
    ("copies", "state"),
    [
        ((State.DELIVERED, State.DELIVERED), State.DELIVERED),
        ((State.DELIVERED, State.FAILED), State.FAILED),
        ((State.DELIVERED, State.QUEUED, State.FAILED), State.QUEUED),
        ((State.HELD, State.QUEUED), State.QUEUED),
        ((State.HELD, State.DELIVERED), State.HELD),
        ((State.UNKNOWN, State.QUEUED), State.UNKNOWN),
        ((State.SENDING, State.UNKNOWN), State.SENDING),
        ((State.REMOVED,), State.REMOVED),
        ((State.DELIVERED, State.REMOVED, State.FAILED), State.REMOVED),
    ],
)
def test_what_is_open_counts_before_what_is_over(copies: tuple[State, ...], state: State) -> None:
    assert message_state(copies) is state


def test_the_documentation_shows_the_table() -> None:
    """docs/architecture.md draws the transitions from here; on a failure, put in what this prints."""
    rows = [f"| `{state}` | {_moves(state)} |" for state in State]
    drawn = "\n".join(["| state | what can happen |", "| --- | --- |", *rows])
    page = (Path(__file__).parents[3] / "docs/architecture.md").read_text()
    assert drawn in page, drawn


def _moves(state: State) -> str:
    return ", ".join(f"{event} → `{target}`" for event, target in TRANSITIONS[state].items()) or "nothing: it is over"
