"""The pace of several processes: whatever each does and when it dies, no minute holds too many messages."""

import random
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.limits.constants import DAY, MINUTE
from relay.limits.day_quota import buy, seen_day_seconds
from relay.limits.rate import begin, seen_seconds, shared_window
from tests.unit.limits.limits_kit import most_in_a_minute

START = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)


@dataclass
class Table:
    """The rows of one account, and the time."""

    clock: float = 0.0
    rows: list[float] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.clock)

    def begin(self, per_minute: int, wanted: int) -> list[float]:
        seen = sorted(at for at in self.rows if at > self.clock - seen_seconds())
        found = begin(
            [(START + timedelta(seconds=at), 1) for at in seen], self.now, per_minute=per_minute, wanted=wanted
        )
        assert found.next >= self.now.timestamp() or not found.count
        self.rows += [self.clock] * found.count
        return [self.clock] * found.count

    def move(self, at: float) -> float:
        self.rows.remove(at)
        self.rows.append(self.clock)
        return self.clock


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32))
def test_no_minute_holds_too_many_whatever_three_processes_do(limit: int, seed: int) -> None:
    dice, table, moments = random.Random(seed), Table(), list[float]()
    under_way: list[list[float]] = [[], [], []]
    while table.clock < 130:
        table.clock += dice.choice([0.01, 0.1, 0.3, 0.5])
        owner = dice.randrange(3)
        mine = under_way[owner]
        if dice.random() < 0.6:
            mine += table.begin(limit, dice.randint(1, 20))
        for at in tuple(mine):
            fate = dice.random()
            if fate < 0.3:  # MAIL leaves
                mine.remove(at)
                moments.append(table.clock)
                if table.clock - at > 0.2 and fate > 0.02:  # else it dies before it can tell
                    table.move(at)
            elif fate < 0.35:  # it is not sent
                mine.remove(at)
                table.rows.remove(at)
        if dice.random() < 0.01:
            mine.clear()  # it dies, and what it had under way counts for a minute
        for each in under_way:  # nobody's rows are older than that
            each[:] = [table.move(at) if table.clock - at > 0.5 else at for at in each]
    assert most_in_a_minute(sorted(moments)) <= limit


@pytest.mark.parametrize("limit", [10, 60])
def test_three_processes_together_use_nine_tenths_of_the_limit_and_none_goes_empty(limit: int) -> None:
    table, moments, counts = Table(), list[float](), [0, 0, 0]
    while table.clock < 4 * MINUTE:
        owner = int(table.clock * 20) % 3
        got = table.begin(limit, 10)
        counts[owner] += len(got)
        moments += got
        table.clock += 0.05
    used = bisect_left(moments, 3 * MINUTE) - bisect_left(moments, MINUTE)
    assert used >= int(0.9 * 2 * limit) - 1
    assert most_in_a_minute(moments) <= limit


@pytest.mark.parametrize("limit", [30, 107])
def test_a_burst_is_not_repeated_by_who_sees_only_the_last_minute(limit: int) -> None:
    table, moments = Table(), list[float]()
    while table.clock < 2 * MINUTE:
        found = table.begin(limit, 1)
        moments += found
        table.clock += 0 if found else shared_window() / limit / 2
    burst = limit // 15
    assert bisect_left(moments, 0.001) == burst
    for tenth in range(1, 20):
        count = bisect_left(moments, (tenth + 1) * MINUTE / 10) - bisect_left(moments, tenth * MINUTE / 10)
        assert count <= limit / 10 + burst + 1  # the first minute ends with a pause as long as its burst


def test_what_one_process_alone_wrote_counts_to_the_end_of_its_second() -> None:
    second = START.replace(microsecond=0)
    rows = [(second, 2)]
    moment = second + timedelta(seconds=shared_window() + 0.5)
    assert begin(rows, moment, per_minute=2, wanted=1).count == 0
    assert begin(rows, moment + timedelta(seconds=1), per_minute=2, wanted=1).count == 1


def test_a_clock_that_was_set_back_stops_nobody_for_longer_than_a_minute() -> None:
    ahead = [(START + timedelta(seconds=30, microseconds=1), 2)]
    assert begin(ahead, START, per_minute=2, wanted=1).next <= START.timestamp() + shared_window()
    assert begin([(START + timedelta(hours=1), 2)], START, per_minute=2, wanted=1).count == 1


@settings(deadline=None)
@given(st.integers(1, 60), st.lists(st.tuples(st.floats(0, 20_000), st.integers(1, 30)), max_size=40))
def test_no_day_holds_more_recipients_than_the_limit(limit: int, steps: list[tuple[float, int]]) -> None:
    now, rows, spent = START, list[tuple[datetime, int]](), list[tuple[datetime, int]]()
    for rest, wanted in steps:
        now += timedelta(seconds=rest)
        seen = [row for row in rows if row[0] > now - timedelta(seconds=seen_day_seconds())]
        bought = buy(seen, now, per_day=limit, wanted=wanted, at_least=1)
        rows.append((bought.since, bought.count))
        spent.append((now, bought.count))
        assert sum(count for at, count in spent if at > now - timedelta(seconds=DAY)) <= limit


def test_what_cannot_be_had_as_a_whole_is_not_taken_in_part() -> None:
    rows = [(START, 7)]
    assert buy(rows, START, per_day=10, wanted=5, at_least=4).count == 0
    assert buy(rows, START, per_day=10, wanted=5, at_least=3).count == 3
