"""The pace of messages: never too many in any minute, nearly as many as allowed, and nobody waits for ever."""

from bisect import bisect_left
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits.constants import MINUTE
from relay.limits.rate import RateLimit
from tests.unit.limits.limits_kit import most_in_a_minute

LIMITS = st.integers(1, 600)
DELAYS = st.floats(0, 20, allow_nan=False)


def let_go_when_allowed(pace: RateLimit, now: float) -> float:
    """Let the next message go and begin as soon as it may; return when that is."""
    now = pace.next(now)
    pace.let_go(now)
    pace.began(now)
    return now


@given(LIMITS, st.lists(st.floats(0, 90), max_size=400))
def test_no_minute_holds_more_than_the_limit_however_they_come(limit: int, rests: list[float]) -> None:
    pace, now, moments = RateLimit(limit), 1000.0, list[float]()
    for rest in rests:
        now = let_go_when_allowed(pace, now + rest)
        moments.append(now)
    assert most_in_a_minute(moments) <= limit


@given(st.integers(1, 30), st.lists(st.tuples(DELAYS, st.integers(0, 90)), min_size=1, max_size=200))
def test_no_minute_holds_more_however_late_messages_begin(limit: int, steps: list[tuple[float, int]]) -> None:
    """What was let go may begin much later: some do at each step, some never."""
    pace, now, moments, under_way = RateLimit(limit), 0.0, list[float](), 0
    for rest, choice in steps:
        now += rest
        if pace.next(now) <= now and choice % 3:
            pace.let_go(now)
            under_way += 1
        elif under_way and choice % 5:
            pace.began(now)
            moments.append(now)
            under_way -= 1
        elif under_way:
            pace.take_back()
            under_way -= 1
    assert most_in_a_minute(moments) <= limit


@given(LIMITS)
def test_with_enough_to_send_nine_tenths_of_the_limit_are_used(limit: int) -> None:
    pace, now, moments = RateLimit(limit), 0.0, list[float]()
    while now <= 5 * MINUTE:
        now = let_go_when_allowed(pace, now)
        moments.append(now)
    for start in (0.0, MINUTE, 100.0, 3 * MINUTE):
        used = bisect_left(moments, start + 2 * MINUTE) - bisect_left(moments, start)
        assert used >= int(0.9 * 2 * limit) - 1  # the last one may be just behind the end


@given(st.integers(20, 600))
def test_the_messages_of_a_minute_are_spread_over_it(limit: int) -> None:
    pace, now, moments = RateLimit(limit), 0.0, list[float]()
    while now <= MINUTE:
        now = let_go_when_allowed(pace, now)
        moments.append(now)
    assert bisect_left(moments, 0.001) == pace.burst
    for tenth in range(1, 10):
        count = bisect_left(moments, (tenth + 1) * MINUTE / 10) - bisect_left(moments, tenth * MINUTE / 10)
        assert count <= limit / 10 + 1


def test_what_was_let_go_and_never_began_takes_nobodys_place() -> None:
    pace = RateLimit(1)
    for _ in range(5):
        assert pace.next(0.0) == 0.0
        pace.let_go(0.0)
        pace.take_back()


def test_while_all_are_under_way_only_they_can_tell_when_the_next_may_go() -> None:
    pace = RateLimit(2)
    for _ in range(2):
        pace.let_go(max(0.0, pace.next(0.0)))
    assert pace.next(500.0) == inf
    pace.began(500.0)
    assert pace.next(501.0) == pytest.approx(561.0)
    pace.began(502.0)
    assert pace.next(503.0) == pytest.approx(561.0)


def test_what_an_earlier_run_began_counts() -> None:
    pace = RateLimit(3, [50.0, 40.0, 45.0])
    assert pace.next(60.0) == pytest.approx(101.0)
    assert RateLimit(3, [50.0, 40.0]).next(60.0) == 60.0


def test_a_lower_limit_counts_at_once() -> None:
    pace, now = RateLimit(100), 0.0
    for _ in range(50):
        now = let_go_when_allowed(pace, now)
    pace.per_minute = 10
    assert pace.next(now) > MINUTE
    pace.per_minute = 100
    assert pace.next(now) < MINUTE
