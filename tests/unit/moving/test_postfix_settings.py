"""main.cf and the sources of its tables: lines, names, rows, as postconf(5) and postmap(1) have them."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.moving.postfix_settings import (
    ExpandedParameters,
    LookupTable,
    Unreadable,
    logical_lines,
    read_inline,
    read_main_cf,
    read_table,
    split_list,
)
from tests.peers.packages import program

# Postfix asks nobody what a setting of our own is for, but shows only those that it knows.
MAIN_CF = """\
# a comment

a = one
  # a comment inside
  two

\tthree
c =
mail_name=$a and ${c?{set}:{unset}} ${a?{set}:{unset}}
smtpd_banner = ${a:x}${nobody:default}${nobody?never}
double_bounce_sender = $$1 $(a)
error_notice_recipient = 5 = 6
delay_notice_recipient = ${a?yes $mail_name}|${c:{no}}${c?{y}}
"""
VALUES: Mapping[str, str] = {
    "mail_name": "one  two\tthree and unset set",
    "smtpd_banner": "default",
    "double_bounce_sender": "$1 one  two\tthree",
    "error_notice_recipient": "5 = 6",
    "delay_notice_recipient": "yes one  two\tthree and unset set|no",
}


def test_lines_go_on_and_know_where_they_begin() -> None:
    found, notes = read_main_cf(MAIN_CF, "main.cf")
    assert notes == []
    names = ExpandedParameters({name: one.value for name, one in found.items()}, {})
    assert {name: names.value(name) for name in VALUES} == VALUES
    assert [str(one.place) for one in found.values()][:3] == ["main.cf:3", "main.cf:8", "main.cf:9"]


@pytest.mark.needs("postconf")
def test_postconf_reads_the_same(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n" + MAIN_CF)
    argv = [program("postconf"), "-c", str(tmp_path), "-xh", *VALUES]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    # It prints one space for what stands between the parts of a line that goes on.
    assert [line.split() for line in done.stdout.split("\n")[:-1]] == [value.split() for value in VALUES.values()]


def test_the_last_of_two_counts_and_what_is_no_setting_is_told() -> None:
    found, notes = read_main_cf("a = 1\na = 2\nnonsense\na b = 3\n", "main.cf")
    assert found["a"].value == "2"
    assert [str(note.place) for note in notes] == ["main.cf:3", "main.cf:4"]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"a": "$b", "b": "$a"}, "without end"),
        ({"a": "${b"}, "a brace"),
        ({"a": "${{x} == {x} ? {y}}"}, "a comparison"),
        ({"a": "5 $ x"}, "names nothing"),
        ({"a": "${b!}"}, "no name"),
        ({f"a{n}": f"$a{n + 1}" * 10 for n in range(15)} | {"a": "$a0", "a15": "x"}, "endlessly long"),
    ],
)
def test_what_cannot_be_worked_out_ends_soon(written: dict[str, str], words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        ExpandedParameters(written, {}).value("a")


def test_rows_of_a_table() -> None:
    text = 'A@B.example  [x]:1\n# no\n"odd key"\tuser:p w\n  more\nalone\na@b.example y\n'
    entries, notes = read_table(text, "t")
    assert [(one.key, one.value, one.place.line) for one in entries] == [
        ("a@b.example", "[x]:1", 1),
        ('"odd key"', "user:p w  more", 3),
    ]
    assert [str(note.place) for note in notes] == ["t:5", "t:6"]
    assert "user:p" not in repr(entries)


@pytest.mark.needs("postmap")
def test_postmap_makes_the_same_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    source = tmp_path / "table"
    source.write_text('A@B.example  [x]:1\n# no\n"odd Key"\tuser:p w\n  more\na\tb c\n"q\\"q" v\n')
    spec = f"texthash:{source}"
    entries, _ = read_table(source.read_text(), "t")
    for one in entries:
        argv = [program("postmap"), "-c", str(tmp_path), "-q", one.key, spec]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert done.stdout == one.value + "\n"


def test_rows_in_main_cf(tmp_path: Path) -> None:
    place = next(logical_lines("a = b", "main.cf"))[1]
    entries, notes = read_inline(" { A@b.example = c = d }, x=y {z} ", place)
    assert [(one.key, one.value) for one in entries] == [("a@b.example", "c = d"), ("x", "y")]
    assert len(notes) == 1
    assert split_list("hash:/a, inline:{ {a = b}, c=d }\tx") == ["hash:/a", "inline:{ {a = b}, c=d }", "x"]


def test_an_address_finds_its_row_as_in_postfix() -> None:
    keys = ["joe+x@a.example", "joe@a.example", "ann", "ben+y", "@a.example", "@b.example"]
    text = "".join(f"{key} {number}\n" for number, key in enumerate(keys))
    rows = LookupTable({one.key: one for one in read_table(text, "t")[0]}, None, "a.example", "+")
    found = {
        address: (entry.key if (entry := rows.of(address)) else None)
        for address in (
            "Joe+X@a.example",
            "joe+z@a.example",
            "ann@a.example",
            "ann+1@a.example",
            "ann@b.example",
            "x@c",
        )
    }
    assert list(found.values()) == ["joe+x@a.example", "joe@a.example", "ann", "ann", "@b.example", None]
    assert [address for address, _ in rows.senders()] == [
        "joe+x@a.example",
        "joe@a.example",
        "ann@a.example",
        "ben+y@a.example",
        "@a.example",
        "@b.example",
    ]
