"""Reads a table of a TOML file into a frozen value, and words whatever is wrong with it: one sentence per fault.

The value's dataclass is the schema: its names, types and defaults, with marks in the types of keys (`Strict`, `Before`,
`After`, `Written`) that pydantic follows (`__get_pydantic_core_schema__`). pydantic finds the faults; its words are for
programmers, so every kind of fault gets words of ours here, for relay.toml and directory.toml alike. It is loaded with
the first table: a relay begins with tables that another process has read.

SECURITY: a fault never shows the value of a key that may hold a secret.
"""

import re
import tomllib
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property, reduce
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from relay.config.faults import Fault, Faults, did_you_mean
from relay.config.units import format_duration, format_size, parse_duration, parse_size

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import CoreSchema, ErrorDetails

T = TypeVar("T")
Location: TypeAlias = tuple[int | str, ...]
Unbuilt: TypeAlias = Callable[[Any], bool] | None
"""Which values of a key ask for a feature that is not built yet; None: every value but the default."""

_SECRET_KEYS = frozenset({"password", "password_from", "secret_from", "store", "master_key"})
_QUOTED = re.compile(r"'([^']*)'")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
# As tomllib names a table: "Cannot declare ('servers', 'acmejets') twice".
_TOML_TABLE = re.compile(r"^(Cannot (?:declare|mutate immutable namespace|redefine namespace)) (\(.*\))( twice)?$")
_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Strict:
    """Nothing is converted: 1 is not true, "1" is no number."""

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Let pydantic convert nothing."""
        schema = handler(source)
        schema["strict"] = True  # type: ignore[index]
        return schema


@dataclass(frozen=True, slots=True)
class Before:
    """What a function makes of the value as it is written, or its ValueError."""

    make: Callable[[object], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Let pydantic ask the function first."""
        from pydantic import BeforeValidator  # noqa: PLC0415

        return BeforeValidator(self.make).__get_pydantic_core_schema__(source, handler)


@dataclass(frozen=True, slots=True)
class After:
    """What a function makes of a value of the right type, or its ValueError."""

    make: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Let pydantic ask the function last."""
        from pydantic import AfterValidator  # noqa: PLC0415

        return AfterValidator(self.make).__get_pydantic_core_schema__(source, handler)


@dataclass(frozen=True, slots=True)
class Written:
    """How a function writes the value."""

    write: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Let pydantic write it so."""
        from pydantic import PlainSerializer  # noqa: PLC0415

        return PlainSerializer(self.write).__get_pydantic_core_schema__(source, handler)


def _duration(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError(f'{show(value)} is not a duration; write a number with s, m, h or d in quotes, such as "15s"')
    return parse_duration(value)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f'{show(value)} is not a size; write bytes or a number with KiB, MiB or GiB, such as "36MiB"')
    return parse_size(value)


def _size_as_written(size: int) -> str | int:
    text = format_size(size)
    return int(text) if text.isdigit() else text


Duration: TypeAlias = Annotated[float, Before(_duration), Written(format_duration)]
"""Seconds; "15s" or "4d" in a file."""

Size: TypeAlias = Annotated[int, Before(_size), Written(_size_as_written)]
"""Bytes; "36MiB" or a whole number in a file."""


