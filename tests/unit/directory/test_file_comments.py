"""The text of directory.toml: where a comment is one, and that edits change what they say and nothing else."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.directory.file import as_text, has_comments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1", False),
        ("a = 1 # b", True),
        ("# b", True),
        ('a = "#"', False),
        ("a = '#'", False),
        (r'a = "\"#"', False),
        (r"a = '\' # b", True),
        ('a = """\n#\n"""', False),
        ('a = """\n"#"\n""" # b', True),
        ("a = '''\n'#'\n'''", False),
        ('a = """x""""', False),
        ('a = """x"""" # "', True),
        ('a = ""\nb = 1 # c', True),
        ('"#" = 1', False),
        ("a = [\n  1, # b\n]", True),
    ],
)
def test_a_comment_is_what_no_string_holds(text: str, expected: bool) -> None:
    tomllib.loads(text)
    assert has_comments(text) is expected


names = st.sampled_from(["a", "b", "c d", "é", "x.y"])
values = st.one_of(st.text(max_size=8), st.integers(0, 9), st.booleans(), st.lists(st.text(max_size=4), max_size=2))
tables = st.dictionaries(
    st.sampled_from(["servers", "channels", "agents"]),
    st.dictionaries(names, st.dictionaries(names, values, max_size=3), max_size=3),
    max_size=3,
)


@settings(deadline=None, max_examples=60)
@given(tables, st.sampled_from(["servers", "agents"]), names, names, values)
def test_an_edit_changes_what_it_says_with_comments_and_without(
    before: dict[str, Any], kind: str, name: str, key: str, value: Any
) -> None:
    """For any tables, the text after an edit reads as the tables after the same edit."""
    import tomli_w  # noqa: PLC0415 - what wrote the text is no part of the claim

    def edit(document: Any) -> None:
        document.setdefault(kind, {}).setdefault(name, {})[key] = value

    text = tomli_w.dumps(before)
    expected = tomllib.loads(text)
    edit(expected)
    assert tomllib.loads(as_text(text, tomllib.loads(text), edit)) == expected
    commented = as_text(f"# kept\n{text}", tomllib.loads(text), edit)
    assert tomllib.loads(commented) == expected
    assert commented.startswith("# kept\n")
