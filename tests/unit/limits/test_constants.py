"""The numbers of the limits satisfy the inequalities that they state, and the statement notices when one does not."""

import pytest

from relay.limits import constants
from relay.store.cluster.leases import ALONE, TOGETHER


def test_every_inequality_holds() -> None:
    assert constants.faults() == []


def test_every_lease_of_shares_is_the_one_that_was_checked() -> None:
    assert ALONE.shares == TOGETHER.shares == constants.SHARE_LEASE_SECONDS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MINUTE", 5.0),
        ("RATE_GUARD_SECONDS", 3.0),
        ("BURST_PARTS", 10),
        ("SEEN_BEFORE_SECONDS", 4.0),
        ("AHEAD_SECONDS", 60),
        ("TIDY_SECONDS", 1.0),
        ("PIECE", 700),
        ("TELL_SECONDS", 8.0),
        ("KEPT_BACK_SECONDS", 20.0),
        ("AWAY_SECONDS", 560.0),
        ("USED_PART", 0.7),
        ("SHARE_RENEW_SECONDS", 200.0),
    ],
)
def test_a_number_in_no_proportion_is_told(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, name, value)
    assert constants.faults()
