"""The edits of a directory, on its tables: what they refuse themselves, they refuse in one sentence.

Pure: a document in, changed in place. What the changed directory must fulfil as a whole is checked by `rules` before
it is written.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

from relay.directory.document import Document, entries_in, entry_in
from relay.directory.kinds import SERVER, Entry, EntryKind, move_profiles
from relay.directory.reading import name_fault
from relay.directory.values import EditRefused, Values

_LASTING = ("password", "password_from", "ca_file", "key_file")


def add_entry(document: Document, kind: EntryKind[Entry], name: str, values: Values) -> None:
    """Add an entry. Raises EditRefused: for a name that is none, or is taken."""
    _check_new(document, kind, name)
    document.setdefault(kind.table, {})
    document[kind.table][name] = {key: _written(value) for key, value in values.items() if value is not None}
    kind.added(document, name)


def set_entry(document: Document, kind: EntryKind[Entry], name: str, values: Values) -> None:
    """Change keys of an entry. Raises EditRefused."""
    _update(entry_in(document, kind.table, name), values)
    kind.changed(document, name, values)


def remove_entry(document: Document, kind: EntryKind[Entry], name: str) -> None:
    """Remove an entry. Raises EditRefused where others still need it."""
    entry_in(document, kind.table, name)
    kind.leaving(document, name)
    del document[kind.table][name]
    if not document[kind.table]:
        del document[kind.table]


def remove_server(document: Document, name: str, move_to: str | None = None) -> None:
    """Remove a server that nobody chose, or whose profiles go to `move_to`. Raises EditRefused."""
    if move_to is not None:
        move_profiles(document, name, move_to)
    remove_entry(document, SERVER, name)


def _check_new(document: Document, kind: EntryKind[Entry], name: str) -> None:
    wrong_name = name_fault(name)
    if wrong_name:
        raise EditRefused(wrong_name, "name")
    for table in kind.named_with:
        if name in entries_in(document, table):
            article = "an" if table[0] in "aeiou" else "a"
            taken = f"there is {article} {table.removesuffix('s')} '{name}' already"
            raise EditRefused(f"{taken}; name the {kind.word} differently", "name")


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
