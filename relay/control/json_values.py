"""Results of operations as JSON, and back: a dataclass is an object whose keys are the names of its fields.

Python's encoder is one call, in which no other thread runs: of ten thousand records at once, for 40 ms. So a long list
is made a part at a time. Between two parts the event loop has its turn, where this is called in a thread.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from relay.control.refused import Refused

T = TypeVar("T")
_Reader: TypeAlias = Callable[[Any], Any]

_AT_ONCE = 500


def as_json(result: Any) -> Any:
    """Return a result, or a list of them, as objects and arrays of JSON. What is no dataclass is JSON already."""
    if isinstance(result, list):
        return [as_json(one) for one in result]
    if isinstance(result, dict):
        return result
    return json.loads(json_text(result))


def json_text(value: Any) -> str:
    """Return a result as JSON text, as `json.dumps` writes it for people who read other alphabets too."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return _text(value)
    parts = (_text(value[start : start + _AT_ONCE])[1:-1] for start in range(0, len(value), _AT_ONCE))
    return f"[{', '.join(parts)}]"


def from_json(kind: type[T], value: Any) -> T:
    """Return the result of this dataclass that JSON says. A key that it does not know is left out.

    Raises Refused where a key is missing: whoever answered is of another version.
    """
    found: T = _reader(kind)(value)
    return found


def list_from_json(kind: type[T], values: Sequence[Any]) -> list[T]:
    """Return the results that an array of JSON says. Raises Refused."""
    read = _reader(kind)
    return [read(value) for value in values]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=fields_of)


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, as they are: an object whose values are still to be written."""
    return {name: getattr(value, name) for name in _names(type(value))}


def _names_of(kind: Any) -> tuple[str, ...]:
    """Return the keys of a dataclass. Raises TypeError for anything else, as the encoder does."""
    return tuple(field.name for field in fields(kind))


def _reader_of(kind: Any) -> _Reader:
    """Return what reads a value of this type. Plain values are taken as they are: a relay of ours wrote them."""
    if is_dataclass(kind):
        return _object_reader(kind)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _word_reader(kind)
    if get_origin(kind) in {Union, UnionType}:
        others = [one for one in get_args(kind) if one is not NoneType]
        read = _reader(others[0]) if len(others) == 1 else _as_it_is
        return _as_it_is if read is _as_it_is else lambda value: None if value is None else read(value)
    if get_origin(kind) in {list, Sequence}:
        read = _reader(get_args(kind)[0])
        return _as_it_is if read is _as_it_is else lambda value: [read(one) for one in value]
    return _as_it_is


def _object_reader(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    readers = {name: _reader(hints[name]) for name in _names(kind)}
    plain = [name for name, read in readers.items() if read is _as_it_is]
    others = [(name, read) for name, read in readers.items() if read is not _as_it_is]

    def read_object(value: Mapping[str, Any]) -> Any:
        try:
            found = {name: value[name] for name in plain}
            found |= {name: read(value[name]) for name, read in others}
        except KeyError as error:
            raise Refused(
                f"what the running relay answered lacks {error}: it is of another version; restart it after an update"
            ) from None
        return kind(**found)

    return read_object


def _word_reader(kind: type[StrEnum]) -> _Reader:
    def read_word(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise Refused(
                f"what the running relay answered says '{value}': it is of another version; restart it after an update"
            ) from None

    return read_word


def _as_it_is(value: Any) -> Any:
    return value


_names: Callable[[Any], tuple[str, ...]] = cache(_names_of)
_reader: Callable[[Any], _Reader] = cache(_reader_of)
