"""A directory that the store keeps, a row for each entry: the port `relay.directory.storage`.

Several relays may change it at once. Whoever does makes the new directory from what is in memory, checks it as a whole,
and writes only the rows that are others, provided that nobody was faster; then it looks what the other one did, and
makes its own change of that. So no lock is held while anybody thinks. What another relay changed is read row by row,
too: an entry whose row is the same is the same value, and neither read nor checked again
(`relay.directory.rules.incremental`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from relay.config.faults import Fault, Faults
from relay.directory.directory import Directory
from relay.directory.document import Document, StoredTable, changes, value_of
from relay.directory.reading import NOTHING_KNOWN
from relay.directory.rules.incremental import TABLES, CheckedDirectory, Entry
from relay.directory.rules.servers import backup_warnings, oauth_warnings
from relay.directory.rules.validation import inline_passwords, parse_directory
from relay.directory.storage import ChangeRefused, Check, DirectoryChanged, Edit, Snapshot, State
from relay.system.process import in_short_turns

_TRIES = 5  # before who is always slower gives up
_LARGE = 500  # entries
_MOST_OTHERS = 1000  # before looking at everything is sooner done
_DEFAULT = "default_server"
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
    def unreachable(self) -> tuple[type[Exception], ...]:
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
    """What is in the rows by their tables, the last directory of them without a fault, and which rows are others since.

    Of these `others` say whether they were gone meanwhile; those that came again stand in the order in which they came.
    """

    state: str = ""
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    checked: CheckedDirectory | None = None
    others: Mapping[tuple[str, str], bool] = field(default_factory=dict)

    def with_rows(self, state: str, rows: Sequence[Row], *, is_whole: bool = False) -> "_Known":
        """Return what is known after these rows."""
        known = _Known() if is_whole else self
        new = {table: dict(known.texts.get(table, {})) for table in dict.fromkeys(row.table for row in rows)}
        others = dict(known.others)
        for table, name, text in rows:
            if known.checked is not None:
                was_gone = others.get((table, name), False)
                if text is not None and name not in new[table]:
                    others.pop((table, name), None)
                others[table, name] = text is None or was_gone
            if text is None:
                new[table].pop(name, None)
            else:
                new[table][name] = text
        return _Known(state, {**known.texts, **new}, known.checked, others)

    def with_checked(self, checked: CheckedDirectory) -> "_Known":
        """Return the same with the directory that these rows make."""
        return _Known(self.state, self.texts, checked)

    def next_checked(self) -> CheckedDirectory | None:
        """Return the directory that these rows make, by what is another; None where everything is to be looked at."""
        if self.checked is None or not self.others:
            return self.checked
        general = self.texts.get(GENERAL, {})
        if len(self.others) > _MOST_OTHERS or not general.keys() <= {_DEFAULT}:
            return None
        entries = [
            Entry(table, name, value_of(text or ""), is_gone=text is None, was_gone=was_gone)
            for (table, name), was_gone in self.others.items()
            for text in [self.texts[table].get(name)]
            if table != GENERAL
        ]
        return self.checked.after(entries, value_of(general.get(_DEFAULT, "null")))

    def values(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the values of the entries whose rows are the same as when they were read."""
        if self.checked is None:
            return {}
        values = {table: dict(getattr(self.checked.directory, table)) for table in TABLES}
        for table, name in self.others:
            if table in values:
                values[table].pop(name, None)
        return values

    def document(self, values: Mapping[str, Mapping[str, Any]] = NOTHING_KNOWN) -> dict[str, Any]:
        """Return the tables, to look at; in the place of entries that there are values of already stands nothing."""
        document: dict[str, Any] = {name: value_of(text) for name, text in self.texts.get(GENERAL, {}).items()}
        for table, entries in self.texts.items():
            known = values.get(table, {})
            if table != GENERAL and entries:
                document[table] = {name: {} if name in known else value_of(text) for name, text in entries.items()}
        return document

    def document_to_change(self) -> dict[str, Any]:
        """Return the tables, to be given to `rows_of` again; an entry is read where somebody looks at it."""
        document: dict[str, Any] = {name: value_of(text) for name, text in self.texts.get(GENERAL, {}).items()}
        tables = {table: StoredTable(entries) for table, entries in self.texts.items() if table != GENERAL and entries}
        return document | tables

    def rows_of(self, document: Document) -> list[Row]:
        """Return the rows that make a document of this."""
        general: dict[str, Any] = {}
        tables: dict[str, Mapping[str, Any]] = {GENERAL: general}
        for key, value in document.items():
            if isinstance(value, Mapping):
                tables[key] = value
            else:
                general[key] = value
        rows = [
            Row(table, name, text)
            for table in {**tables, **self.texts}
            for name, text in changes(self.texts.get(table, {}), tables.get(table, {}))
        ]
        return sorted(rows, key=lambda row: row.text is None)


