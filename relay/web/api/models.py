"""The bodies of the directory's entries, made from the model of directory.toml: a key is declared once, there.

For each noun there are three: its record as `show` gives it, what is given to add one, and what is given to change one
(every key optional, null restores the default). Passwords have requests of their own. What names a file or program of
this machine (`password_from`, `ca_file`) is shown and cannot be given: that is for whoever has the machine.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model

from relay.directory.keys import MACHINE_KEYS, Asked
from relay.directory.values import Editable
from relay.web.api.bodies import NAME_PATTERN, Body, Given
from relay.web.api.key_words import words_of

_NEVER_SHOWN = frozenset({"name", "password"})
_NEVER_GIVEN = frozenset({"name", "password"}) | MACHINE_KEYS


def record_model(name: str, model: Editable, more: Mapping[str, Any], example: Mapping[str, Any]) -> type[Body]:
    """Return the model of a record: the name, the keys that `more` adds or declares otherwise, those of the entry."""
    hints = {key: hint for key, hint in _hints(model, _NEVER_SHOWN, _shown).items() if key not in more}
    keys = {key: (hint, _field(model, key)) for key, hint in {"name": str, **hints, **more, "version": str}.items()}
    return _made(name, Body, keys, example)


def given_model(name: str, model: Editable, *, is_change: bool, example: Mapping[str, Any]) -> type[Body]:
    """Return the model of what is given to add an entry (with its name), or to change one (without)."""
    hints = _hints(model, _NEVER_GIVEN, _given)
    required = {field.name for field in fields(model) if field.default is MISSING and field.default_factory is MISSING}
    keys: dict[str, Any] = {}
    if not is_change:
        keys["name"] = (str, Field(pattern=NAME_PATTERN, description="It cannot be changed later."))
    for key, hint in hints.items():
        is_needed = key in required and not is_change
        keys[key] = (hint, _field(model, key)) if is_needed else (hint | None, _field(model, key, None))
    return _made(name, Given, keys, example)


def _made(name: str, base: type[Body], keys: Mapping[str, Any], example: Mapping[str, Any]) -> type[Body]:
    made: type[Body] = create_model(name, __base__=base, **keys)
    made.example = example
    return made


def _field(model: type, key: str, default: Any = ...) -> Any:
    return Field(default, description=words_of(model, key))


def _hints(model: Any, without: frozenset[str], inner: Any) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    return {field.name: inner(hints[field.name]) for field in fields(model) if field.name not in without}


def _shown(hint: Any) -> Any:
    return _with_models(hint, _NEVER_SHOWN - {"name"}, Body)


def _given(hint: Any) -> Any:
    return _with_models(hint, _NEVER_GIVEN - {"name"}, Given)


def _with_models(hint: Any, without: frozenset[str], base: type[Body]) -> Any:
    """Return a type with models in the place of the tables of directory.toml within it."""
    if isinstance(hint, type) and is_dataclass(hint):
        return _table_model(hint, without, base)
    inner = get_args(hint)
    if get_origin(hint) is Annotated and any(isinstance(one, str | Asked) for one in inner[1:]):  # with its meaning
        rest = [one for one in inner[1:] if not isinstance(one, str | Asked)]
        hint = Annotated[inner[0], *rest] if rest else inner[0]
        return _with_models(hint, without, base)
    if get_origin(hint) in {Union, UnionType}:
        union: Any = None
        for one in inner:
            changed = NoneType if one is NoneType else _with_models(one, without, base)
            union = changed if union is None else union | changed
        return union
    if get_origin(hint) is tuple:
        return list[_with_models(inner[0], without, base)]  # type: ignore[misc]
    return hint


@cache
def _table_model(table: Any, without: frozenset[str], base: type[Body]) -> type[Body]:
    keys: dict[str, Any] = {}
    for field in fields(table):
        if field.name in without:
            continue
        hint = _with_models(get_type_hints(table, include_extras=True)[field.name], without, base)
        is_optional = base is Given and field.default is not MISSING
        keys[field.name] = (hint, _field(table, field.name, field.default if is_optional else ...))
    suffix = "Values" if base is Given else ""
    made: type[Body] = create_model(f"{table.__name__}{suffix}", __base__=base, **keys)
    return made
