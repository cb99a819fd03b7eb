"""Results as JSON and back; and long lists: the same text as in one piece."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from relay.control.json_values import as_json, fields_of, from_json, json_text, list_from_json
from relay.control.refused import Refused
from relay.control.results import NOT_RUNNING, Status
from relay.control.tests.results import LoginCheck, LoginState


@dataclass(frozen=True, slots=True)
class Inner:
    name: str


@dataclass(frozen=True, slots=True)
class Outer:
    first: Inner
    more: Sequence[Inner]
    last: Inner | None
    numbers: Mapping[str, int]
    words: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Longer(Outer):
    added: int | None = None


OBJECT: dict[str, Any] = {
    "first": {"name": "ä"},
    "more": [{"name": "b"}],
    "last": None,
    "numbers": {"queued": 1},
    "words": ["w"],
}
OUTER = Outer(Inner("ä"), [Inner("b")], None, {"queued": 1}, ["w"])


def test_a_result_is_an_object_with_its_fields_in_their_order_and_comes_back() -> None:
    assert json.dumps(as_json(OUTER)) == json.dumps(OBJECT)
    assert json_text([OUTER]) == json.dumps([OBJECT], ensure_ascii=False)
    assert from_json(Outer, OBJECT) == OUTER
    assert list_from_json(Outer, [OBJECT, {**OBJECT, "last": {"name": "c"}}])[1].last == Inner("c")


def test_the_fields_of_a_longer_result_stand_behind_those_of_the_shorter() -> None:
    assert [*as_json(Longer(**fields_of(OUTER), added=7))] == [*OBJECT, "added"]


def test_a_result_of_another_version_lacks_no_key_and_may_have_more() -> None:
    assert from_json(Outer, {**OBJECT, "new": 1}) == OUTER
    with pytest.raises(Refused, match="what the running relay answered lacks 'more': it is of another version"):
        from_json(Outer, {key: value for key, value in OBJECT.items() if key != "more"})


def test_a_word_of_a_result_is_the_one_that_it_was() -> None:
    login = LoginCheck(state=LoginState.WORKS, detail="")
    assert from_json(LoginCheck, as_json(login)).state is LoginState.WORKS
    with pytest.raises(Refused, match="what the running relay answered says 'maybe': it is of another version"):
        from_json(LoginCheck, {"state": "maybe", "detail": ""})


def test_what_is_no_result_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        json_text(object())


def test_a_status_of_nothing_comes_back_as_it_is() -> None:
    assert json_text(from_json(Status, as_json(NOT_RUNNING))) == json_text(NOT_RUNNING)


@pytest.mark.parametrize("length", [0, 1, 499, 500, 501, 1000, 1234])
def test_parts_make_the_same_text_as_one_piece(length: int) -> None:
    records = [{"name": f"agent{number}", "aliases": ["Jürgen", None, {"a": number}]} for number in range(length)]
    assert json_text(records) == json.dumps(records, ensure_ascii=False)


@pytest.mark.parametrize("value", [None, "a, b", 7, True, {"items": [1, 2]}, [[], [[1]]]])
def test_what_is_no_long_list_is_written_as_ever(value: object) -> None:
    assert json_text(value) == json.dumps(value, ensure_ascii=False)
