"""Who may say of others that they are dead, and by which clock."""

from datetime import UTC, datetime, timedelta

from relay.store.cluster.lease_continuity import LeaseContinuity
from relay.store.db.clocks import StoreClock

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


class Timer:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_who_was_heard_of_all_the_time_may_judge() -> None:
    timer = Timer()
    attendance = LeaseContinuity(60, timer)
    seen = [attendance.is_complete]
    for seconds in (0, 20, 20, 20):
        timer.now += seconds
        seen.append(attendance.is_complete)
        attendance.note()
    for seconds in (0, 35, 2):  # after more than that for all that it knows nobody was heard of
        timer.now += seconds
        seen.append(attendance.is_complete)
    assert seen == [False] * 5 + [True, True, False]


def test_after_a_break_it_takes_as_long_as_at_the_start() -> None:
    timer = Timer()
    attendance = LeaseContinuity(60, timer)
    for pause in (20, 20, 20, 20, 37, 20, 20):
        attendance.note()
        timer.now += pause
    attendance.note()
    seen = [attendance.is_complete]
    timer.now += 20
    attendance.note()
    assert [*seen, attendance.is_complete] == [False, True]


def test_the_clock_of_a_store_goes_on_from_what_it_said_last() -> None:
    timer = Timer()
    clock = StoreClock(lambda: NOON, timer)
    assert clock.now() == NOON
    clock.heard(NOON + timedelta(days=1))
    timer.now += 2.5
    assert clock.now() == NOON + timedelta(days=1, seconds=2.5)
