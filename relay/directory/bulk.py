"""Many channels or agents at once: what a sheet would add and change, what is wrong with it, and the edit that does it.

Pure: plain tables in, values out. What stands in no column stays as it is; an empty cell is the default.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from typing import Any, TypeAlias, get_origin, get_type_hints

from relay.config.faults import Fault
from relay.config.schema import show
from relay.directory.directory import Directory
from relay.directory.document import Document
from relay.directory.edit import add_entry, set_entry
from relay.directory.kinds import EntryKind
from relay.directory.model import Profile
from relay.directory.reading import name_fault
from relay.directory.sheet import SheetFault, SheetRow, join_items, split_items, write_sheet
from relay.mail.address import Address, AddressError, without_case

Difference: TypeAlias = dict[str, list[Any]]
"""What a row changes: for each key what it was and what it becomes, as JSON has them."""

_FLAGS: Mapping[str, bool] = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NOT_IN_SHEETS = frozenset({"name", "password", "password_from", "incoming"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sheet does to a directory. `edits` are by name; those of `adds` make an entry."""

    adds: tuple[str, ...]
    changes: Mapping[str, Difference]
    unchanged: tuple[str, ...]
    edits: Mapping[str, Mapping[str, Any]]
    passwords: Mapping[str, str] = field(repr=False)
    faults: tuple[SheetFault, ...] = ()

    @property
    def version(self) -> str:
        """What names this plan: another where the directory was changed meanwhile in what it concerns."""
        digest = hashlib.sha256()
        for name, values in self.edits.items():  # one by one: a thread that encodes all at once lets no other run
            said = json.dumps([name, self.changes.get(name), values], sort_keys=True, default=str)
            digest.update(f"{said}\n".encode("utf-8", "replace"))
        return digest.hexdigest()[:16]

    def apply(self, document: Document, kind: EntryKind[Profile]) -> None:
        """Make the changes in a document. Raises EditRefused."""
        new = set(self.adds)
        for name, values in self.edits.items():
            if name in new:
                add_entry(document, kind, name, values)
            elif values:
                set_entry(document, kind, name, values)


def columns_of(kind: EntryKind[Profile]) -> list[str]:
    """Return the columns of a sheet beside `name`: the keys of the directory that fit into a cell, no password."""
    return [each.name for each in fields(kind.model) if each.name not in _NOT_IN_SHEETS]


def sheet_of(directory: Directory, kind: EntryKind[Profile]) -> str:
    """Return all channels or agents as CSV."""
    profiles = kind.entries(directory)
    columns = ["name", *columns_of(kind)]
    rows = ([_cell(getattr(profiles[name], column)) for column in columns] for name in sorted(profiles))
    return write_sheet(columns, rows)


def plan_of(document: Mapping[str, Any], kind: EntryKind[Profile], rows: Sequence[SheetRow]) -> Plan:
    """Return what rows do to a document, as far as each can be judged by itself."""
    columns = {key: _Column.of(kind, key) for key in columns_of(kind)}
    entries = _table(document, kind.table)
    taken = {name: table for table in kind.named_with if table != kind.table for name in _table(document, table)}
    adds: list[str] = []
    changes: dict[str, Difference] = {}
    edits: dict[str, Mapping[str, Any]] = {}
    passwords: dict[str, str] = {}
    faults: list[SheetFault] = []
    for row in rows:
        name = row.cells["name"]
        wrong_name = name_fault(name)
        if name in taken:
            wrong_name = f"this name belongs to {taken[name].removesuffix('s')} '{name}' already; choose another"
        if wrong_name:
            faults.append(SheetFault(row.line, "name", wrong_name))
            continue
        entry = entries.get(name)
        values = _values(row, columns, faults, is_new=entry is None)
        difference = _difference(entry if isinstance(entry, Mapping) else {}, values, columns)
        if row.password:
            passwords[name] = row.password
            difference["password"] = [None, "set"]
            faults += _password_faults(row)
        if entry is None:
            adds.append(name)
            edits[name] = {key: value for key, value in values.items() if value is not None}
        elif difference:
            changes[name] = difference
            edits[name] = {key: values[key] for key in difference if key != "password"}
    known = (row.cells["name"] for row in rows)
    unchanged = tuple(name for name in known if name in entries and name not in changes)
    return Plan(tuple(adds), changes, unchanged, edits, passwords, tuple(faults))


