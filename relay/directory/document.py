"""A directory as the tables that an edit changes in place, of the file or of the store.

In the store the entries of a table stand as JSON in rows, and one is read when somebody looks at it: an edit of one
agent among a hundred thousand reads one, and leaves one to compare.
"""

import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from relay.config.schema import no_such
from relay.directory.values import EditRefused, NoSuchEntry

Document: TypeAlias = MutableMapping[str, Any]


def entries_in(document: Document, table: str) -> Mapping[str, Any]:
    """Return the entries of a table by name; none where the document has no such table. Raises EditRefused."""
    entries = document.get(table, {})
    if not isinstance(entries, Mapping):
        raise EditRefused(f"{table} is not a table; write each entry as [{table}.NAME] first")
    return entries


def entry_in(document: Document, table: str, name: str) -> MutableMapping[str, Any]:
    """Return one entry. Raises NoSuchEntry."""
    entries = entries_in(document, table)
    entry = entries.get(name)
    if not isinstance(entry, MutableMapping):
        raise NoSuchEntry(no_such(table.removesuffix("s"), name, entries))
    return entry


def entries_mentioning(document: Document, table: str, word: str) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """Yield names and entries of a table that may have a text in them: all, where that cannot be told so soon."""
    entries = entries_in(document, table)
    found = entries.mentioning(word) if isinstance(entries, StoredTable) else entries.items()
    return ((name, entry) for name, entry in found if isinstance(entry, MutableMapping))


class StoredTable(MutableMapping[str, Any]):
    """The entries of a table by their names, as plain values; what is changed in them in place is changed, too.

    Nothing becomes of `texts`; `changes` says which of them would be others.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._read: dict[str, Any] = {}
        self._gone: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            if name in self._gone:
                raise KeyError(name)
            self._read[name] = value_of(self._texts[name])
        return self._read[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._read[name] = value
        self._gone.discard(name)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._read.pop(name, None)
        if name in self._texts:
            self._gone.add(name)

    def __contains__(self, name: object) -> bool:
        return name in self._read or (name in self._texts and name not in self._gone)

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._texts if name not in self._gone)
        yield from [name for name in self._read if name not in self._texts]

    def __len__(self) -> int:
        return len(self._texts) - len(self._gone) + sum(name not in self._texts for name in self._read)

    def mentioning(self, word: str) -> Iterator[tuple[str, Any]]:
        """Yield the names and values of the entries that may have a text somewhere in them; no other one has it."""
        shown = text_of(word)
        for name, text in self._texts.items():
            if (shown in text or "\\u" in text or name in self._read) and name not in self._gone:
                yield name, self[name]
        yield from [(name, value) for name, value in self._read.items() if name not in self._texts]

    def changes(self) -> Iterator[tuple[str, str | None]]:
        """Yield the names and texts of the entries that are others or new, then of those that are gone."""
        yield from _others(self._texts, self._read)
        yield from ((name, None) for name in self._gone)


def changes(texts: Mapping[str, str], entries: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the names and texts of the rows that make these entries of `texts`; None for one that is gone."""
    if isinstance(entries, StoredTable):
        yield from entries.changes()
        return
    yield from _others(texts, entries)
    yield from ((name, None) for name in texts if name not in entries)


def _others(texts: Mapping[str, str], entries: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in entries.items():
        text = text_of(value)
        if texts.get(name) != text:
            yield name, text


def value_of(text: str) -> Any:
    """Return what a row says; the text itself where somebody wrote there what is no JSON, which the rules find."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def text_of(value: Any) -> str:
    """Return what a row says of a value."""
    return json.dumps(value, ensure_ascii=False)
