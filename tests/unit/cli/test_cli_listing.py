"""Long lists: printed as their entries come."""

import json
import sys
from typing import Any

import pytest

from relay.cli.output import JsonArray, JsonLines, TableRows, print_json, shared


def _terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))


def _table(flexible: int = 1) -> TableRows:
    return TableRows(("id", "to"), flexible=flexible, empty="nothing")


def test_columns_are_as_wide_as_the_first_rows(capsys: pytest.CaptureFixture[str]) -> None:
    table = _table()
    table.add(["a", "x"])
    table.add(["bbbb", "日本"], "a note")
    table.flush()
    table.add(["cccccccc", "z"])
    table.close()
    assert capsys.readouterr().out.splitlines() == ["ID    TO", "a     x", "bbbb  日本", "  a note", "cccccccc  z"]


def test_rows_are_printed_before_the_end_where_there_are_many(capsys: pytest.CaptureFixture[str]) -> None:
    table = _table()
    for number in range(200):
        assert capsys.readouterr().out == ""
        table.add([str(number), "x"])
    assert len(capsys.readouterr().out.splitlines()) == 201
    table.add(["200", "x"])
    assert capsys.readouterr().out == "200  x\n"


def test_an_empty_table_says_so_and_one_without_words_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    _table().close()
    TableRows(("id",), flexible=0, empty="").close()
    assert capsys.readouterr().out == "nothing\n"


def test_a_terminal_gets_cut_cells_and_folded_notes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _terminal(30, monkeypatch)
    table = _table()
    table.add(["abc", "x" * 40], "a note that is longer than the terminal is wide")
    table.add(["def", "日本語" * 10])
    table.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "abc  " + "x" * 24 + "…"
    assert lines[2:4] == ["  a note that is longer than", "  the terminal is wide"]
    assert lines[-1].startswith("def  日本語")
    assert lines[-1].endswith("…")


def test_a_program_gets_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    table = _table()
    table.add(["abc", "x" * 40], "n" * 40)
    table.close()
    assert "x" * 40 + "\n  " + "n" * 40 in capsys.readouterr().out


def test_the_widest_columns_give_first() -> None:
    assert shared([30, 20], 50) == [30, 20]
    assert shared([30, 20], 44) == [24, 20]
    assert shared([30, 20], 30) == [15, 15]
    assert shared([30, 20], 5) == [12, 12], "what cannot fit stays readable"
    assert shared([], 5) == []


def test_a_json_array_looks_as_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    records: list[dict[str, Any]] = [{"a": 1, "b": ["ü"]}, {}, {"c": None}]
    array = JsonArray()
    for record in records:
        array.add(record)
    array.flush()
    array.close()
    printed = capsys.readouterr().out
    print_json(records)
    assert printed == capsys.readouterr().out
    JsonArray().close()
    assert capsys.readouterr().out == "[]\n"


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = JsonLines()
    lines.add({"a": "x\ny"})
    lines.add({"b": 1})
    lines.flush()
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"a": "x\ny"}, {"b": 1}]
