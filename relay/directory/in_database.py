"""A directory that the store keeps, a row for each entry: the port `relay.directory.keeper`.

Several relays may change it at once. Whoever does makes the new directory from what is in memory, checks it as a whole,
and writes only the rows that are others, provided that nobody was faster; then it looks what the other one did, and
makes its own change of that. So no lock is held while anybody thinks. What another relay changed is read row by row,
too: an entry whose row is the same is the same value, and not read again.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from relay.directory.keeper import ChangeRefused, Check, DirectoryChanged, Document, Edit, Snapshot, State
from relay.directory.model import Directory
from relay.directory.oauth_rules import oauth_warnings
from relay.directory.passwords import inline_passwords
from relay.directory.rules import parse_directory
from relay.faults import Fault, Faults
from relay.short_turns import in_short_turns

_TRIES = 5  # before who is always slower gives up
_LARGE = 500  # entries
# The table of what stands above all tables: default_server.
GENERAL = ""


class Row(NamedTuple):
    """An entry: `table` is "servers" and so on, or GENERAL; `text` is its value as JSON, None where it is gone."""

    table: str
    name: str
    text: str | None


class Rows(NamedTuple):
    """What is another since a state, in the order in which it came there; `is_whole`: all there is."""

    state: str
    rows: Sequence[Row]
    is_whole: bool


class EntryStore(Protocol):
    """Where the rows are. Each method is one transaction. A state is "" where there never was a directory."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def away(self) -> tuple[type[Exception], ...]:
        """What is raised where it cannot be reached."""

    async def state(self) -> str:
        """Return the state it is in."""

    async def changed(self, since: str) -> Rows:
        """Return what changed since a state; all there is where it is no state of not long ago."""

    async def write(self, since: str, rows: Sequence[Row]) -> str | None:
        """Write rows and return the new state; None, and nothing is written, where the state is another than `since`.

        A row that is there keeps its place in the order, another one comes last.
        """


@dataclass(frozen=True, slots=True)
class _Known:
    """What is in the rows by their tables, and the values of those that were read without a fault."""

    state: str = ""
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_rows(self, state: str, rows: Sequence[Row], *, is_whole: bool = False) -> "_Known":
        """Return what is known after these rows."""
        texts = {} if is_whole else {table: dict(entries) for table, entries in self.texts.items()}
        for table, name, text in rows:
            entries = texts.setdefault(table, {})
            if text is None:
                entries.pop(name, None)
            else:
                entries[name] = text
        values = {
            table: {name: value for name, value in known.items() if self._is_same(texts, table, name)}
            for table, known in self.values.items()
        }
        return _Known(state, texts, values)

    def with_values(self, directory: Directory) -> "_Known":
        """Return the same with the values of a directory that these rows make."""
        tables = ("servers", "channels", "agents", "applications", "scripts")
        return _Known(self.state, self.texts, {table: getattr(directory, table) for table in tables})

    def document(self, *, is_to_change: bool) -> dict[str, Any]:
        """Return the tables; where nobody will change them, what is read already is left out of its entries."""
        document: dict[str, Any] = {name: _value(text) for name, text in self.texts.get(GENERAL, {}).items()}
        for table, entries in self.texts.items():
            known = {} if is_to_change else self.values.get(table, {})
            if table != GENERAL and entries:
                document[table] = {name: {} if name in known else _value(text) for name, text in entries.items()}
        return document

    def rows_of(self, document: Document) -> list[Row]:
        """Return the rows that make a document of this."""
        texts: dict[str, dict[str, str]] = {GENERAL: {}}
        for key, value in document.items():
            if isinstance(value, Mapping):
                texts[key] = {name: _text(entry) for name, entry in value.items()}
            else:
                texts[GENERAL][key] = _text(value)
        rows = [
            Row(table, name, text)
            for table, entries in texts.items()
            for name, text in entries.items()
            if self.texts.get(table, {}).get(name) != text
        ]
        rows += [
            Row(table, name, None)
            for table, entries in self.texts.items()
            for name in entries
            if name not in texts.get(table, {})
        ]
        return rows

    def _is_same(self, texts: Mapping[str, Mapping[str, str]], table: str, name: str) -> bool:
        text = texts.get(table, {}).get(name)
        return text is not None and text == self.texts[table].get(name)


