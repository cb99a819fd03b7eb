"""A table in rows is to whoever changes it what a dict is, and says which rows have become others."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.directory.document import StoredTable, changes, text_of, value_of

NAMES = st.sampled_from("abcd")
ENTRIES = st.fixed_dictionaries({"group": st.sampled_from(["red", "blue"])})
TEXTS = st.dictionaries(NAMES, ENTRIES.map(text_of), max_size=3)
STEPS = st.lists(st.tuples(st.sampled_from(["set", "update", "delete", "look"]), NAMES, ENTRIES), max_size=6)


def step(table: Any, what: str, name: str, entry: dict[str, Any]) -> None:
    if what == "set":
        table[name] = dict(entry)
    elif name in table:
        if what == "update":
            table[name].update(entry)
        elif what == "delete":
            del table[name]
        else:
            assert isinstance(table[name], dict)


@given(TEXTS, STEPS)
def test_it_is_a_dict_to_whoever_changes_it(texts: dict[str, str], steps: list[Any]) -> None:
    table, plain = StoredTable(texts), {name: value_of(text) for name, text in texts.items()}
    for one in steps:
        step(table, *one)
        step(plain, *one)
    assert dict(table) == plain
    assert len(table) == len(plain)
    assert {name for name, entry in table.mentioning("red") if entry["group"] == "red"} == {
        name for name, entry in plain.items() if entry["group"] == "red"
    }
    assert dict(changes(texts, table)) == dict(changes(texts, plain))


def test_it_reads_what_is_looked_at_and_no_more() -> None:
    table = StoredTable({"a": "no JSON", "b": '{"group": "red"}', "c": '{"group": "blue"}', "d": '{"x": "\\u0072ed"}'})
    assert [name for name, _ in table.mentioning("red")] == ["b", "d"], "an escape may be any character"
    assert sorted(table._read) == ["b", "d"]
    assert list(table.changes()) == [("d", '{"x": "red"}')]
