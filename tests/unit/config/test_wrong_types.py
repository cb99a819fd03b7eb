"""Every key of relay.toml and directory.toml with values of all wrong types: a sentence each time, and no Python in it.

Nor in what is said of a file that is no TOML, where the words come from Python's own parser.
"""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.faults import Fault, Faults
from relay.config.schema import parse_toml
from relay.config.settings import Settings, load_settings
from relay.directory import model
from relay.directory.rules.validation import parse_directory
from tests.peers.python_words import PYTHON
from tests.peers.rows import each_row

ROOT = Path(__file__).parents[3]
VALUES = (
    *("5", "-1", "1.5", "inf", "nan", "true", "'x'", "''", "'x\\ny'", '"\\u0000"', "99999999999999999999999", "1e400"),
    *("[]", "[1]", "['a']", "['', '']", "[true]", "[[1]]", "[{a = 1}]", "[2026-01-01]"),
    *("{}", "{a = 1}", "{a = {b = 1}}", "{'a b' = 1, '()' = 2}"),
    *("2026-01-01", "2026-01-01T00:00:00Z", "10:00:00"),
)
SERVER = '[servers.first]\nhost = "smtp.acme.example"\nusername = "m@acme.example"\n'


def keys_of_settings(kind: type = Settings, table: str = "") -> Iterator[tuple[str, str]]:
    """Every table of relay.toml and key in it; each table is a key, too."""
    called = kind.__pydantic_config__.get("alias_generator", str)  # type: ignore[attr-defined]
    for field in fields(kind):
        key, hint = called(field.name), get_type_hints(kind)[field.name]
        yield table, key
        for inner in (hint, *get_args(hint)):
            if is_dataclass(inner) and isinstance(inner, type):
                yield from keys_of_settings(inner, f"[[{key}]]" if inner is not hint else f"[{key}]")


def keys_of_directory() -> Iterator[tuple[str, str]]:
    """Every table of directory.toml and key in it, as the sample has them, and each table as a key."""
    table = ""
    for line in (ROOT / "etc/directory.toml").read_text().splitlines():
        if found := re.match(r"#(\[+([\w.]+)\]+)", line):
            table = found[1]
            yield "", found[2]
            yield "", found[2].split(".")[0]
        elif found := re.match(r"#([a-z_]+) = ", line):
            yield table, found[1]


SETTINGS = sorted(set(keys_of_settings()))
DIRECTORY = sorted(set(keys_of_directory()))


def said_of_settings(folder: Path, text: str) -> str:
    file = folder / "relay.toml"
    file.write_text(text)
    try:
        load_settings(file, {})
    except Faults as error:
        return str(error)
    return ""


def said_of_directory(text: str) -> str:
    try:
        parse_directory(parse_toml(text.encode(), "directory.toml"), "directory.toml")
    except Faults as error:
        return str(error)
    return ""


def test_the_keys_are_all_there() -> None:
    assert {("", "listener"), ("[[listener]]", "users"), ("[delivery]", "retry"), ("", "delivery")} <= set(SETTINGS)
    assert len(SETTINGS) > 50
    assert {("[servers.acmejets]", "port"), ("", "agents"), ("[agents.jane]", "may_send_as")} <= set(DIRECTORY)
    kinds = (model.Server, model.Channel, model.Agent, model.Script)
    assert len(DIRECTORY) > len({field.name for kind in kinds for field in fields(kind)})


@each_row(("table", "key"), SETTINGS)
def test_a_setting_of_another_type_is_a_sentence(tmp_path: Path, table: str, key: str) -> None:
    told = [said_of_settings(tmp_path, f"{table}\n{key} = {value}\n") for value in VALUES]
    assert len([said for said in told if said]) >= len(VALUES) // 2
    assert [said for said in told if PYTHON.search(said)] == []


@each_row(("table", "key"), DIRECTORY)
def test_a_key_of_the_directory_of_another_type_is_a_sentence(table: str, key: str) -> None:
    told = [said_of_directory(f"{before}{table}\n{key} = {value}\n") for before in ("", SERVER) for value in VALUES]
    assert len([said for said in told if said]) >= len(VALUES) // 2
    assert [said for said in told if PYTHON.search(said)] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tls]\n[tls]", "line 2, column 5: this is not TOML: cannot declare 'tls' twice"),
        ("[a.b]\n[a.'c d']\n[a.b]", "line 3, column 5: this is not TOML: cannot declare 'a.b' twice"),
        ('["it\'s"]\n["it\'s"]', 'line 2, column 8: this is not TOML: cannot declare "it\'s" twice'),
        ("a = {}\na.b = 1", "the end of the file: this is not TOML: cannot mutate immutable namespace 'a'"),
        ("[a.b.c]\n[a]\nb.c.d = 1", "the end of the file: this is not TOML: cannot redefine namespace 'a.b.c'"),
        ("a = {'(1' = 1, '(1' = 2}", "line 1, column 24: this is not TOML: duplicate inline table key '(1'"),
        (f"workers = {'1' * 5000}", "a number in it has too many digits"),
    ],
)
def test_what_is_no_toml_is_said_without_python(tmp_path: Path, text: str, said: str) -> None:
    assert said_of_settings(tmp_path, text) == f"{tmp_path}/relay.toml: {said}"
    assert said_of_directory(text) == f"directory.toml: {said}"


def test_a_list_of_which_nothing_is_right_is_a_sentence_each(tmp_path: Path) -> None:
    said = said_of_settings(tmp_path, "[delivery]\nretry = ['a', '2x']\npatience = 'x'\n")
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        *("delivery.patience", "delivery.retry #1", "delivery.retry #2")
    ]


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
_NAMES = st.sampled_from(["first", "a b", "('x',)", ""]) | st.text(max_size=2)
_TREES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=2))


@given(st.sampled_from(DIRECTORY), _TREES)
def test_a_directory_from_a_request_is_a_sentence(place: tuple[str, str], value: object) -> None:
    """It comes as JSON, which has more types than TOML; a name is said as it is written."""
    table, key = place
    tables = parse_toml(f"{SERVER}{table}\n{key} = 5\n".encode(), "") if table else parse_toml(SERVER.encode(), "")
    inner = tables
    for step in table.strip("[]").split(".") if table else ():
        found = inner[step]
        inner = found[0] if isinstance(found, list) else found
    inner[key] = value
    told = [fault.message for fault in faults_of(tables)]
    assert [said for said in told if PYTHON.search(without_texts(said))] == []


def faults_of(tables: dict[str, Any]) -> tuple[Fault, ...]:
    try:
        parse_directory(tables, "directory.toml")
    except Faults as error:
        return error.faults
    return ()


def without_texts(message: str) -> str:
    """A sentence without the texts that it shows in quotes."""
    return re.sub(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", "…", message)
