"""The directory between a file and the database: what the store keeps as directory.toml says it, and back.

Passwords are in the vault and stay there; one that stands in the file itself is refused.
"""

from asyncio import to_thread
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, time
from functools import partial
from typing import Any

import tomli_w

from relay.config.faults import Fault, Faults
from relay.config.schema import parse_toml
from relay.control.context import ControlContext
from relay.control.operation import Access, Operation
from relay.control.refused import Conflict, Refused
from relay.control.results import DirectoryExport, DirectoryImport, records_of
from relay.directory.database_storage import DatabaseStorage, directory_in
from relay.directory.directory import Directory
from relay.directory.document import Document
from relay.directory.live import LiveDirectory
from relay.directory.replacing import Replacement, replace_all, replacement
from relay.directory.rules.validation import inline_passwords
from relay.system.process import in_short_turns

_CHANGED = "the directory was changed meanwhile; look at what the import does now and confirm again"
_READABLE = (
    "a password stands in this file, and would stand readable in the database; move it to the vault while relay.toml "
    "names the file: relay secrets import"
)


class Transfers:
    """`directory.import` and `directory.export`."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "directory.export": Operation(self.export, access=Access.ADMIN),
            "directory.import": Operation(self.import_, access=Access.ADMIN),
        }

    async def export(self) -> DirectoryExport:
        """Return the directory in the database as directory.toml would say it, good or bad."""
        storage = DatabaseStorage(self._parts.entries)
        if await storage.state() == storage.absent:
            raise Refused(f"there is nothing in {storage.name} yet; put a file there with: relay directory import FILE")
        text = await in_short_turns(tomli_w.dumps, await storage.document())
        return DirectoryExport(text=text, database=storage.name)

    async def import_(
        self, *, name: str, text: str, confirm: bool = False, expected: str | None = None
    ) -> DirectoryImport:
        """Return what a file of that name makes of the directory in the database, and every fault.

        With `confirm` and no fault, do it: then the one says what the other does. `version` names what was found; given
        back as `expected`, it makes sure that what is done is what was shown.
        """
        stored = await self._stored()
        tables, faults = await in_short_turns(_parsed, text, name)
        work = _Work(tables, expected)
        if not faults:
            faults = await self._faults(stored, work, name)
        is_done = confirm and not faults
        if is_done:
            await stored.change(_Work(tables, work.done.version))
        done = work.done
        return DirectoryImport(
            file=name,
            database=directory_in(self._parts.entries.name),
            adds=done.adds,
            changes=done.changes,
            removes=done.removes,
            unchanged=done.unchanged,
            version=done.version,
            faults=records_of(faults),
            done=is_done,
            in_effect=self._parts.settings.is_directory_stored,
        )

    async def _stored(self) -> LiveDirectory:
        """Return the directory in the database: the one in effect, where that is there."""
        if self._parts.settings.is_directory_stored:
            return self._parts.directory
        stored = LiveDirectory(
            self._parts.settings, "relay.toml", storage=partial(DatabaseStorage, self._parts.entries)
        )
        await stored.begin()
        stored.on_edit = self._parts.audit_log.edited
        return stored

    async def _faults(self, stored: LiveDirectory, work: "_Work", name: str) -> list[Fault]:
        """Return all that is wrong with the directory that it makes, as faults of the file."""
        try:
            made = await stored.preview(work)
        except Faults as error:
            here = directory_in(self._parts.entries.name)
            return [replace(fault, file=name) if fault.file == here else fault for fault in error.faults]
        return await to_thread(_readable_passwords, made, name)


class _Work:
    """The edit. What it does is found out from the document that it is given last."""

    def __init__(self, tables: Mapping[str, Any], expected: str | None) -> None:
        self._tables = tables
        self._expected = expected
        self.done = Replacement((), (), (), 0, "")

    def __call__(self, document: Document) -> None:
        """Make the changes in the document. Raises Conflict where they are others than expected."""
        self.done = replacement(document, self._tables)
        if self._expected is not None and self._expected != self.done.version:
            raise Conflict(_CHANGED)
        replace_all(document, self._tables)


def _parsed(text: str, name: str) -> tuple[Mapping[str, Any], list[Fault]]:
    try:
        tables = parse_toml(text.encode("utf-8", "surrogateescape"), name)
    except Faults as error:
        return {}, list(error.faults)
    return tables, [Fault(name, *found) for found in _dates(tables, "")]


def _dates(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the keys of what a row cannot hold: JSON has no dates, and the directory needs none."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _dates(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _dates(inner, key)
    elif isinstance(value, date | time):
        yield key, f"{value} is not text; write it in quotes"


def _readable_passwords(directory: Directory, name: str) -> list[Fault]:
    return [Fault(name, key, _READABLE) for key in inline_passwords(directory)]
