"""The directory's rows in the store: the port `relay.directory.database_storage.EntryStore`, one transaction a method.

Every change has a number and a name. By the name one tells whether what one has read was ever in this very database: a
replica that took the place of another may lack its last changes, and have others under the same numbers. By the number
one finds the rows that are newer.
"""

import json
from collections.abc import Sequence
from functools import partial
from secrets import token_hex
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, select, update

from relay.config.settings import Settings
from relay.directory.database_storage import DatabaseStorage, Row, Rows
from relay.directory.file import DirectoryFile, ReadFile
from relay.directory.live import OpenStorage, in_file
from relay.store.db.database import Database, Topic
from relay.store.db.errors import StoreError
from relay.store.db.tables import directory, directory_entries

# Who has not looked for so many changes reads everything; for as long at least is what is gone remembered.
_KEPT = 100
# How many rows one statement names.
_BATCH = 500


class _Last(NamedTuple):
    """The number of the last change, and the names of the last ones, the newest last."""

    number: int = 0
    changes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        return self.changes[-1] if self.changes else ""

    def number_of(self, state: str) -> int | None:
        """Return the number of the change after which the directory was in a state; None where nobody knows it."""
        if state not in self.changes:
            return None
        return self.number - (len(self.changes) - 1 - self.changes.index(state))

    def next(self) -> "_Last":
        return _Last(self.number + 1, (*self.changes, token_hex(4))[-_KEPT:])


class DirectoryTable:
    """The tables `directory` and `directory_entries`. Raises StoreError."""

    unreachable: tuple[type[Exception], ...] = (StoreError,)

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def name(self) -> str:
        """What people call the store."""
        return self._database.name

    async def state(self) -> str:
        """Return the name of the last change."""
        return (await self._database.read(_last)).state

    async def changed(self, since: str) -> Rows:
        """Return what changed since a state."""

        def job(connection: Connection) -> Rows:
            last = _last(connection)
            number = last.number_of(since)
            if number is not None and number == last.number:
                return Rows(last.state, (), is_whole=False)
            c = directory_entries.c
            newer = c.entry.is_not(None) if number is None else c.changed > number
            found = connection.execute(select(c.kind, c.name, c.entry).where(newer).order_by(c.place, c.name))
            return Rows(last.state, [Row(*row) for row in found], is_whole=number is None)

        return await self._database.read(job)

    async def write(self, since: str, rows: Sequence[Row]) -> str | None:
        """Write rows, unless the state is another than `since`."""

        def job(connection: Connection) -> str | None:
            last = _last(connection)
            new = last.next()
            if last.state != since or not _keep_last(connection, last, new):
                return None
            if rows:
                _put(connection, rows, new.number)
            if new.number % _KEPT == 0:  # to find what is gone takes a look at every row
                c = directory_entries.c
                connection.execute(delete(directory_entries).where(c.entry.is_(None), c.changed <= new.number - _KEPT))
            self._database.announce(connection, Topic.DIRECTORY)
            return new.state

        return await self._database.write_beside(job)


def storage_of(settings: Settings, database: Database, read: ReadFile = DirectoryFile.read) -> OpenStorage:
    """Return what keeps the directory that settings name: their file, which is read by `read`, or this store."""
    return (
        partial(DatabaseStorage, DirectoryTable(database)) if settings.is_directory_stored else in_file(settings, read)
    )


def _last(connection: Connection) -> _Last:
    row = connection.execute(select(directory.c.number, directory.c.changes)).first()
    return _Last(row.number, tuple(json.loads(row.changes))) if row else _Last()


def _keep_last(connection: Connection, old: _Last, new: _Last) -> bool:
    """Keep what the last change is; False where another machine has written since this transaction has looked."""
    values = {"number": new.number, "changes": json.dumps(new.changes)}
    if not old.changes:
        connection.execute(insert(directory).values(id=1, **values))  # who comes second is refused, and looks again
        return True
    is_same = and_(directory.c.number == old.number, directory.c.changes == json.dumps(old.changes))
    return bool(connection.execute(update(directory).where(is_same).values(values)).rowcount)


def _put(connection: Connection, rows: Sequence[Row], number: int) -> None:
    """Write rows, each in its place where it has one, the others behind all."""
    c = directory_entries.c
    places = _places(connection, rows)
    end = connection.execute(select(func.coalesce(func.max(c.place), 0))).scalar_one()
    values = [
        {
            "kind": row.table,
            "name": row.name,
            "place": places.get((row.table, row.name)) or end + position,
            "changed": number,
            "entry": row.text,
        }
        for position, row in enumerate(rows, 1)
    ]
    if old := [{"of": kind, "called": name} for kind, name in places]:
        connection.execute(
            delete(directory_entries).where(c.kind == bindparam("of"), c.name == bindparam("called")), old
        )
    connection.execute(insert(directory_entries), values)


def _places(connection: Connection, rows: Sequence[Row]) -> dict[tuple[str, str], int | None]:
    """Return those of the rows that are there, and in which place; None for one that is gone."""
    c = directory_entries.c
    wanted = {(row.table, row.name) for row in rows}
    found = select(c.kind, c.name, case((c.entry.is_not(None), c.place)).label("place"))
    if len(rows) <= _BATCH:  # for more of them, the whole table is read sooner
        kinds, names = {row.table for row in rows}, [row.name for row in rows]
        found = found.where(c.kind.in_(kinds), c.name.in_(names))
    return {(row.kind, row.name): row.place for row in connection.execute(found) if (row.kind, row.name) in wanted}
