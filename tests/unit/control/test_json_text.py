"""Long lists as JSON: the same text as in one piece."""

import json

import pytest

from relay.control.transport.json_text import json_text


@pytest.mark.parametrize("length", [0, 1, 499, 500, 501, 1000, 1234])
def test_parts_make_the_same_text_as_one_piece(length: int) -> None:
    records = [{"name": f"agent{number}", "aliases": ["Jürgen", None, {"a": number}]} for number in range(length)]
    assert json_text(records) == json.dumps(records, ensure_ascii=False)


@pytest.mark.parametrize("value", [None, "a, b", 7, True, {"items": [1, 2]}, [[], [[1]]]])
def test_what_is_no_long_list_is_written_as_ever(value: object) -> None:
    assert json_text(value) == json.dumps(value, ensure_ascii=False)
