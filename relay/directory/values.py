"""Values of keys in directory.toml: read from texts by the type of their key, and checked before an edit writes them.

Pure. Whether a value is right is said when the directory is read with it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeAlias, get_origin, get_type_hints

from relay.config.schema import is_size, keys_of, no_such_key, show
from relay.directory.model import Application, Profile, Script, Server
from relay.directory.tables import Incoming, OAuthClient, plain_type

Editable: TypeAlias = type[Server | Profile | Application | Script]
Values: TypeAlias = Mapping[str, Any]
"""Keys and what they become; None restores the default."""

# What a text cannot say: tables, and lists of tables.
_TABLE_KEYS = frozenset({"answers", "oauth", "incoming", "set_headers"})
# The tables inside an entry; their keys are written "oauth.client_id".
_INNER: Mapping[str, "type[OAuthClient | Incoming]"] = MappingProxyType({"oauth": OAuthClient, "incoming": Incoming})
_FLAGS: Mapping[str, bool] = MappingProxyType(
    {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
)


@dataclass(frozen=True, slots=True)
class Remedy:
    """What lifts a refusal: an operation ("channel.set") on an entry, with the values that it sets."""

    operation: str
    name: str
    values: Values = field(default_factory=dict)


class EditRefused(Exception):
    """The edit cannot be made. The message is one sentence for whoever asked for it.

    `key` is the key or parameter at fault. `remedy` is what the sentence tells to do, where an operation does it: how
    that is asked for is for those to say who ask.
    """

    def __init__(self, message: str, key: str = "", remedy: Remedy | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.remedy = remedy


class NoSuchEntry(EditRefused):
    """There is nothing of that name in the directory."""


def parse_assignments(model: Editable, texts: Iterable[str]) -> dict[str, Any]:
    """Return the values in "KEY=VALUE" texts. Raises EditRefused for the first that cannot be one."""
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise EditRefused(f"{show(text)} is no assignment; write KEY=VALUE, or KEY= for the default")
        values[key.strip()] = parse_value(model, key.strip(), value.strip())
    return values


def parse_value(model: Editable, key: str, text: str) -> Any:
    """Return the value that a text means for a key, as the file holds it; None, which restores the default, for "".

    The text is read by the key's type: lists are separated by commas. A key of a table inside is "oauth.client_id".
    Raises EditRefused.
    """
    table, dot, inner = key.partition(".")
    if dot and table in _INNER and table in keys_of(model):
        return _inner_value(table, inner, text)
    if not text and key in _TABLE_KEYS and key in keys_of(model):
        return None  # the whole table goes
    _check_settable(model, key)
    if key in _TABLE_KEYS:
        way = f"set the keys in it: {key}.KEY=VALUE" if key in _INNER else "write it in directory.toml"
        raise EditRefused(f"{key}: this is a table; {way}", key)
    return _read(model, key, text)


def _inner_value(table: str, key: str, text: str) -> Any:
    model = _INNER[table]
    try:
        if key == "password":
            raise EditRefused("password: a password is never an argument; give it with `password NAME --incoming`")
        if key not in (known := [name for name in keys_of(model) if name != "password"]):
            raise EditRefused(f"{key}: {no_such_key(key, known)}")
        return _read(model, key, text)
    except EditRefused as refused:
        raise EditRefused(f"{table}.{refused}", f"{table}.{key}") from None


def _read(model: "Editable | type[OAuthClient | Incoming]", key: str, text: str) -> Any:
    if not text:
        return _nothing(model, key)
    return _parsed(get_type_hints(model, include_extras=True)[key], key, text)


def parse_inner(model: Editable, table: str, key: str, text: str) -> Any:
    """Return the value that a text means for a key of a table in an entry ("incoming", "port"); None for "".

    Raises EditRefused.
    """
    inner = plain_type(get_type_hints(model, include_extras=True)[table])
    return _parsed(get_type_hints(inner, include_extras=True)[key], f"{table}.{key}", text) if text else None


def _parsed(hint: object, key: str, text: str) -> Any:
    kind = plain_type(hint)
    if kind is bool:
        if text.lower() not in _FLAGS:
            raise EditRefused(f"{key}: {show(text)} is neither true nor false", key)
        return _FLAGS[text.lower()]
    if kind is int and not re.fullmatch(r"[0-9]+", text) and not is_size(hint):
        raise EditRefused(f"{key}: {show(text)} is not a whole number", key)
    if kind is int and text.isdecimal():
        return int(text)
    if get_origin(kind) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def check_values(model: Editable, values: Values) -> None:
    """Raise EditRefused for the first that cannot be set: a key that there is not, the name, a password, no value.

    Whether a value is right is said when the directory is read with it.
    """
    for key, value in values.items():
        _check_settable(model, key)
        if value is None:
            _nothing(model, key)
        if isinstance(value, Mapping) and "password" in value:
            raise EditRefused(f"{key}.password: a password is no value; set it by itself", f"{key}.password")
        _check_writable(key, value)


def _check_settable(model: Editable, key: str) -> None:
    known = [name for name in keys_of(model) if name not in {"name", "password"}]
    if key == "password":
        raise EditRefused("password: a password is never an argument; give it with the command `password NAME`", key)
    if key == "name":
        raise EditRefused("name: a name cannot be changed; remove the entry and add it under the new name", key)
    if key not in known:
        raise EditRefused(f"{key}: {no_such_key(key, known)}", key)


def _check_writable(key: str, value: Any) -> None:
    """Refuse what TOML has no way to write: nothing, in a list."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for one in inner:
        if one is None and not isinstance(value, Mapping):
            raise EditRefused(f"{key}: null is no value of a list", key)
        _check_writable(key, one)


def _nothing(model: "Editable | type[OAuthClient | Incoming]", key: str) -> None:
    field = next(field for field in fields(model) if field.name == key)
    if field.default is MISSING and field.default_factory is MISSING:
        raise EditRefused(f"{key}: there is no default; write {key}=VALUE", key)
