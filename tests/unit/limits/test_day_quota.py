"""The day's budget of recipients: rolling, never more in any day, and free again a day later."""

from hypothesis import given
from hypothesis import strategies as st

from relay.limits.constants import DAY, PIECE
from relay.limits.day_quota import DayQuota, room, room_at

NOON = 1_800_000_000.0


@given(st.integers(1, 50), st.lists(st.tuples(st.floats(0, 40_000), st.integers(1, 30)), max_size=60))
def test_no_day_holds_more_than_the_limit(limit: int, steps: list[tuple[float, int]]) -> None:
    budget, now, spent = DayQuota(), NOON, list[tuple[float, int]]()
    for rest, wanted in steps:
        now += rest
        count = min(wanted, room([budget], limit, now))
        budget.spend(now, count)
        spent.append((now, count))
        assert sum(count for at, count in spent if at > now - DAY) <= limit


@given(st.integers(1, 50), st.lists(st.tuples(st.floats(0, 40_000), st.integers(1, 30)), min_size=1, max_size=60))
def test_there_is_room_when_it_is_said_and_not_a_piece_earlier(limit: int, steps: list[tuple[float, int]]) -> None:
    budget, now = DayQuota(), NOON
    for rest, count in steps:
        now += rest
        budget.spend(now, count)
    moment = room_at([budget], limit, now)
    assert now <= moment <= now + DAY + PIECE
    if moment > now:
        assert room([budget], limit, moment - 1) == 0
    assert room([budget], limit, moment) > 0


def test_what_was_not_used_is_free_again() -> None:
    budget = DayQuota()
    piece = budget.spend(NOON, 10)
    budget.correct(piece, -4)
    assert room([budget], 10, NOON) == 4
    budget.spend(NOON + 1, -6)
    assert room([budget], 10, NOON) == 10


def test_accounts_that_share_a_budget_are_counted_together() -> None:
    first, second = DayQuota(), DayQuota({int(NOON) // PIECE * PIECE: 7})
    first.spend(NOON, 2)
    assert room([first, second], 10, NOON) == 1
    assert room([first], 10, NOON) == 8


def test_a_clock_that_was_set_back_takes_no_more_than_a_day() -> None:
    budget = DayQuota()
    budget.spend(NOON + 365 * DAY, 5)
    assert room_at([budget], 5, NOON) <= NOON + DAY + PIECE
