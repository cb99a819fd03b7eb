"""The audit trail: every change is kept with who made it, in one entry an operation.

An entry that cannot be written (a full disk) neither undoes nor fails the change that it is about: the log says so.
"""

import asyncio
from datetime import UTC, datetime
from itertools import chain, islice

from relay import log
from relay.control.actor import Actor, Role, Way
from relay.control.audit_details import Change, OperationChanges, note_edit
from relay.control.entries.differences import differences
from relay.control.json_values import json_text
from relay.directory.model import Directory
from relay.store.db.errors import StoreError
from relay.store.people.audit import AuditEntry, AuditTable
from relay.system.switch_interval import in_short_turns

# Of an import of very many the rest is only counted.
_MOST_CHANGES = 10_000
_LONGEST_NAME = 500
_EDITOR = Actor(name="directory.toml", role=Role.ADMINISTRATOR, way=Way.FILE)


class AuditLog:
    """The audit trail of one relay. `aclose` waits for the entries under way."""

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