class InDatabase:
    """The rows of a store. `check` is asked about every directory beside the rules."""

    is_edited_by_hand = False
    nothing: State = ""

    def __init__(self, store: EntryStore, check: Check = lambda _: ()) -> None:
        self._store = store
        self._check = check
        self._known = _Known()
        self._turn = asyncio.Lock()

    @property
    def name(self) -> str:
        """How faults call it."""
        return directory_in(self._store.name)

    @property
    def away(self) -> tuple[type[Exception], ...]:
        """What the store raises."""
        return self._store.away

    @property
    def is_large(self) -> bool:
        """Whether it has some hundred entries."""
        return sum(len(entries) for entries in self._known.texts.values()) > _LARGE

    async def state(self) -> State:
        """Return the state of the rows."""
        return await self._store.state()

    async def read(self) -> Snapshot:
        """Return what the rows say now. Raises Faults."""
        async with self._turn:
            known = await self._follow()
            return Snapshot(await self._directory(known), known.state)

    async def document(self) -> Document:
        """Return the tables as they are now, good or bad."""
        async with self._turn:
            known = await self._follow()
        return await in_short_turns(known.document, is_to_change=True)

    async def preview(self, edit: Edit) -> Directory:
        """Return the directory that an edit would make."""
        async with self._turn:
            known = await self._follow()
        return (await in_short_turns(self._made, known, edit))[1]

    async def change(
        self,
        edit: Edit,
        *,
        must_exist: bool,
        known: Snapshot,
        check: Callable[[Directory], None] = lambda _: None,
    ) -> Snapshot:
        """Write the rows that an edit makes others. Raises also what the store raises."""
        async with self._turn:
            for _ in range(_TRIES):
                now = await self._follow()
                if must_exist and now.state == self.nothing:
                    raise ChangeRefused(f"{self.name} has vanished; put it back: relay directory import")
                before = await self._before(now, known)
                check(before)
                rows, directory = await in_short_turns(self._made, now, edit)
                if not rows and now.state != self.nothing:
                    return Snapshot(directory, now.state, before)
                state = await self._store.write(now.state, rows)
                if state is not None:
                    self._known = now.with_rows(state, rows).with_values(directory)
                    return Snapshot(directory, state, before)
        raise DirectoryChanged(f"{self.name} was changed by somebody else; look at it and try again")

    async def warnings(self, directory: Directory) -> tuple[Fault, ...]:
        """Return the warnings."""
        return await in_short_turns(self._warnings, directory)

    def _warnings(self, directory: Directory) -> tuple[Fault, ...]:
        message = "a password stands in a row of the database; move it to the vault: relay secrets import"
        found = [*oauth_warnings(directory), *((key, message) for key in inline_passwords(directory))]
        return tuple(Fault(self.name, key, message) for key, message in found)

    async def _follow(self) -> _Known:
        """Take over what changed since the last time."""
        found = await self._store.changed(self._known.state)
        if found.state != self._known.state:
            known = self._known
            self._known = await in_short_turns(known.with_rows, found.state, found.rows, is_whole=found.is_whole)
        return self._known

    async def _directory(self, known: _Known) -> Directory:
        """Return the directory that rows make, and remember its values. Raises Faults."""
        document = await in_short_turns(known.document, is_to_change=False)
        directory = await in_short_turns(self._checked, document, known.values)
        self._known = known.with_values(directory)
        return directory

    async def _before(self, now: _Known, known: Snapshot) -> Directory:
        """Return the directory before a change: that which is known, where the rows have faults."""
        if now.state == known.state:
            return known.directory
        try:
            return await self._directory(now)
        except Faults:
            return known.directory

    def _made(self, known: _Known, edit: Edit) -> tuple[list[Row], Directory]:
        """Return the rows that an edit makes others, and the directory. Raises Faults, and what `edit` raises."""
        document = known.document(is_to_change=True)
        edit(document)
        rows = known.rows_of(document)
        same = known.with_rows(known.state, rows).values
        return rows, self._checked(document, same)

    def _checked(self, document: Document, values: Mapping[str, Mapping[str, Any]]) -> Directory:
        directory = parse_directory(document, self.name, values)
        if faults := tuple(self._check(directory)):
            raise Faults(faults)
        return directory


def directory_in(store: str) -> str:
    """Return how people call the directory in a store."""
    return f"the directory in {store}"


def _value(text: str) -> Any:
    """Return what a row says; the text itself where somebody wrote there what is no JSON, which the rules find."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
