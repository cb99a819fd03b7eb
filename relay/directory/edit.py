"""The commands' edits of directory.toml, on its tables: what they refuse themselves, they refuse in one sentence.

Pure: a document in, changed in place. What the changed directory must fulfil as a whole is checked by `rules` before
it is written.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import MISSING, fields
from shlex import quote
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias, get_args, get_origin, get_type_hints

from relay.config.schema import is_size, keys_of, no_such, no_such_key, show
from relay.directory.client import GROUP
from relay.directory.model import Application, Incoming, OAuthClient, Profile, ProfileKind, Script, Server
from relay.directory.reading import name_fault
from relay.directory.stored_table import StoredTable

Document: TypeAlias = MutableMapping[str, Any]
Editable: TypeAlias = type[Server | Profile | Application | Script]
Values: TypeAlias = Mapping[str, Any]
"""Keys and what they become; None restores the default."""


_TABLES: Mapping[ProfileKind, str] = MappingProxyType({ProfileKind.CHANNEL: "channels", ProfileKind.AGENT: "agents"})
_LOGINS = ("channels", "agents", "applications")
# What a text cannot say: tables, and lists of tables.
_TABLE_KEYS = frozenset({"answers", "oauth", "incoming", "set_headers"})
# The tables inside an entry; their keys are written "oauth.client_id".
_INNER: Mapping[str, "type[OAuthClient | Incoming]"] = MappingProxyType({"oauth": OAuthClient, "incoming": Incoming})
_LASTING = ("password", "password_from", "ca_file")
_FLAGS: Mapping[str, bool] = MappingProxyType(
    {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
)


class EditRefused(Exception):
    """The edit cannot be made. The message is one sentence for whoever asked for it; `key` is the one at fault."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


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
    inner = _plain(get_type_hints(model, include_extras=True)[table])
    return _parsed(get_type_hints(inner, include_extras=True)[key], f"{table}.{key}", text) if text else None


def _parsed(hint: object, key: str, text: str) -> Any:
    kind = _plain(hint)
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


def add_server(document: Document, name: str, values: Values, *, default: bool = False) -> None:
    """Add a server; the first one becomes the default, as does one with `default`."""
    _check_new(document, name, ("servers",), "server")
    _put(document, "servers", name, values)
    if default or not document.get("default_server"):
        set_default(document, name)


def set_server(document: Document, name: str, values: Values) -> None:
    """Change keys of a server."""
    _update(_entry(document, "servers", name), values)


def remove_server(document: Document, name: str, move_to: str | None = None) -> None:
    """Remove a server that nobody uses, or whose profiles go to `move_to`. The default server stays."""
    _entry(document, "servers", name)
    if document.get("default_server") == name:
        others = sorted(other for other in document["servers"] if other != name)
        first = f"make another the default first: relay server default {others[0]}" if others else "it is the only one"
        raise EditRefused(f"'{name}' is the default server; {first}")
    tables = _TABLES.values()
    users = [entry for table in tables for _, entry in _named(document, table, name) if entry.get("server") == name]
    if users and move_to is None:
        count = "1 profile sends" if len(users) == 1 else f"{len(users)} profiles send"
        raise EditRefused(f"{count} through '{name}'; say where to: --move-to SERVER", "move_to")
    if move_to is not None:
        _entry(document, "servers", move_to)
        if move_to == name:
            raise EditRefused(f"--move-to names '{name}' itself; name another server")
    for entry in users:
        entry["server"] = move_to
    _drop(document, "servers", name)


def set_default(document: Document, name: str) -> None:
    """Make a server the default; the profiles that choose none follow.

    One with an account of its own stays where that is: the server before is written into it.
    """
    _entry(document, "servers", name)
    if document.get("default_server") != name:
        for table in _TABLES.values():
            for _, entry in _named(document, table, "override"):
                _name_server(document, entry)
    document["default_server"] = name


def _name_server(document: Document, entry: MutableMapping[str, Any]) -> None:
    """Write the server that is in effect into a profile with an account of its own: its password is for that one."""
    default = document.get("default_server")
    if entry.get("override") is True and not entry.get("server") and default:
        entry["server"] = default


def add_profile(document: Document, kind: ProfileKind, name: str, values: Values) -> None:
    """Add a channel or an agent."""
    _check_new(document, name, _LOGINS, kind.value)
    _put(document, _TABLES[kind], name, values)
    _name_server(document, document[_TABLES[kind]][name])


def set_profile(document: Document, kind: ProfileKind, name: str, values: Values) -> None:
    """Change keys of a channel or an agent. One that logs in with its own account names its server."""
    entry = _entry(document, _TABLES[kind], name)
    _update(entry, values)
    if not values.keys().isdisjoint({"override", "server"}):
        _name_server(document, entry)


def remove_profile(document: Document, kind: ProfileKind, name: str) -> None:
    """Remove a channel or an agent that no login may send as."""
    group = _entry(document, _TABLES[kind], name).get("group")
    _check_not_named(document, name, name, f"'{name}'")
    if group and not any(
        entry.get("group") == group for other, entry in _named(document, "agents", group) if other != name
    ):
        _check_not_named(document, f"{GROUP}{group}", name, f"group '{group}', which '{name}' is the last of")
    _drop(document, _TABLES[kind], name)


def add_application(document: Document, name: str, values: Values) -> None:
    """Add an application."""
    _check_new(document, name, _LOGINS, "application")
    _put(document, "applications", name, values)


def set_application(document: Document, name: str, values: Values) -> None:
    """Change keys of an application."""
    _update(_entry(document, "applications", name), values)


