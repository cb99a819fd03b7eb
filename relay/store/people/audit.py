"""Who changed what, when and by which way: written once, and looked through."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, or_, select

from relay.store.db.database import Database
from relay.store.db.tables import audit
from relay.store.queue.search import has_text


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change. `changes` is a list of {key, old, new} as JSON text. `id` grows; 0 before it is kept."""

    at: datetime
    who: str
    role: str
    way: str
    peer: str
    operation: str
    what: str
    changes: str
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSearch:
    """What an entry must be to be found; what is None or "" does not count. `contains` is looked for in every text."""

    who: str = ""
    what: str = ""
    operation: str = ""
    since: datetime | None = None
    until: datetime | None = None
    contains: str = ""


class AuditTable:
    """The table `audit`, one transaction a method. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entry: AuditEntry) -> None:
        """Keep an entry."""
        values = asdict(entry)
        del values["id"]

        def job(connection: Connection) -> None:
            connection.execute(insert(audit).values(values))

        await self._database.write(job)

    async def find(self, search: AuditSearch, *, limit: int, before: int | None = None) -> Sequence[AuditEntry]:
        """Return the newest entries that are meant; of those that are older than the one with the id `before`."""
        found = select(audit).where(*_conditions(search)).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            found = found.where(audit.c.id < before)

        def job(connection: Connection) -> Sequence[AuditEntry]:
            return [AuditEntry(**row._mapping) for row in connection.execute(found)]

        return await self._database.read(job)


def _conditions(search: AuditSearch) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        column == value for column, value in ((audit.c.who, search.who), (audit.c.what, search.what)) if value
    ]
    if search.operation:
        # "channel" means all of "channel.add", "channel.set" and so on.
        under = audit.c.operation.startswith(f"{search.operation}.", autoescape=True)
        conditions.append(or_(audit.c.operation == search.operation, under))
    if search.since is not None:
        conditions.append(audit.c.at >= search.since)
    if search.until is not None:
        conditions.append(audit.c.at < search.until)
    if search.contains:
        texts = (audit.c.who, audit.c.way, audit.c.peer, audit.c.operation, audit.c.what)
        # As JSON has it: with \" for a quote.
        quoted = json.dumps(search.contains, ensure_ascii=False)[1:-1]
        in_changes = has_text(audit.c.changes, quoted)
        conditions.append(or_(in_changes, *(has_text(column, search.contains) for column in texts)))
    return conditions
