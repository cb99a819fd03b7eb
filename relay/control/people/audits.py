"""The operation on the audit: who changed what, when and by which way."""

import json
from asyncio import to_thread
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Le

from relay.control.context import ControlContext
from relay.control.messages.find import read_time
from relay.control.messages.records import rfc3339
from relay.control.messages.results import Page
from relay.control.operation import Operation
from relay.control.people.results import AuditRecord
from relay.store.people.audit import AuditEntry, AuditSearch


class AuditOperations:
    """What can be asked about changes."""

    def __init__(self, parts: ControlContext) -> None:
        self._table = parts.audit_table

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"audit.list": Operation(self.list_)}

    async def list_(
        self,
        *,
        who: str = "",
        what: str = "",
        operation: str = "",
        since: str | None = None,
        until: str | None = None,
        contains: str = "",
        before: Annotated[int, Ge(1), Le(2**53)] | None = None,
        limit: Annotated[int, Ge(1), Le(500)] = 50,
    ) -> Page[AuditRecord]:
        """Return a page of the changes that all of this is true of, the newest first; `next` is `before` of the next.

        `operation` may be the noun alone ("channel"). `since` and `until` are times of RFC 3339.
        """
        search = AuditSearch(
            who=who,
            what=what,
            operation=operation,
            since=read_time(since, "since"),
            until=read_time(until, "until"),
            contains=contains,
        )
        found = await self._table.find(search, limit=limit + 1, before=before)
        items = await to_thread(_records, found[:limit])
        return Page(items, found[limit - 1].id if len(found) > limit else None)


def _records(entries: Sequence[AuditEntry]) -> list[AuditRecord]:
    return [
        AuditRecord(
            id=entry.id,
            at=rfc3339(entry.at),
            who=entry.who,
            role=entry.role,
            way=entry.way,
            peer=entry.peer,
            operation=entry.operation,
            what=entry.what,
            changes=json.loads(entry.changes),
        )
        for entry in entries
    ]