class Schema(Generic[T]):
    """One dataclass as the schema of a table."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind

    @cached_property
    def _adapter(self) -> "TypeAdapter[T]":
        from pydantic import TypeAdapter  # noqa: PLC0415

        return TypeAdapter(self._kind)

    def read(self, table: Mapping[str, Any], key: str = "", **given: object) -> T:
        """Return the value in a table. Raises TableFaults.

        `key` is where the table stands in its file; `given` are fields that come from elsewhere, and so are no keys.
        """
        from pydantic_core import ValidationError  # noqa: PLC0415

        faults: list[tuple[str, str, Location]]
        faults = [(f"{key}.{name}", no_such_key(name, self._known(given)), (name,)) for name in given if name in table]
        try:
            value = self._adapter.validate_python({**table, **given})
        except ValidationError as error:
            details = error.errors(include_url=False)
            faults += [(*self._fault(detail, table, key, given), detail["loc"]) for detail in details]
        if faults:
            raise TableFaults(faults)
        return value

    def write(self, value: T) -> dict[str, Any]:
        """Return the table that reads as `value`: every key, durations and sizes as people write them."""
        table: dict[str, Any] = self._adapter.dump_python(value, mode="json", by_alias=True)
        return table

    def _fault(
        self, detail: "ErrorDetails", table: Mapping[str, Any], key: str, given: Mapping[str, object]
    ) -> tuple[str, str]:
        place = _written_key(detail["loc"], table)
        full_key = f"{key}.{place}" if key and place else key or place
        if detail["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            known = self._known(given, detail["loc"][:-1])
            return full_key, no_such_key(str(detail["loc"][-1]), known)
        if detail["type"] == "missing":
            return full_key, "this key is needed; add it"
        return full_key, _sentence(detail)

    def _known(self, given: Mapping[str, object], location: Location = ()) -> list[str]:
        known = keys_of(_kind_at(self._kind, location))
        return known if location else [key for key in known if key not in given]


class TableFaults(Exception):
    """A table does not fit its schema. `faults` are (key, sentence, location in the table)."""

    def __init__(self, faults: list[tuple[str, str, Location]]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{key}: {sentence}" for key, sentence, _ in faults))


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says. Raises Faults with the one fault that keeps it from being read."""
    try:
        return parse_toml(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise Faults([Fault(str(path), "", "there is no such file")]) from None
    except OSError as error:
        raise Faults([Fault(str(path), "", f"it cannot be read: {error.strerror}")]) from None


def parse_toml(content: bytes, file: str) -> dict[str, Any]:
    """Return what the bytes of a TOML file say. Raises Faults with line and column of what is no TOML."""
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"line {line} is not UTF-8; save the file as UTF-8"
    except tomllib.TOMLDecodeError as error:
        message = _syntax_sentence(str(error))
    except RecursionError:
        message = "its lists are nested too deeply"
    except ValueError:  # of Python's own int()
        message = "a number in it has too many digits"
    raise Faults([Fault(file, "", message)])


def without(table: Mapping[str, Any], faulty: Iterable[Location]) -> dict[str, Any]:
    """Return a table without the keys at these locations; an entry of a list goes as a whole, a list with its last."""
    sound: dict[str, Any] = {}
    for key, value in table.items():
        inner = [location[1:] for location in faulty if location[0] == key]
        if () in inner:
            continue
        if isinstance(value, dict):
            sound[key] = without(value, inner)
        elif isinstance(value, list) and inner:
            numbers = {location[0] for location in inner}
            if left := [item for number, item in enumerate(value) if number not in numbers]:
                sound[key] = left
        else:
            sound[key] = value
    return sound


def show(value: object) -> str:
    """Return a value of TOML or JSON in the words of a fault: 'text' in quotes, all else as it is written there."""
    if isinstance(value, str):
        return repr(value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "…")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return "null" if value is None else str(value)


def unbuilt_values(
    table: Mapping[str, Any], defaults: Mapping[str, Any], keys: Mapping[str, Unbuilt]
) -> Iterator[tuple[str, str]]:
    """Yield (key, sentence) for each value that asks for what this version does not have; keys may be dotted."""
    for key, is_unbuilt in keys.items():
        value = _at(table, key)
        if value != _at(defaults, key) and (is_unbuilt is None or is_unbuilt(value)):
            yield key, not_in_this_version(key, value)


def not_in_this_version(key: str, value: object) -> str:
    """Return the sentence about a value whose feature is not built yet."""
    if isinstance(value, Mapping) or is_dataclass(value):
        return "this table is not in this version; remove it"
    shown = "this value" if key in _SECRET_KEYS or isinstance(value, list | tuple) else show(value)
    return f"{shown} is not in this version; remove the key"


def no_such_key(key: str, known: list[str]) -> str:
    """Return the sentence about an unknown key among the known ones."""
    return "there is no such key" + (did_you_mean(key, known) or "; remove it")


def no_such(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence about a reference to nothing."""
    return f"there is no {kind} {show(name)}" + did_you_mean(name, known)


def keys_of(kind: object) -> list[str]:
    """Return the keys of the table that a dataclass is the schema of; [] for another type."""
    return list(_types_of(kind))


def is_size(hint: object) -> bool:
    """Whether the type of a key is Size, with or without its meaning beside it."""
    return set(get_args(Size)[1:]) <= set(get_args(hint)[1:])


def meanings_of(kind: type) -> dict[str, str]:
    """Return what each key of a dataclass means: the text in its type's Annotated; "" for a key without one."""
    types = _types_of(kind).items()
    return {key: next((extra for extra in get_args(hint)[1:] if isinstance(extra, str)), "") for key, hint in types}


def _syntax_sentence(words: str) -> str:
    place = _TOML_PLACE.search(words)
    reason = _TOML_TABLE.sub(_table_as_written, _TOML_PLACE.sub("", words))
    reason = reason[:1].lower() + reason[1:]
    if place is None:
        return f"this is not TOML: {reason}"
    if place[1] is None:
        return f"the end of the file: this is not TOML: {reason}"
    return f"line {place[1]}, column {place[2]}: this is not TOML: {reason}"


def _table_as_written(words: re.Match[str]) -> str:
    return f"{words[1]} {show('.'.join(literal_eval(words[2])))}{words[3] or ''}"


def _written_key(location: Location, table: object) -> str:
    """Return a location as people find it: an entry of a list by its name, or by its number from 1."""
    key = ""
    for step in location:
        if step == "[key]":
            break
        table = _inside(table, step)
        if isinstance(step, str):
            key += f".{step}" if key else step
        elif isinstance(table, Mapping) and isinstance(table.get("name"), str):
            key += f".{table['name']}"
        else:
            key += f" #{step + 1}"
    return key


def _at(table: Mapping[str, Any], key: str) -> Any:
    return reduce(lambda inner, step: inner[step], key.split("."), table)


def _inside(table: object, step: int | str) -> object:
    if isinstance(table, Mapping):
        return table.get(step)
    if isinstance(table, list) and isinstance(step, int):
        return table[step]
    return None


def _types_of(kind: object) -> Mapping[str, object]:
    """Return the type of every key of a dataclass, by the name the key has in the file."""
    return _types_of_fields(kind) if isinstance(kind, type) and is_dataclass(kind) else {}


@cache  # asked for every entry of a directory; a dataclass never changes
def _types_of_fields(kind: type) -> Mapping[str, object]:
    hints = get_type_hints(kind, include_extras=True)
    called = getattr(kind, "__pydantic_config__", {}).get("alias_generator", str)
    return {called(field.name): hints[field.name] for field in fields(kind)}


def _kind_at(kind: object, location: Location) -> object:
    """Return the dataclass that reads the table at a location."""
    for step in location:
        inner = _types_of(kind).get(step) if isinstance(step, str) else kind
        kind = _dataclass_in(inner)
    return kind


def _dataclass_in(hint: object) -> object:
    """Return the dataclass that a type speaks of: itself, or that inside Annotated, a tuple or `| None`."""
    if get_origin(hint) in {Annotated, Union, UnionType, tuple}:
        return next((found for arg in get_args(hint) if (found := _dataclass_in(arg)) is not None), None)
    return hint if is_dataclass(hint) else None


_WRONG_TYPE: Mapping[str, str] = {
    "string_type": "is not text; write it in quotes",
    "path_type": "is not a path; write it in quotes",
    "int_type": "is not a whole number; write it without quotes",
    "bool_type": "is neither true nor false; write one of them, without quotes",
    "tuple_type": 'is not a list; write it in brackets, such as ["…"]',
    "dict_type": "is not a table",
    "mapping_type": "is not a table",
    "dataclass_type": "is not a table",
}


def _sentence(detail: "ErrorDetails") -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    is_secret = bool(_SECRET_KEYS.intersection(str(step) for step in detail["loc"]))
    shown = "the value" if is_secret else show(detail["input"])
    if kind == "tuple_type" and isinstance(detail["input"], Mapping):
        return f"there may be several; write it with two brackets: [[{detail['loc'][-1]}]]"
    if kind in _WRONG_TYPE:
        return f"{shown} {_WRONG_TYPE[kind]}"
    if kind == "value_error":
        return str(context["error"])
    if kind in {"enum", "literal_error"}:
        return not_one_of(detail["input"], _QUOTED.findall(context["expected"]))
    if kind == "greater_than_equal":
        return f"{shown} is too small; the least is {context['ge']}"
    if kind == "less_than_equal":
        return f"{shown} is too large; the most is {context['le']}"
    return f"{shown} does not fit here"


def not_one_of(value: object, words: list[str]) -> str:
    """Return the sentence about a word that is none of those a key knows."""
    known = " or ".join(filter(None, [", ".join(f"'{word}'" for word in words[:-1]), f"'{words[-1]}'"]))
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    return f"{show(value)} is not {known}" + hint