def placed_faults(found: Iterable[Fault], kind: EntryKind[Profile], rows: Sequence[SheetRow]) -> Iterator[SheetFault]:
    """Yield the faults of the directory that a sheet would make, each at the row that it comes from.

    Two have the same address, and the rules name the other of them: then it is the row's that has it, too.
    """
    by_name = {row.cells["name"]: row for row in rows}
    by_address: dict[str, tuple[SheetRow, str]] | None = None
    prefix = f"{kind.table}."
    for fault in found:
        name, key = _split(fault.key.removeprefix(prefix), by_name) if fault.key.startswith(prefix) else ("", "")
        if name:
            yield SheetFault(by_name[name].line, key.partition(" ")[0] or "name", fault.message)
            continue
        by_address = _by_address(rows) if by_address is None else by_address
        row, column = by_address.get(_compared(fault.message.partition(" ")[0]), (None, fault.key))
        yield SheetFault(row.line if row else 0, column, f"{fault.key}: {fault.message}")


@dataclass(frozen=True, slots=True)
class _Column:
    """How the cells of one column are read."""

    key: str
    kind: object
    default: Any

    @classmethod
    def of(cls, kind: EntryKind[Profile], key: str) -> "_Column":
        default = next(each.default for each in fields(kind.model) if each.name == key)
        return cls(key, get_type_hints(kind.model)[key], _plain(default))

    @property
    def is_needed(self) -> bool:
        """Whether there is no default."""
        return self.default is MISSING

    def read(self, cell: str) -> Any:
        """Return the value as the file holds it; None for the default. Raises ValueError with a sentence."""
        if not cell:
            return None
        value: Any = cell
        if self.kind is bool:
            if cell.lower() not in _FLAGS:
                raise ValueError(f"{show(cell)} is neither true nor false")
            value = _FLAGS[cell.lower()]
        elif get_origin(self.kind) is tuple:
            value = split_items(cell)
        return None if value == self.default else value


def _values(row: SheetRow, columns: Mapping[str, _Column], faults: list[SheetFault], *, is_new: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, cell in row.cells.items():
        column = columns.get(key)
        if column is None:  # the name, or a column that has its fault already
            continue
        try:
            value = column.read(cell)
        except ValueError as error:
            faults.append(SheetFault(row.line, key, str(error)))
            continue
        if value is None and column.is_needed and not is_new:
            faults.append(SheetFault(row.line, key, "this key is needed; write it, or leave the column out"))
        else:
            values[key] = value
    return values


def _difference(entry: Mapping[str, Any], values: Mapping[str, Any], columns: Mapping[str, _Column]) -> Difference:
    found: Difference = {}
    for key, value in values.items():
        default = None if columns[key].is_needed else columns[key].default
        old, new = _plain(entry.get(key, default)), default if value is None else value
        if old != new:
            found[key] = [old, new]
    return found


def _password_faults(row: SheetRow) -> Iterator[SheetFault]:
    if not {"\r", "\n", "\0"}.isdisjoint(row.password):
        yield SheetFault(row.line, "password", "a password is one line of text")


def _split(rest: str, names: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and the key in "jane.address"; names may have dots, and the longest that fits is meant."""
    parts = rest.split(".")
    for number in range(len(parts), 0, -1):
        name = ".".join(parts[:number])
        if name in names:
            return name, ".".join(parts[number:])
    return "", ""


def _by_address(rows: Iterable[SheetRow]) -> dict[str, tuple[SheetRow, str]]:
    """Return the row that has an address, and in which column."""
    found: dict[str, tuple[SheetRow, str]] = {}
    for row in rows:
        for column in ("address", "aliases"):
            for item in split_items(row.cells.get(column, "")):
                found.setdefault(_compared(item), (row, column))
    found.pop("", None)
    return found


def _table(document: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    entries = document.get(table)
    return entries if isinstance(entries, Mapping) else {}


def _compared(text: str) -> str:
    try:
        return Address.parse(text).key
    except AddressError:
        return without_case(text) if text.startswith("@") else ""


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, Enum):
        return value.value
    return [*value] if isinstance(value, list | tuple) else value


def _cell(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, bool):
        return str(plain).lower()
    return join_items(plain) if isinstance(plain, list) else str(plain or "")
