"""Tables and words for people."""

import sys

import pytest

from relay.cli.output import count, print_table, words


def test_words() -> None:
    assert [words(value) for value in (None, True, False, ["a", "b"], {"k": 1}, 5, "x")] == [
        "",
        "yes",
        "no",
        "a, b",
        "k=1",
        "5",
        "x",
    ]
    assert words("a\x1b[2Jb\n") == "a [2Jb", "nothing acts on the terminal"
    assert (count(1, "agent"), count(0, "agent"), count(2, "agent")) == ("1 agent", "0 agents", "2 agents")


def test_a_table_aligns_wide_letters_and_takes_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "address"], [["日本", "[bold]@[127.0.0.1]"], ["x", "y"]], empty="")
    assert capsys.readouterr().out.splitlines() == ["NAME  ADDRESS", "日本  [bold]@[127.0.0.1]", "x     y"]


def test_a_table_folds_on_a_narrow_terminal_and_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(["name", "address"], [["joe", "a" * 60]], empty="")
    out = capsys.readouterr().out
    assert out.count("a") == 60
    assert max(map(len, out.splitlines())) <= 40
