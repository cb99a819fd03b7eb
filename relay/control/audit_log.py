"""The audit log: every change is kept with who made it, in one entry for each operation.

The parts that change something note it while the operation runs (`note`, `note_secret`, `note_edit`); of an edit of the
directory the two directories are compared afterwards. One place writes the entry.

SECURITY: a secret is noted by its key alone. Nothing here sees its value, and no parameter is taken over unread.
DIAGNOSTICS: an entry that cannot be written (a full disk) neither undoes nor fails the change that it is about: the log
says so.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from relay import log
from relay.control.actor import Actor, Role, Way
from relay.control.json_values import json_text
from relay.directory.directory import Directory
from relay.store.db.errors import StoreError
from relay.store.people.audit import AuditEntry, AuditTable
from relay.system.process import in_short_turns


@dataclass(frozen=True, slots=True)
class Change:
    """One value that is another now: its dotted key, and what it was and is, as JSON has it; None for nothing."""

    key: str
    old: Any
    new: Any


@dataclass(slots=True)
class OperationChanges:
    """The changes of one operation: those that were noted, and the directories before and after each edit."""

    notes: list[Change] = field(default_factory=list)
    edits: list[tuple[Directory, Directory]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything was changed."""
        return bool(self.notes or self.edits)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Let what happens meanwhile, in this task and those that it starts, be written down here."""
        token = _OPEN.set(self)
        try:
            yield
        finally:
            _OPEN.reset(token)


# Whose operation a part works for goes with the task: an edit of the file and a secret are many calls below.
_OPEN: ContextVar[OperationChanges | None] = ContextVar("operation_changes", default=None)


def note(key: str, old: Any, new: Any) -> None:
    """Write a change down for the operation under way, if there is one."""
    changes = _OPEN.get()
    if changes is not None:
        changes.notes.append(Change(key, old, new))


def note_secret(key: str, *, was_set: bool) -> None:
    """Write down that a secret was set, or changed where there was one. Which, nobody learns."""
    note(key, "set" if was_set else None, "changed" if was_set else "set")


def note_forgotten(key: str) -> None:
    """Write down that a secret is there no more."""
    note(key, "set", None)


def note_edit(before: Directory, after: Directory) -> None:
    """Write an edit of the directory down for the operation under way, if there is one."""
    changes = _OPEN.get()
    if changes is not None:
        changes.edits.append((before, after))


_TABLES = ("servers", "channels", "agents", "applications", "scripts")
_SECRETS = frozenset({"password", "password_from"})


def differences(before: Directory, after: Directory) -> Iterator[Change]:
    """Yield the changes from one directory to the next, in the order of their keys; of a secret only that it is one."""
    if before is after:
        return
    if before.default_server != after.default_server:
        yield Change("default_server", before.default_server, after.default_server)
    for table in _TABLES:
        old, new = getattr(before, table), getattr(after, table)
        if old is not new:
            for name in sorted(_others(old, new)):
                yield from _of_entries(f"{table}.{name}", old.get(name), new.get(name))


def _others(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the entries that may be others. Most of a hundred thousand are the very same values."""
    yield from (name for name, entry in old.items() if new.get(name) is not entry)
    yield from (name for name in new if name not in old)


def _of_entries(key: str, old: Any, new: Any) -> Iterator[Change]:
    """Yield what differs between two entries or two tables in them; None is one that is not there."""
    if old is new or old == new:
        return
    for one in fields(new if old is None else old):
        if one.name == "name":
            continue
        was, is_ = _value(old, one.name), _value(new, one.name)
        below = f"{key}.{one.name}"
        if one.name in _SECRETS:
            yield from _of_secrets(below, was, is_)
        elif is_dataclass(was) or is_dataclass(is_):
            yield from _of_entries(below, was or None, is_ or None)
        elif (old is None or new is None) and (is_ if old is None else was) == _default(one):
            continue
        elif was != is_:
            yield Change(below, plain(was), plain(is_))


def _value(entry: Any, name: str) -> Any:
    return None if entry is None else getattr(entry, name)


def _of_secrets(key: str, old: str | None, new: str | None) -> Iterator[Change]:
    if (old or "") != (new or ""):
        yield Change(key, "set" if old else None, ("changed" if old else "set") if new else None)


def _default(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def plain(value: Any) -> Any:
    """Return a value of the directory as JSON has it. Passwords in it are left out."""
    if is_dataclass(value):
        shown = (field.name for field in fields(value) if field.name not in _SECRETS)
        return {name: plain(getattr(value, name)) for name in shown}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, str) else value


# Of an import of very many the rest is only counted.
_MOST_CHANGES = 10_000
_LONGEST_NAME = 500
_EDITOR = Actor(name="directory.toml", role=Role.ADMINISTRATOR, way=Way.FILE)


class AuditLog:
    """The audit log of one relay. `aclose` waits for the entries under way."""

    def __init__(self, table: AuditTable) -> None:
        self._table = table
        self._writing: set[asyncio.Task[None]] = set()

    def edited(self, before: Directory, after: Directory, *, by_hand: bool) -> None:
        """Take note that the directory is another: by the operation under way, or by a person's editor."""
        if not by_hand:
            note_edit(before, after)
            return
        changes = OperationChanges(edits=[(before, after)])
        task = asyncio.get_running_loop().create_task(self.record(_EDITOR, "directory", "", changes, is_change=False))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def record(
        self, actor: Actor, operation: str, what: str, changes: OperationChanges, *, is_change: bool
    ) -> None:
        """Keep an entry, unless nothing `is_change` and nothing was written down. Raises nothing that a store does."""
        text, count = await in_short_turns(_as_text, changes)
        if not count and not is_change:
            return
        entry = AuditEntry(
            at=datetime.now(UTC),
            who=actor.name,
            role=str(actor.role),
            way=str(actor.way),
            peer=actor.peer,
            operation=operation,
            what=what[:_LONGEST_NAME],
            changes=text,
        )
        try:
            await self._table.add(entry)
        except StoreError as error:
            log.broken(f"a change could not be written to the audit: {error}", operation=operation, who=actor.name)

    async def aclose(self) -> None:
        """Wait until every entry is written."""
        await asyncio.gather(*self._writing)


def _as_text(changes: OperationChanges) -> tuple[str, int]:
    """Return all changes as JSON text, and how many there are."""
    found = chain(changes.notes, *(differences(before, after) for before, after in changes.edits))
    kept = list(islice(found, _MOST_CHANGES))
    more = sum(1 for _ in found)
    uncounted = [Change("", None, f"{more} more")] if more else []
    return json_text([*kept, *uncounted]), len(kept)
