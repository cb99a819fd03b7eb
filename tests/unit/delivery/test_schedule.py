"""When a message is tried again, warned about and given up."""

from datetime import UTC, datetime, timedelta

import pytest

from relay.delivery.outcome import Schedule, Unknown

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SCHEDULE = Schedule(
    retry=(MINUTE, 2 * MINUTE, 5 * MINUTE),
    warn_after=4 * HOUR,
    give_up_after=4 * DAY,
    probe=(15 * MINUTE, HOUR),
    unknown=Unknown.RETRY,
    unknown_pause=30 * MINUTE,
)


@pytest.mark.parametrize(
    ("attempts", "chance", "seconds"),
    [
        (1, 0.5, 60),  # 60 * (0.9 + 0.2 * 0.5)
        (1, 0.0, 54),  # 60 * 0.9
        (1, 1.0, 66),  # 60 * 1.1
        (2, 0.5, 120),
        (3, 0.5, 300),
        (4, 0.5, 300),  # the last repeats
        (99, 0.0, 270),  # 300 * 0.9
    ],
)
def test_the_next_attempt_is_a_step_later_and_spread(attempts: int, chance: float, seconds: float) -> None:
    assert SCHEDULE.next_attempt(NOW, attempts, chance) == NOW + timedelta(seconds=seconds)


def test_probes_have_pauses_of_their_own() -> None:
    assert [SCHEDULE.next_probe(NOW, probes) - NOW for probes in (0, 1, 2)] == [
        timedelta(minutes=15),
        timedelta(hours=1),
        timedelta(hours=1),
    ]


def test_late_and_over_begin_with_their_second() -> None:
    assert not SCHEDULE.is_late(4 * HOUR - 1)
    assert SCHEDULE.is_late(4 * HOUR)
    assert not SCHEDULE.is_over(4 * DAY - 1)
    assert SCHEDULE.is_over(4 * DAY)
