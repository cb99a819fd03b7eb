"""A table in one case: each row is played whatever the others do, and each that failed is named with its failure."""

import asyncio

import pytest

from tests.peers.rows import EachRow, each_row

NUMBERS = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


def played(*rows: object, is_async: bool = False) -> tuple[list[object], str]:
    """Which rows were played, and what the case says at its end."""
    seen: list[object] = []

    def check(row: object) -> None:
        seen.append(row)
        if row == "skips":
            pytest.skip("not today")
        if row == "raises nothing":
            with pytest.raises(ValueError, match="x"):
                pass
        if row == "time":
            pytest.fail("Timeout (>120.0s) from pytest-timeout.")
        if row == "key":
            raise KeyError(row)
        assert not str(row).startswith("bad")

    @each_row("row", rows)
    def case(row: object) -> None:
        check(row)

    @each_row("row", rows)
    async def async_case(row: object) -> None:
        await asyncio.sleep(0)
        check(row)

    try:
        asyncio.run(async_case()) if is_async else case()  # type: ignore[call-arg]
    except pytest.fail.Exception as failure:
        return seen, str(failure)
    return seen, ""


@NUMBERS
def test_rows_that_hold_are_one_good_case(is_async: bool) -> None:
    assert played(1, 2, 3, is_async=is_async) == ([1, 2, 3], "")


@NUMBERS
def test_each_row_that_failed_is_named_and_all_are_played(is_async: bool) -> None:
    rows = ["bad one", 2, "skips", "raises nothing", "key", 3, "bad two"]
    seen, said = played(*rows, is_async=is_async)
    assert seen == rows
    head, *failures = said.split("\n\n--- ")
    named = ["'bad one'", "'skips'", "'raises nothing'", "'key'", "'bad two'"]
    assert head == "5 of 7 rows failed:" + "".join(f"\n  {name}" for name in named)
    assert [failure.partition("\n")[0] for failure in failures] == named
    for failure, words in zip(
        failures, ["bad one", "not today", "DID NOT RAISE", "KeyError: 'key'", "bad two"], strict=True
    ):
        assert words in failure
        assert "test_rows.py:" in failure
        assert "/rows.py" not in failure


def test_when_the_time_of_the_case_is_over_no_row_is_played_any_more() -> None:
    seen, said = played("bad", "time", 3)
    assert seen == ["bad", "time"]
    assert said.startswith("2 of 2 rows failed:")


def test_what_ends_the_run_ends_the_case() -> None:
    seen = []

    @each_row("error", [ValueError, KeyboardInterrupt, ValueError])
    def case(error: type[BaseException]) -> None:
        seen.append(error)
        raise error

    with pytest.raises(KeyboardInterrupt):
        case()  # type: ignore[call-arg]
    assert seen == [ValueError, KeyboardInterrupt]


def test_a_table_without_a_row_fails() -> None:
    with pytest.raises(AssertionError, match="without a row"):
        each_row("row", [])
    with pytest.raises(AssertionError, match="no row was played"), EachRow():
        pass


def test_a_row_has_a_value_for_each_name_and_no_marks() -> None:
    with pytest.raises(ValueError, match="zip"):
        each_row("one, two", [(1, 2, 3)])
    with pytest.raises(AssertionError, match="no marks"):
        each_row("one", [pytest.param(1, marks=pytest.mark.slow)])
    with pytest.raises(AssertionError, match="no parameter"):
        each_row("one", [1])(lambda two: None)


SEEN: list[tuple[int, str]] = []
NAMES = pytest.mark.parametrize(
    ("ids", "names"), [(None, ["(1, 'a')", "third"]), (["x", "y"], ["x", "third"]), (repr, ["(1, 'a')", "third"])]
)


@NAMES
def test_a_row_is_named_as_parametrize_would(ids: object, names: list[str]) -> None:
    @each_row(("number", "letter"), [(1, "a"), pytest.param(3, "c", id="third")], ids=ids)
    def case(number: int, letter: str) -> None:
        raise ValueError

    with pytest.raises(pytest.fail.Exception) as failed:
        case()  # type: ignore[call-arg]
    assert str(failed.value).partition("\n\n")[0].splitlines()[1:] == [f"  {name}" for name in names]


@each_row("number", [1, 2])
@each_row("letter", ["a", "b"])
def test_two_tables_are_played_with_each_other(number: int, letter: str, tmp_path: object) -> None:
    assert tmp_path
    SEEN.append((number, letter))


def test_they_were_played() -> None:
    assert SEEN == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_the_rows_of_two_tables_that_failed_are_named_by_both() -> None:
    @each_row("number", [1, 2])
    @each_row("letter", ["a", "b"])
    def case(number: int, letter: str) -> None:
        assert (number, letter) == (1, "b")

    with pytest.raises(pytest.fail.Exception) as failed:
        case()  # type: ignore[call-arg]
    said = str(failed.value)
    assert said.startswith("2 of 2 rows failed:\n  1\n  2\n")
    assert "--- 1\n1 of 2 rows failed:\n  'a'\n" in said
    assert "--- 2\n2 of 2 rows failed:\n  'a'\n  'b'\n" in said