def remove_application(document: Document, name: str) -> None:
    """Remove an application."""
    _entry(document, "applications", name)
    _drop(document, "applications", name)


def add_script(document: Document, name: str, values: Values) -> None:
    """Add header rules."""
    _check_new(document, name, ("scripts",), "script")
    _put(document, "scripts", name, values)


def set_script(document: Document, name: str, values: Values) -> None:
    """Change keys of header rules."""
    _update(_entry(document, "scripts", name), values)


def remove_script(document: Document, name: str) -> None:
    """Remove header rules that no channel or agent names."""
    _entry(document, "scripts", name)
    users = [
        f"{table.removesuffix('s')} {user}"
        for table in _TABLES.values()
        for user, entry in _named(document, table, name)
        if entry.get("script") == name
    ]
    if users:
        others = f" and {len(users) - 1} more" if len(users) > 1 else ""
        way = f"relay {users[0].replace(' ', ' set ', 1)} script="
        raise EditRefused(f"{users[0]}{others} use script '{name}'; take it out first: {way}")
    _drop(document, "scripts", name)


def _check_not_named(document: Document, named: str, leaving: str, words: str) -> None:
    """Refuse where another login than the one that is leaving has this name in its `may_send_as` or `bounces`.

    `words` say what is named. The refusal says how to take it out of the first of them.
    """
    for name, entry in _named(document, "applications", named):
        if entry.get("bounces") == named:
            way = f"relay application set {name} bounces="
            raise EditRefused(f"the bounces of application {name} leave from {words}; change that first: {way}")
    holders = [
        (f"{table.removesuffix('s')} {other}", names)
        for table in ("agents", "applications")
        for other, entry in _named(document, table, named)
        if other != leaving and named in (names := _names(entry))
    ]
    if holders:
        holder, names = holders[0]
        others = {1: "", 2: " and another login"}.get(len(holders), f" and {len(holders) - 1} other logins")
        rest = quote(f"may_send_as={','.join(name for name in names if name != named)}")
        way = f"relay {holder.replace(' ', ' set ', 1)} {rest}"
        raise EditRefused(f"{holder}{others} may send as {words}; take it out first: {way}")


def _names(entry: Mapping[str, Any]) -> list[str]:
    """Return the names in `may_send_as`; none where it is no list, which `rules` tells."""
    names = entry.get("may_send_as")
    return [str(name) for name in names] if isinstance(names, list) else []


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


def _plain(hint: object) -> object:
    """Return the type that a hint speaks of, without its Annotated and its `| None`."""
    if get_origin(hint) is Annotated:
        return _plain(get_args(hint)[0])
    if type(None) in get_args(hint):
        return _plain(next(arg for arg in get_args(hint) if arg is not type(None)))
    return hint


def _check_new(document: Document, name: str, tables: Iterable[str], kind: str) -> None:
    wrong_name = name_fault(name)
    if wrong_name:
        raise EditRefused(wrong_name, "name")
    for table in tables:
        if name in _table(document, table):
            article = "an" if table[0] in "aeiou" else "a"
            raise EditRefused(
                f"there is {article} {table.removesuffix('s')} '{name}' already; name the {kind} differently", "name"
            )


def _table(document: Document, table: str) -> Mapping[str, Any]:
    entries = document.get(table, {})
    if not isinstance(entries, Mapping):
        raise EditRefused(f"{table} is not a table; write each entry as [{table}.NAME] first")
    return entries


def _named(document: Document, table: str, word: str) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """Yield the names and entries of a table that may have a text in them: all, where that cannot be told so soon."""
    entries = _table(document, table)
    found = entries.mentioning(word) if isinstance(entries, StoredTable) else entries.items()
    return ((name, entry) for name, entry in found if isinstance(entry, MutableMapping))


def _entry(document: Document, table: str, name: str) -> MutableMapping[str, Any]:
    entries = _table(document, table)
    entry = entries.get(name)
    if not isinstance(entry, MutableMapping):
        raise NoSuchEntry(no_such(table.removesuffix("s"), name, entries))
    return entry


def _put(document: Document, table: str, name: str, values: Values) -> None:
    document.setdefault(table, {})
    document[table][name] = {key: _written(value) for key, value in values.items() if value is not None}


def _update(entry: MutableMapping[str, Any], values: Values) -> None:
    for key, value in values.items():
        table, dot, inner = key.partition(".")
        if dot:
            _update_inner(entry, table, {inner: value})
            continue
        if value is None:
            entry.pop(key, None)
            continue
        written, before = _written(value), entry.get(key)
        if isinstance(written, dict) and isinstance(before, Mapping):
            # A password that was written by hand stays, and so do where one comes from and a file of authorities, which
            # who comes from afar may not say: they go where they are taken away by name.
            written |= {inner: before[inner] for inner in _LASTING if inner in before and inner not in value}
        entry[key] = written


def _written(value: Any) -> Any:
    """Return a value as the file holds it: a copy, without what is None in it."""
    if isinstance(value, Mapping):
        return {key: _written(inner) for key, inner in value.items() if inner is not None}
    return [_written(inner) for inner in value] if isinstance(value, list | tuple) else value


def _update_inner(entry: MutableMapping[str, Any], table: str, values: Values) -> None:
    """Change keys of a table inside an entry; it comes with its first key, and goes with its last."""
    if not isinstance(entry.get(table), MutableMapping):
        entry[table] = {}
    _update(entry[table], values)
    if not entry[table]:
        del entry[table]


def _drop(document: Document, table: str, name: str) -> None:
    del document[table][name]
    if not document[table]:
        del document[table]
