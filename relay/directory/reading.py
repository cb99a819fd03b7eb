"""The tables of directory.toml as values: each entry for itself. What holds between entries is in `rules`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from relay.directory.model import Agent, Application, Channel, Directory, Script, Server
from relay.schema import Schema, TableFaults, keys_of, no_such_key, show

T = TypeVar("T")

_NAME = re.compile(r"\w[\w.@+-]{0,63}")

SERVERS = Schema(Server)
CHANNELS = Schema(Channel)
AGENTS = Schema(Agent)
APPLICATIONS = Schema(Application)
SCRIPTS = Schema(Script)


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read: the well-formed entries, the names of all, and (key, sentence) for each fault."""

    directory: Directory
    names: Mapping[str, frozenset[str]]
    faults: list[tuple[str, str]] = field(default_factory=list)


def read_tables(data: Mapping[str, Any]) -> Reading:
    """Return what the tables say, entry by entry."""
    faults: list[tuple[str, str]] = []
    known = keys_of(Directory)
    faults += [(key, no_such_key(key, known)) for key in data if key not in known]
    default = data.get("default_server")
    if default is not None and not isinstance(default, str):
        faults.append(("default_server", f"{show(default)} is not text; write the server's name in quotes"))
        default = None
    directory = Directory(
        default_server=default or None,
        servers=_entries(data, "servers", SERVERS, faults),
        channels=_entries(data, "channels", CHANNELS, faults),
        agents=_entries(data, "agents", AGENTS, faults),
        applications=_entries(data, "applications", APPLICATIONS, faults),
        scripts=_entries(data, "scripts", SCRIPTS, faults),
    )
    names = {key: frozenset(_table(data, key)) for key in known if key != "default_server"}
    return Reading(directory, names, faults)


def name_fault(name: str) -> str:
    """Return the sentence about a name that cannot be one; "" for a good name."""
    if _NAME.fullmatch(name):
        return ""
    return f"{show(name)} is no name; write 1 to 64 letters, digits or . _ @ + -, with a letter or digit in front"


def _entries(data: Mapping[str, Any], kind: str, schema: Schema[T], faults: list[tuple[str, str]]) -> dict[str, T]:
    entries: dict[str, T] = {}
    if kind in data and not isinstance(data[kind], Mapping):
        faults.append((kind, f"{show(data[kind])} is not a table; write each entry as [{kind}.NAME]"))
    for name, table in _table(data, kind).items():
        key = f"{kind}.{name}"
        if not isinstance(table, Mapping):
            faults.append((key, f"{show(table)} is not a table; write each entry as [{kind}.NAME]"))
            continue
        wrong_name = name_fault(name)
        if wrong_name:
            faults.append((key, wrong_name))
        try:
            entries[name] = schema.read(table, key, name=name)
        except TableFaults as error:
            faults += [(fault_key, message) for fault_key, message, _ in error.faults]
    return entries


def _table(data: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    table = data.get(kind)
    return table if isinstance(table, Mapping) else {}
