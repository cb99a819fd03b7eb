"""How pages write times, addresses, notices and long lists of recipients. No page is asked for."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from relay.control.messages.results import JourneyRecipient, ReturnedRecord
from relay.web.kit.page_request import Notice
from relay.web.kit.site import ago, make_templates, utc
from relay.web.pages.messages import parted
from relay.web.pages.queue import told

NOW = datetime(2025, 11, 24, 10, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def parts() -> Any:
    """The macros of `shared/_parts.html`."""
    return make_templates("relay.test").get_template("shared/_parts.html").module


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s ago"),
        (59.4, "59 s ago"),
        (59.6, "1 min ago"),
        (3570, "1 h ago"),
        (-3599, "in 1 h"),
        (23.6 * 3600, "1 d ago"),
        (40 * 86400, "40 d ago"),
    ],
)
def test_how_long_ago_is_in_the_unit_that_people_use(seconds: float, words: str) -> None:
    moment = (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    assert ago(moment, NOW) == words


def test_a_time_that_a_log_has_too_stands_beside_it(parts: Any) -> None:
    assert utc("2025-11-24T10:05:00Z") == "2025-11-24 10:05:00 UTC"
    assert "2025-11-24 10:05:00 UTC" in str(parts.exact("2025-11-24T10:05:00Z"))
    assert not str(parts.exact(None)).strip()


def test_an_address_breaks_where_people_would_break_it_and_stays_text(parts: Any) -> None:
    address, account = cast("Callable[[str], str]", parts.address), cast("Callable[[str], str]", parts.account)
    assert address("a@b.example") == "a@<wbr>b.example"
    assert "<i>" not in address('"<i>/"@b.example')
    assert str(address('"<i>/"@b.example')).replace("<wbr>", "").startswith("&#34;&lt;i&gt;/&#34;@")
    assert str(account("main/a@b.example")).replace("<wbr>", "") == "main/a@b.example"
    assert "main" in account("main/")
    assert "without a login" in account("main/")


def test_a_notice_says_whether_all_was_done() -> None:
    assert Notice.read("3%20held") == ("good", "3 held")
    assert Notice.read("Nothing%20was%20chosen%21!warn") == ("warn", "Nothing was chosen!")
    assert Notice.read("") == ("good", "")


def test_equal_outcomes_are_told_together() -> None:
    assert told(["retried", "was being sent just now", "retried"]) == "2 retried; 1 was being sent just now"


def recipient(number: int, state: str = "delivered", returned: ReturnedRecord | None = None) -> JourneyRecipient:
    return JourneyRecipient(address=f"c{number}@customer.example", state=state, reply="", returned=returned)


def test_of_many_recipients_those_are_shown_who_have_not_got_it() -> None:
    few = [recipient(number) for number in range(12)]
    assert parted(few) == (few, ())
    report = ReturnedRecord(found="2025-11-24T09:00:00Z", status="5.1.1", words="no such user", reporter="")
    late, back = recipient(100, "queued"), recipient(101, returned=report)
    shown, folded = parted([*few, late, back, recipient(102)])
    assert (shown, len(folded)) == ([late, back], 13)
    shown, folded = parted([recipient(number) for number in range(1000)])
    assert (len(shown), len(folded)) == (12, 988)
    shown, folded = parted([recipient(number, "queued") for number in range(1000)])
    assert (len(shown), len(folded)) == (50, 950)
