"""Settings from the environment: RELAY_DELIVERY__MODE=queued counts before what relay.toml says of delivery.mode.

Sections are set apart by two underscores, entries of a list of tables by their number (RELAY_LISTENER__0__ADDRESS);
lists and tables are JSON. A name with one underscore alone is a key at the top (RELAY_HOSTNAME), and one that is no
key is somebody else's (RELAY_CONFIG). Pure.
"""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from relay.config.faults import did_you_mean

_PREFIX = "RELAY_"
_APART = "__"
_BOOLEANS: Mapping[str, bool] = MappingProxyType({"true": True, "false": False})
_MOST_ENTRIES = 1000

Location = tuple[int | str, ...]


class Overlaid(NamedTuple):
    """A table with what the environment says in it, which variable says what, and what is wrong: (variable, why)."""

    table: dict[str, Any]
    variables: Mapping[Location, str]
    faults: tuple[tuple[str, str], ...]


def overlaid(table: Mapping[str, Any], environ: Mapping[str, str], kind: type, lists: Mapping[str, str]) -> Overlaid:
    """Return a table with the environment in it. `kind` is its schema, `lists` its fields that are lists of tables."""
    names = [name for name in environ if name.startswith(_PREFIX)]
    if not names:
        return Overlaid(dict(table), {}, ())
    whole = deepcopy(dict(table))
    variables: dict[Location, str] = {}
    faults: list[tuple[str, str]] = []
    for name in sorted(names, key=_in_order):
        steps = name.removeprefix(_PREFIX).lower().split(_APART)
        try:
            location, hint = _place(steps, kind, lists)
            _put(whole, location, _value(environ[name], hint))
        except _NotOurs:
            continue
        except ValueError as error:
            faults.append((name, str(error)))
        else:
            variables[location] = name
    return Overlaid(whole, variables, tuple(faults))


def variable_of(location: Location, variables: Mapping[Location, str]) -> str:
    """Return the variable that says what stands at a location; "" where none does."""
    return next((variables[location[:end]] for end in range(len(location), 0, -1) if location[:end] in variables), "")


class _NotOurs(Exception):
    """A variable that is no setting, and says so by its name."""


def _in_order(name: str) -> tuple[int, list[int | str]]:
    """Whole lists before their entries, and those by their numbers."""
    steps = name.split(_APART)
    return len(steps), [f"{int(step):06}" if step.isdecimal() else step for step in steps]


def _place(steps: list[str], kind: type, lists: Mapping[str, str]) -> tuple[Location, Any]:
    """Return where a variable puts its value, and the type of that. Raises _NotOurs, ValueError."""
    hints = _hints(kind, lists)
    first = steps[0]
    if first not in hints:
        if len(steps) == 1:
            raise _NotOurs
        raise ValueError(f"there is no section '{first}' in relay.toml" + _meant(first, hints))
    inner = _table_in(hints[first])
    if len(steps) == 1:
        if inner is not None and first not in lists.values():
            raise _NotOurs  # RELAY_LOG may be anybody's
        return (first,), hints[first]
    location: Location = (first,)
    rest = steps[1:]
    if first in lists.values():
        if not rest[0].isdecimal() or int(rest[0]) >= _MOST_ENTRIES:
            raise ValueError(f"'{first}' is a list; write its number behind it: {_PREFIX}{first.upper()}__0__…")
        location, rest = (first, int(rest[0])), rest[1:]
    keys = _hints(inner, {}) if inner is not None else {}
    if len(rest) != 1 or rest[0] not in keys:
        key = _APART.join(rest)
        raise ValueError(f"there is no key '{key}' in {first}" + _meant(key, keys))
    return (*location, rest[0]), keys[rest[0]]


def _meant(word: str, known: Mapping[str, Any]) -> str:
    return did_you_mean(word, list(known)) or "; remove it"


def _hints(kind: type, lists: Mapping[str, str]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {lists.get(field.name, field.name): hints[field.name] for field in fields(kind)}


def _table_in(hint: Any) -> type | None:
    """Return the dataclass that a key is a table of, or a list of tables."""
    for one in (hint, *get_args(hint)):
        if isinstance(one, type) and is_dataclass(one):
            return one
    return None


def _value(text: str, hint: Any) -> Any:
    """Return what a text means for a key of a type, as TOML would have it. Raises ValueError."""
    if get_origin(hint) in {tuple, get_origin(Mapping[str, str])}:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError('a list or a table is written as JSON here, such as ["a", "b"]') from None
    if hint is bool:
        return _BOOLEANS.get(text.strip().lower(), text)
    kinds = set(_plain(hint))
    if int in kinds and text.strip().isdecimal():
        return int(text)
    return text


def _plain(hint: Any) -> Iterator[Any]:
    """Yield the types of which a value may be."""
    if get_origin(hint) is Literal or not get_args(hint):
        yield hint
        return
    for one in get_args(hint):
        yield from _plain(one)


def _put(table: dict[str, Any], location: Location, value: Any) -> None:
    """Put a value where it belongs, making the tables around it. Raises ValueError."""
    here: Any = table
    for step, after in pairwise(location):
        if isinstance(step, str):
            here = here.setdefault(step, [] if isinstance(after, int) else {})
        else:
            if not isinstance(here, list) or step > len(here):
                raise ValueError(f"there is no entry {step} to change, nor the one before it; number them from 0")
            if step == len(here):
                here.append({})
            here = here[step]
        if not isinstance(here, dict | list):
            raise ValueError("what relay.toml has there is no table")
    here[location[-1]] = value