class DatabaseStorage:
    """The rows of a store. `check` is asked about every directory beside the rules."""

    is_edited_by_hand = False
    absent: State = ""

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
    def unreachable(self) -> tuple[type[Exception], ...]:
        """What the store raises."""
        return self._store.unreachable

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
            return _snapshot(await self._good(await self._follow()))

    async def document(self) -> Document:
        """Return the tables as they are now, good or bad."""
        async with self._turn:
            known = await self._follow()
        return await in_short_turns(known.document)

    async def preview(self, edit: Edit) -> Directory:
        """Return the directory that an edit would make."""
        async with self._turn:
            known = await self._follow()
        _, made = await in_short_turns(self._made, known, edit)
        return _snapshot(made).directory

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
                if must_exist and now.state == self.absent:
                    raise ChangeRefused(f"{self.name} has vanished; put it back: relay directory import")
                before = await self._before(now, known)
                check(before)
                rows, made = await in_short_turns(self._made, self._known, edit)
                if not rows and now.state != self.absent:
                    return _snapshot(made, before)
                state = await self._store.write(now.state, rows)
                if state is not None:
                    self._known = replace(made, state=state)
                    return _snapshot(self._known, before)
        raise DirectoryChanged(f"{self.name} was changed by somebody else; look at it and try again")

    async def warnings(self, directory: Directory) -> tuple[Fault, ...]:
        """Return the warnings."""
        return await in_short_turns(self._warnings, directory)

    def _warnings(self, directory: Directory) -> tuple[Fault, ...]:
        message = "a password stands in a row of the database; move it to the vault: relay secrets import"
        found = [
            *oauth_warnings(directory),
            *backup_warnings(directory),
            *((key, message) for key in inline_passwords(directory)),
        ]
        return tuple(Fault(self.name, key, message) for key, message in found)

    async def _follow(self) -> _Known:
        """Take over what changed since the last time."""
        found = await self._store.changed(self._known.state)
        if found.state != self._known.state:
            known = self._known
            self._known = await in_short_turns(known.with_rows, found.state, found.rows, is_whole=found.is_whole)
        return self._known

    async def _good(self, known: _Known) -> _Known:
        """Make the directory of these rows, and remember it. Raises Faults."""
        self._known = await in_short_turns(self._checked, known)
        return self._known

    async def _before(self, now: _Known, known: Snapshot) -> Directory:
        """Return the directory before a change: that which is known, where the rows have faults."""
        if now.state == known.state:
            return known.directory
        try:
            return _snapshot(await self._good(now)).directory
        except Faults:
            return known.directory

    def _made(self, known: _Known, edit: Edit) -> tuple[list[Row], _Known]:
        """Return the rows that an edit makes others, and what is known then. Raises Faults, and what `edit` raises."""
        document = known.document_to_change()
        edit(document)
        rows = known.rows_of(document)
        return rows, self._checked(known.with_rows(known.state, rows))

    def _checked(self, known: _Known) -> _Known:
        """Return what is known with the directory that the rows make. Raises Faults."""
        checked = known.next_checked()
        if checked is None:
            values = known.values()
            checked = CheckedDirectory.of(parse_directory(known.document(values), self.name, values))
        if faults := tuple(self._check(checked.directory)):
            raise Faults(faults)
        return known.with_checked(checked)


def _snapshot(known: _Known, before: Directory | None = None) -> Snapshot:
    assert known.checked is not None
    return Snapshot(known.checked.directory, known.state, before, known.checked.index)


def directory_in(store: str) -> str:
    """Return how people call the directory in a store."""
    return f"the directory in {store}"
