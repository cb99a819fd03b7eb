"""The lines by which a green run is recorded."""

import pytest

from tests.peers import long_run


def test_seeds_and_figures_are_told_by_the_name_of_their_test() -> None:
    said = "SEED=7\nnothing of note\nmore than once: 2 of 900\n"
    report = pytest.TestReport(
        "tests/long/test_x.py::test_it[auto]", ("", 0, ""), {}, "passed", None, "call", [("Captured stdout call", said)]
    )
    head, *rest = long_run.lines("1234abcd", [report], 120.0, "1 passed, 0 failed")
    assert head.startswith("1234abcd, ")
    assert head.endswith(": 1 passed, 0 failed in 2 min")
    assert rest == ["test_it[auto]: SEED=7", "test_it[auto]: more than once: 2 of 900"]
