"""Holds for tests."""

from relay.store.queue.messages import HoldRow
from tests.unit.store.store_kit import NOW


def hold(number: int, reason: str = "535 5.7.8 no", address: str = "") -> HoldRow:
    return HoldRow(
        server="acmejets",
        username=f"a{number}@acmejets.example",
        address=address,
        meaning="login-refused",
        reason=reason,
        since=NOW,
        until=None,
        probes=0,
        next_probe=None,
    )
