"""Entries of another program into a directory: their names, what is there already, and the edit that adds the rest.

Pure. Nothing that is there is ever changed: an entry that says something else is a fault, and then nothing is done.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from relay.config.schema import show
from relay.directory.document import Document
from relay.directory.edit import add_entry
from relay.directory.kinds import KINDS, SERVER, EntryKind, set_default
from relay.directory.model import Profile, Security
from relay.directory.reading import name_fault
from relay.directory.values import check_values
from relay.moving.found import address_key

_LONGEST_NAME = 64
_NOT_IN_NAMES = re.compile(r"[^\w.@+-]+")


class MergeFault(NamedTuple):
    """What keeps all of it from being done: where that stands in the other program's files, its key, a sentence."""

    place: str
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry that is wanted. `server` is the key of a profile's server; `key` that of a server itself."""

    key: str
    values: Mapping[str, Any]
    place: str
    server: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry with its name. `kind` is "server", "channel" or "agent"; `is_new` where it is not there yet."""

    kind: str
    name: str
    values: Mapping[str, Any]
    place: str
    is_new: bool
    password: str = field(default="", repr=False)

    @property
    def owner(self) -> str:
        """Whom its password belongs to in the vault."""
        return f"{'server' if self.kind == 'server' else 'profile'}/{self.name}"


@dataclass(frozen=True, slots=True)
class Merge:
    """What is to be done to a directory: which entries, and which server becomes the default (None: it stays)."""

    entries: tuple[Placed, ...]
    default: str | None
    faults: tuple[MergeFault, ...]

    @property
    def version(self) -> str:
        """What names all that is done but the passwords: another where the directory was changed meanwhile in it."""
        said = [[one.kind, one.name, one.is_new, one.values] for one in self.entries]
        return hashlib.sha256(json.dumps([self.default, said], sort_keys=True, default=str).encode()).hexdigest()[:16]

    def apply(self, document: Document) -> None:
        """Add the new entries. Raises EditRefused."""
        for one in self.entries:
            if not one.is_new:
                continue
            add_entry(document, KINDS[one.kind], one.name, one.values)
            if one.kind == "server" and one.name == self.default:
                set_default(document, one.name)
        if self.default is not None:
            document["default_server"] = self.default


def merge(
    document: Mapping[str, Any],
    servers: Iterable[Wanted],
    profiles: Iterable[Wanted],
    default: str,
    kind: EntryKind[Profile],
) -> Merge:
    """Return what wanted entries do to a directory. `default` is the key of the server for whoever has no own; or "".

    Raises EditRefused for a value that no command could set.
    """
    work = _Work(document, kind)
    for server in servers:
        check_values(SERVER.model, server.values)
        work.add_server(server)
    work.choose_default(default)
    wanted = list(profiles)
    for profile in wanted:
        check_values(kind.model, profile.values)
    locals_ = [_local_part(profile) for profile in wanted]
    counts = Counter(locals_)
    for profile, local in zip(wanted, locals_, strict=True):
        work.add_profile(profile, local if counts[local] == 1 else "")
    return Merge(tuple(work.placed), work.default, tuple(work.faults))


class _Work:
    def __init__(self, document: Mapping[str, Any], kind: EntryKind[Profile]) -> None:
        self._document = document
        self._kind = kind
        self._names: dict[str, str] = {}
        self._taken = {name for table in ("channels", "agents", "applications") for name in _table(document, table)}
        self._known = {
            address_key(str(entry.get("address", ""))): (found, name, entry)
            for found, table in (("channel", "channels"), ("agent", "agents"))
            for name, entry in _table(document, table).items()
        }
        self.placed: list[Placed] = []
        self.faults: list[MergeFault] = []
        self.default: str | None = None

    def add_server(self, server: Wanted) -> None:
        """Give a server the name of the same one that is there, or a free name."""
        existing = _table(self._document, "servers")
        there = [name for name, entry in existing.items() if _endpoint(entry) == _endpoint(server.values)]
        same = next((name for name in there if not _differing(server.values, existing[name])), None)
        host, port = _endpoint(server.values)
        names = [_name(host), _name(f"{host}-{port}"), *(_name(f"{host}-{port}-{number}") for number in range(2, 100))]
        other = next((name for name in names if name in there), None)
        if same is None and other is not None and other not in self._names.values():
            key = _differing(server.values, existing[other])[0]
            self._refuse(server, f"servers.{other}.{key}", "server", other)
            same = other
        free = (name for name in names if name not in existing and name not in self._names.values())
        name = same or next(free)
        self._names[server.key] = name
        self._place("server", name, server.values, server, is_new=same is None)

    def choose_default(self, key: str) -> None:
        """Make a server the default where there is none yet."""
        if not self._document.get("default_server"):
            self.default = self._names.get(key) or next(iter(self._names.values()), None)

    def add_profile(self, profile: Wanted, short_name: str) -> None:
        """Give a profile the name of the one with its address, or a free name; say through which server it sends."""
        default = self.default or self._document.get("default_server")
        server = self._names[profile.server]
        values = dict(profile.values) | ({} if server == default else {"server": server})
        known = self._known.get(address_key(str(values["address"])))
        if known is not None:
            kind, name, entry = known
            # What decides how it sends counts also where the files leave it at the default.
            wanted = {"server": server, "override": False, "username": "", **values}
            differing = _differing(wanted, {"server": default, **entry})
            if differing:
                self._refuse(profile, f"{kind}s.{name}.{differing[0]}", kind, name)
            self._place(kind, name, values, profile, is_new=False)
            return
        names = [short_name, _name(str(values["address"]).lower())]
        name = next((one for one in names if one and one not in self._taken), "")
        if not name:
            message = f"the name {names[1]!r} is taken; name that entry differently, or add {values['address']} by hand"
            self.faults.append(MergeFault(profile.place, f"{self._kind.table}.{names[1]}", message))
            return
        self._taken.add(name)
        self._place(self._kind.word, name, values, profile, is_new=True)

    def _refuse(self, wanted: Wanted, key: str, kind: str, name: str) -> None:
        of = key.rpartition(".")[2]
        here = "nothing" if wanted.values.get(of) is None else show(wanted.values[of])
        message = f"{kind} '{name}' is there already with another {of} than {here}; change or remove it first"
        self.faults.append(MergeFault(wanted.place, key, message))

    def _place(self, kind: str, name: str, values: Mapping[str, Any], wanted: Wanted, *, is_new: bool) -> None:
        self.placed.append(Placed(kind, name, values, wanted.place, is_new, wanted.password))


def _differing(wanted: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    """Return the keys that are wanted and that an entry has otherwise; what it has beside them does not count."""
    return [key for key, value in wanted.items() if _compared(key, value) != _compared(key, _of(entry, key))]


def _of(entry: Mapping[str, Any], key: str) -> Any:
    if key == "security":
        return entry.get(key, Security.STARTTLS.value)
    if key == "port":
        return _endpoint(entry)[1]
    return entry.get(key)


def _compared(key: str, value: Any) -> Any:
    if key == "address":
        return address_key(str(value))
    if key == "aliases":
        return {address_key(str(alias)) for alias in value or ()}
    if key == "verify_tls":
        return value is not False
    if key == "auth" and value is None:
        return "auto"
    if key == "host":
        return str(value).lower()
    return value or None  # what is off, empty or not there is the default of every other key


def _endpoint(entry: Mapping[str, Any]) -> tuple[str, int]:
    security = str(entry.get("security", Security.STARTTLS.value))
    port = entry.get("port") or (Security(security).port if security in set(Security) else 0)
    return str(entry.get("host", "")).lower(), port if isinstance(port, int) else 0


def _local_part(profile: Wanted) -> str:
    return _name(str(profile.values.get("address", "")).rpartition("@")[0].lower())


def _name(text: str) -> str:
    """Return a text as a name can be written; "" where nothing of it can."""
    name = _NOT_IN_NAMES.sub("-", text).strip("-.@+")[:_LONGEST_NAME]
    return "" if name_fault(name) else name


def _table(document: Mapping[str, Any], table: str) -> Mapping[str, Mapping[str, Any]]:
    entries = document.get(table)
    found = entries if isinstance(entries, Mapping) else {}
    return {name: entry for name, entry in found.items() if isinstance(entry, Mapping)}
