"""What attempts changed in a header, told once where several changed the same."""

from typing import Any

import pytest

from relay.control.messages.changed_headers import changed_headers

ADDED = {"field": "Organization", "before": "", "after": "Acme Jets"}
OTHER = {"field": "Organization", "before": "", "after": "Acme Trains"}


def _attempt(number: int, changes: list[dict[str, str]] | None, left_out: int = 0) -> dict[str, Any]:
    return {"number": number, "changes": changes, "changes_left_out": left_out}


@pytest.mark.parametrize(
    ("attempts", "whose"),
    [
        ([], []),
        ([_attempt(1, None)], []),
        ([_attempt(1, [])], ["attempt 1"]),
        ([_attempt(1, None), _attempt(2, [ADDED])], ["attempt 2"]),
        ([_attempt(number, [ADDED]) for number in (1, 2, 3)], ["attempts 1 to 3"]),
        ([_attempt(1, [ADDED]), _attempt(2, [OTHER]), _attempt(3, [ADDED])], ["attempts 1, 3", "attempt 2"]),
        ([_attempt(1, [ADDED]), _attempt(2, None), _attempt(3, [ADDED])], ["attempts 1, 3"]),
        ([_attempt(1, [ADDED], 1), _attempt(2, [ADDED], 2)], ["attempt 1", "attempt 2"]),
    ],
)
def test_attempts_that_changed_the_same_are_told_once(attempts: list[dict[str, Any]], whose: list[str]) -> None:
    assert [one.whose for one in changed_headers(attempts)] == whose
