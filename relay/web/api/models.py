"""The bodies of the directory's entries, made from the model of directory.toml: a key is declared once, there.

For each noun there are three: its record as `show` gives it, what is given to add one, and what is given to change one
(every key optional, null restores the default). Passwords have requests of their own. What names a file or program of
this machine (`MACHINE_KEYS`) is shown and cannot be given: that is for whoever has the machine. What a record has
beside the keys is declared in `relay.control.entries.facts`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model

from relay.config.schema import is_size, meanings_of
from relay.control.entries.facts import FACTS, NamedBy
from relay.control.tests.results import LastTestRecord
from relay.directory.kinds import Entry, EntryKind
from relay.directory.tables import MACHINE_KEYS, Asked, default_of, is_needed, plain_type
from relay.web.api.bodies import NAME_PATTERN, VERSION, Body, Given

_NEVER_SHOWN = frozenset({"name", "password"})
_NEVER_GIVEN = frozenset({"name", "password"}) | MACHINE_KEYS
_ON_THE_MACHINE = "It is shown here and set on the machine alone."
# The sentences that are others than in the file: of what is no key, is set elsewhere, or is null where the file leaves
# a key out.
_MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "name": "What the entry is called. It never changes.",
        "version": "Which version of the entry this is; the same as its ETag.",
        "password_from": 'Where the password comes from, if not from the vault: "file:PATH", "env:NAME", '
        f'"credential:NAME" or "command:LINE". {_ON_THE_MACHINE}',
        "ca_file": 'The PEM file of the authorities that its certificate may come from; "": those of the system. '
        f"{_ON_THE_MACHINE}",
        "message_size": "How large a message may be, in bytes. 0: no limit but the server's own.",
        "server": "The server that was chosen; null follows the default server.",
        "script": "The header rules that were chosen. A channel without any follows the script default, if there is.",
        "mode": "The delivery mode; null follows relay.toml.",
    }
)


class LastTest(Body):
    """The last test of an entry since the relay started."""

    at: str = Field(examples=["2026-11-24T10:05:00Z"])
    ok: bool = Field(examples=[True])
    step: str = Field(description="The step that failed, or the last one.", examples=["message"])
    detail: str = Field(description="The server's words, or ours.", examples=["sent: 250 2.0.0 OK"])
    current: bool = Field(description="Whether the entry is still what was tested.", examples=[True])


class Named(Body):
    """A channel or agent that names a script."""

    kind: Literal["channel", "agent"] = Field(examples=["channel"])
    name: str = Field(examples=["support"])


_BODIES: Mapping[Any, type[Body]] = MappingProxyType({LastTestRecord: LastTest, NamedBy: Named})


def record_model(kind: EntryKind[Entry], example: Mapping[str, Any]) -> type[Body]:
    """Return the model of a record: the name, the keys of the entry, and the facts about it.

    A key that the example does not have is shown there with its default.
    """
    facts = {key: _shown(hint) for key, hint in get_type_hints(FACTS[kind.word], include_extras=True).items()}
    keys = _hints(kind.model, _NEVER_SHOWN, _shown)
    # What nobody has set is shown as it follows.
    keys |= {"port": int} if "port" in keys else {}
    hints = {"name": str, **keys, **facts, "version": str}
    defaults = {key: _as_json(default_of(kind.model, key)) for key in keys if not is_needed(kind.model, key)}
    made = {key: (hint, _field(kind, key)) for key, hint in hints.items()}
    return _made(kind.word.capitalize(), Body, made, {**defaults, **_filled(kind, example), "version": VERSION})


def given_model(name: str, kind: EntryKind[Entry], *, is_change: bool, example: Mapping[str, Any]) -> type[Body]:
    """Return the model of what is given to add an entry (with its name), or to change one (without)."""
    keys: dict[str, Any] = {}
    if not is_change:
        keys["name"] = (str, Field(pattern=NAME_PATTERN, description="It cannot be changed later."))
    for key, hint in _hints(kind.model, _NEVER_GIVEN, _given).items():
        must = is_needed(kind.model, key) and not is_change
        keys[key] = (hint, _field(kind, key)) if must else (hint | None, _field(kind, key, None))
    return _made(name, Given, keys, example)


def _filled(kind: EntryKind[Entry], example: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example whose tables have all their keys, as an answer has them."""
    hints = get_type_hints(kind.model)
    return {
        key: {**_table_defaults(plain_type(hints[key])), **value} if is_dataclass(plain_type(hints.get(key))) else value
        for key, value in example.items()
    }


def _table_defaults(table: Any) -> dict[str, Any]:
    shown = (field.name for field in fields(table) if field.name != "password" and not is_needed(table, field.name))
    return {key: _as_json(default_of(table, key)) for key in shown}


def _as_json(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _made(name: str, base: type[Body], keys: Mapping[str, Any], example: Mapping[str, Any]) -> type[Body]:
    made: type[Body] = create_model(name, __base__=base, **keys)
    made.example = example
    return made


def _field(kind: EntryKind[Entry], key: str, default: Any = ...) -> Any:
    return Field(default, description=_MEANINGS.get(key) or _meanings(kind).get(key))


@cache
def _meanings(kind: EntryKind[Entry]) -> Mapping[str, str]:
    facts = get_type_hints(FACTS[kind.word], include_extras=True)
    said = {key: next((one for one in get_args(hint)[1:] if isinstance(one, str)), "") for key, hint in facts.items()}
    return {**meanings_of(kind.model), **said}


def _table_field(table: type, key: str, default: Any) -> Any:
    return Field(default, description=_MEANINGS.get(key) or meanings_of(table).get(key))


def _hints(model: Any, without: frozenset[str], inner: Any) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    return {field.name: inner(hints[field.name]) for field in fields(model) if field.name not in without}


def _shown(hint: Any) -> Any:
    if is_size(hint):
        return int  # in bytes, however it was written
    return _with_models(hint, _NEVER_SHOWN - {"name"}, Body)


def _given(hint: Any) -> Any:
    return _with_models(hint, _NEVER_GIVEN - {"name"}, Given)


def _with_models(hint: Any, without: frozenset[str], base: type[Body]) -> Any:
    """Return a type with models in the place of the tables of directory.toml within it."""
    if hint in _BODIES:
        return _BODIES[hint]
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
    if get_origin(hint) in {tuple, list}:
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
        keys[field.name] = (hint, _table_field(table, field.name, field.default if is_optional else ...))
    suffix = "Values" if base is Given else ""
    made: type[Body] = create_model(f"{table.__name__}{suffix}", __base__=base, **keys)
    return made
