"""The bodies of the API, made from the model of directory.toml: a key is declared once, there.

For each noun there are three: its record as `show` gives it, what is given to add one, and what is given to change one
(every key optional, null restores the default). Passwords have requests of their own. What names a file or program of
this machine (`password_from`) is shown and cannot be given: that is for whoever has the machine.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from relay.directory.edit import Editable

Item = TypeVar("Item")

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
_NEVER_SHOWN = frozenset({"name", "password"})
_NEVER_GIVEN = frozenset({"name", "password", "password_from"})
_STRICT = ConfigDict(extra="forbid")


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    total: int = Field(description="How many match in all.")
    start: int = Field(description="The number of the first one here, from 0.")


class Done(BaseModel):
    """It is done."""

    ok: bool = True


class Password(BaseModel):
    """A password. It is never shown again."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    password: str = Field(min_length=1, examples=["correct horse battery staple"])


def record_model(name: str, model: Editable, more: Mapping[str, Any], example: Mapping[str, Any]) -> type[BaseModel]:
    """Return the model of a record: the name, the keys that `more` adds or declares otherwise, those of the entry."""
    keys = {key: (hint, ...) for key, hint in _hints(model, _NEVER_SHOWN, _shown).items() if key not in more}
    own = {key: (hint, ...) for key, hint in more.items()}
    version = (str, Field(description="Of this entry; the same as its ETag."))
    config = ConfigDict(json_schema_extra={"examples": [dict(example)]})
    made: type[BaseModel] = create_model(  # type: ignore[call-overload]
        name, __config__=config, name=(str, ...), **keys, **own, version=version
    )
    return made


def given_model(name: str, model: Editable, *, is_change: bool, example: Mapping[str, Any]) -> type[BaseModel]:
    """Return the model of what is given to add an entry (with its name), or to change one (without)."""
    hints = _hints(model, _NEVER_GIVEN, _given)
    required = {field.name for field in fields(model) if field.default is MISSING and field.default_factory is MISSING}
    keys: dict[str, Any] = {}
    if not is_change:
        keys["name"] = (str, Field(pattern=NAME_PATTERN, description="It cannot be changed later."))
    for key, hint in hints.items():
        keys[key] = (hint, ...) if key in required and not is_change else (hint | None, None)
    config = ConfigDict(extra="forbid", json_schema_extra={"examples": [dict(example)]})
    made: type[BaseModel] = create_model(name, __config__=config, **keys)
    return made


def _hints(model: Any, without: frozenset[str], inner: Any) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    return {field.name: inner(hints[field.name]) for field in fields(model) if field.name not in without}


def _shown(hint: Any) -> Any:
    return _with_models(hint, _NEVER_SHOWN - {"name"}, "")


def _given(hint: Any) -> Any:
    return _with_models(hint, _NEVER_GIVEN - {"name"}, "Values")


def _with_models(hint: Any, without: frozenset[str], suffix: str) -> Any:
    """Return a type with models in the place of the tables of directory.toml within it."""
    if isinstance(hint, type) and is_dataclass(hint):
        return _table_model(hint, without, suffix)
    inner = get_args(hint)
    if get_origin(hint) in {Union, UnionType}:
        union: Any = None
        for one in inner:
            changed = NoneType if one is NoneType else _with_models(one, without, suffix)
            union = changed if union is None else union | changed
        return union
    if get_origin(hint) is tuple:
        return list[_with_models(inner[0], without, suffix)]  # type: ignore[misc]
    return hint


@cache
def _table_model(table: Any, without: frozenset[str], suffix: str) -> type[BaseModel]:
    keys: dict[str, Any] = {}
    for field in fields(table):
        if field.name in without:
            continue
        hint = _with_models(get_type_hints(table, include_extras=True)[field.name], without, suffix)
        is_given = suffix and field.default is not MISSING
        keys[field.name] = (hint, field.default) if is_given else (hint, ...)
    made: type[BaseModel] = create_model(f"{table.__name__}{suffix}", __config__=_STRICT if suffix else None, **keys)
    return made
