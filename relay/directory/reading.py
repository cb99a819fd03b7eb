"""The tables of directory.toml as values: each entry for itself. What holds between entries is in `rules`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from relay.config.schema import Location, Schema, TableFaults, keys_of, no_such_key, show, without
from relay.directory.directory import Directory
from relay.directory.model import Agent, Application, Channel, Script, Server

T = TypeVar("T")
Findings: TypeAlias = Iterator[tuple[str, str]]
"""(key, sentence) for everything that is wrong."""

_NAME = re.compile(r"\w[\w.@+-]{0,63}")

_PROFILE = {"address": "", "override": True, "server": "?"}
_STAND_INS: Mapping[str, Mapping[str, Any]] = {
    "servers": {
        "host": "localhost",
        "username": "a@b.example",
        "address": "a@b.example",
        "allow_plaintext_password": True,
    },
    "channels": _PROFILE,
    "agents": _PROFILE,
    "applications": {},
    "scripts": {},
}

NOTHING_KNOWN: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

SERVERS = Schema(Server)
CHANNELS = Schema(Channel)
AGENTS = Schema(Agent)
APPLICATIONS = Schema(Application)
SCRIPTS = Schema(Script)


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read: the entries, the names of all, and (key, sentence) for each fault.

    An entry with malformed keys is there without them, so that all its other faults are found, too. `unread` are those
    keys, and tables that are none: what a rule finds there follows from the fault that is known already.
    """

    directory: Directory
    names: Mapping[str, frozenset[str]]
    faults: list[tuple[str, str]] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)


def read_tables(data: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]] = NOTHING_KNOWN) -> Reading:
    """Return what the tables say, entry by entry. What is `known` of them is not read again."""
    faults: list[tuple[str, str]] = []
    unread: set[str] = set()
    keys = keys_of(Directory)
    faults += [(key, no_such_key(key, keys)) for key in data if key not in keys]
    default = data.get("default_server")
    if default is not None and not isinstance(default, str):
        faults.append(("default_server", f"{show(default)} is not text; write the server's name in quotes"))
        default = None
        unread.add("default_server")

    def entries(kind: str, schema: Schema[T]) -> dict[str, T]:
        return _entries(data, kind, schema, faults, unread, known.get(kind, {}))

    directory = Directory(
        default_server=default or None,
        servers=entries("servers", SERVERS),
        channels=entries("channels", CHANNELS),
        agents=entries("agents", AGENTS),
        applications=entries("applications", APPLICATIONS),
        scripts=entries("scripts", SCRIPTS),
    )
    names = {key: frozenset(_table(data, key)) for key in keys if key != "default_server"}
    unread |= {key for key in keys if key in data and key != "default_server" and not isinstance(data[key], Mapping)}
    return Reading(directory, names, faults, unread)


def name_fault(name: str) -> str:
    """Return the sentence about a name that cannot be one; "" for a good name."""
    if _NAME.fullmatch(name):
        return ""
    if " " in name:
        return f"{show(name)}: a name cannot contain spaces"
    return f"{show(name)}: a name has 1 to 64 letters, digits or . _ @ + -, with a letter or digit in front"


def _entries(
    data: Mapping[str, Any],
    kind: str,
    schema: Schema[T],
    faults: list[tuple[str, str]],
    unread: set[str],
    known: Mapping[str, T],
) -> dict[str, T]:
    entries: dict[str, T] = {}
    shared: dict[str, str] = {}
    if kind in data and not isinstance(data[kind], Mapping):
        faults.append((kind, f"{show(data[kind])} is not a table; write each entry as [{kind}.NAME]"))
    for name, table in _table(data, kind).items():
        if name in known:
            entries[name] = known[name]
            continue
        key = f"{kind}.{name}"
        if not isinstance(table, Mapping):
            faults.append((key, f"{show(table)} is not a table; write each entry as [{kind}.NAME]"))
            continue
        wrong_name = name_fault(name)
        if wrong_name:
            faults.append((key, wrong_name))
        try:
            entries[name] = schema.read(_sharing(table, shared), key, name=name)
        except TableFaults as error:
            faults += [(fault_key, message) for fault_key, message, _ in error.faults]
            locations = [location for _, _, location in error.faults]
            unread |= {f"{key}.{location[0]}" for location in locations if len(location) == 1}
            # A table inside that lacks a key it needs cannot be mended by taking away: then it goes as a whole.
            for removed in (locations, [location[:1] for location in locations]):
                with suppress(TableFaults):
                    entries[name] = schema.read(_sound(table, kind, removed), key, name=name)
                    break
    return entries


def _sharing(table: Mapping[str, Any], shared: dict[str, str]) -> dict[str, Any]:
    """Return a table whose texts are the same objects as equal ones before: a thousand agents have one group."""
    return {key: shared.setdefault(value, value) if isinstance(value, str) else value for key, value in table.items()}


def _sound(table: Mapping[str, Any], kind: str, locations: list[Location]) -> dict[str, Any]:
    """Return an entry without its malformed keys; where a rule needs a value, one that breaks none stands in."""
    removed = {location[0] for location in locations if len(location) == 1}
    stand_ins = {key: value for key, value in _STAND_INS[kind].items() if key in removed}
    sound = without(table, locations)
    if kind == "servers" and "auth" in removed:
        stand_ins |= {key: value for key, value in _STAND_INS[kind].items() if key == "username" and key not in sound}
    return sound | stand_ins


def _table(data: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    table = data.get(kind)
    return table if isinstance(table, Mapping) else {}
