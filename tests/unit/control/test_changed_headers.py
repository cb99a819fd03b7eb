"""What attempts changed in a header, told once where several changed the same."""

import pytest

from relay.control.messages.results import AttemptRecord, HeaderChangeRecord, changed_headers

ADDED = HeaderChangeRecord(field="Organization", before="", after="Acme Jets")
OTHER = HeaderChangeRecord(field="Organization", before="", after="Acme Trains")


def _attempt(number: int, changes: list[HeaderChangeRecord] | None, left_out: int = 0) -> AttemptRecord:
    return AttemptRecord(
        number=number,
        started="2025-11-24T09:00:00Z",
        ended="2025-11-24T09:00:02Z",
        account=None,
        phase="final",
        final_dot=True,
        reply="250 2.0.0 Ok",
        meaning="",
        tls="",
        changes=changes,
        changes_left_out=left_out,
    )


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
def test_attempts_that_changed_the_same_are_told_once(attempts: list[AttemptRecord], whose: list[str]) -> None:
    assert [one.whose for one in changed_headers(attempts)] == whose
