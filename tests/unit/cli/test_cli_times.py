"""Times as people read and write them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from relay.cli.invocation import WrongUsage
from relay.cli.messages import parse_since
from relay.cli.output import absolute, relative

NOW = datetime(2025, 11, 24, 9, 5, 7, tzinfo=UTC)


@pytest.fixture
def in_auckland(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is 13 hours ahead."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "NZDT-13")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "now"),
        (0.9, "now"),
        (1, "in 1 s"),
        (-59.9, "59 s ago"),
        (60, "in 1 m"),
        (-3599, "59 m ago"),
        (3600, "in 1 h"),
        (-47.5 * 3600, "47 h ago"),
        (48 * 3600, "in 2 d"),
        (-90 * 86400, "90 d ago"),
    ],
)
def test_how_far_a_time_is(seconds: float, words: str) -> None:
    assert relative(NOW + timedelta(seconds=seconds), NOW) == words


@pytest.mark.usefixtures("in_auckland")
def test_a_time_is_that_of_this_machine() -> None:
    assert absolute(NOW - timedelta(hours=3), NOW) == "2025-11-24 19:05:07 +1300 (3 h ago)"


@pytest.mark.usefixtures("in_auckland")
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2025-11-24T09:05:07Z", NOW),
        ("2025-11-24 22:05:07", NOW),
        ("2025-11-25", datetime(2025, 11, 24, 11, tzinfo=UTC)),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    assert parse_since(text, NOW) == moment


@pytest.mark.usefixtures("in_auckland")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2025-13-01",
        "999999999d",
        "0001-01-01",  # a date that has no time in UTC east of Greenwich
    ],
)
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(WrongUsage, match="is no time; write how long ago, such as 2h or 7d"):
        parse_since(text, NOW)
