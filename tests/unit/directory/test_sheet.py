"""Tables as CSV: what is written is read again, whatever it says, and nothing is a formula."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.directory import sheet
from relay.directory.sheet import join_items, protected, read_sheet, split_items, unprotected, write_sheet

COLUMNS = ["address", "aliases", "group"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# These, and the wide forms of the four signs.
FORMULAS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
CELL = TEXT.map(str.strip)


@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=8), st.booleans())
def test_what_is_written_is_read_again(rows: list[tuple[str, str, str]], has_mark: bool) -> None:
    named = [(f"n{number}", *row) for number, row in enumerate(rows)]
    text = write_sheet(["name", *COLUMNS], named)
    read = read_sheet("\ufeff" * has_mark + text, COLUMNS)
    assert read.faults == ()
    assert [tuple(row.cells[column] for column in ("name", *COLUMNS)) for row in read.rows] == named


@given(TEXT)
def test_no_cell_that_is_written_begins_a_formula(text: str) -> None:
    assert unprotected(protected(text)) == text
    assert not protected(text).startswith(tuple(FORMULAS))


@given(st.lists(CELL.filter(bool).filter(lambda item: not item.endswith("\\")), max_size=5))
def test_a_list_is_one_cell(items: list[str]) -> None:
    assert split_items(join_items(items)) == items


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_the_text_it_is_read_or_has_a_fault_with_its_line(text: str) -> None:
    read = read_sheet(text, COLUMNS)
    lines = len(io.StringIO(text, newline="").readlines())
    assert all(1 <= fault.line <= max(1, lines) and fault.message for fault in read.faults)
    assert all(row.cells["name"] for row in read.rows)


@given(st.text(st.sampled_from('nameaddress,;"\n\r\t =@'), max_size=60))
def test_a_text_that_looks_like_csv_is_read_or_has_a_fault(text: str) -> None:
    read = read_sheet(f"name;address\n{text}", COLUMNS)
    assert len(read.rows) <= read.count
    assert len(read.rows) + len(read.faults) >= read.count


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("name,address\na,x@y\n", [{"name": "a", "address": "x@y"}]),
        ("Name;ADDRESS\r\na;x@y", [{"name": "a", "address": "x@y"}]),
        ("address,name\rx@y,a\r", [{"name": "a", "address": "x@y"}]),
        ('name;group\na;"b;c"\n;;\n\n;\n', [{"name": "a", "group": "b;c"}]),
        ("\n\nname\n a \n", [{"name": "a"}]),
        ("name,aliases\na,'@y.example\n", [{"name": "a", "aliases": "@y.example"}]),
        ("name,group\na,'plain\n", [{"name": "a", "group": "'plain"}]),
        ("name\n", []),
    ],
)
def test_the_usual_shapes(text: str, rows: list[dict[str, str]]) -> None:
    read = read_sheet(text, COLUMNS)
    assert [dict(row.cells) for row in read.rows] == rows
    assert [fault for fault in read.faults if fault.line < 4] == []


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("", 1, "name", "the first line names the columns"),
        ("address\nx@y\n", 1, "name", "one of them is 'name'; add it"),
        ("name,adress\n", 1, "adress", "there is no such key; did you mean 'address'"),
        ("name,name\n", 1, "name", "more than once"),
        ("name,\na,b\n", 1, "", "a column has no name"),
        ("name,group\n,b\n", 2, "name", "a row needs a name"),
        ('name,group\na,"1\n2\n"\nb,c\na,d\n', 6, "name", "'a' stands in line 2 already"),
        ("name,group\na,b,c\n", 2, "", "the number of cells here is 3, and 2 in the header"),
        ('name,group\na,b\nc,"d\ne\n', 3, "", "this row is no CSV: unexpected end of data"),
        ('name,group\na,"b"c\n', 2, "", "look at its quotation marks"),
        (f"name,group\na,{'x' * 140_000}\n", 2, "", "this row has more than 64 KiB"),
    ],
)
def test_a_fault_has_its_line_and_column(text: str, line: int, key: str, words: str) -> None:
    [fault] = read_sheet(text, COLUMNS).faults
    assert (fault.line, fault.key) == (line, key)
    assert words in fault.message


def test_a_password_is_taken_as_it_stands_and_not_shown() -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["name", "password"], ["a", " '=secret "], ["b", "  "]])
    first, second = read_sheet(text.getvalue(), COLUMNS).rows
    assert (first.password, second.password) == (" '=secret ", "")
    assert "secret" not in repr(first)
    assert "password" not in first.cells


def test_there_are_not_more_rows_than_can_be_looked_at(monkeypatch: Any) -> None:
    monkeypatch.setattr(sheet, "MOST_ROWS", 2)
    read = read_sheet("name\na\nb\nc\nd\n", COLUMNS)
    assert len(read.rows) == 2
    assert [fault.line for fault in read.faults] == [4]
