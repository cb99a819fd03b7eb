"""How the store is: known from the last write, and without any mail from looks and now and then a write of our own.

A look once a second sees files that are gone, a full disk and a read-only one. What only a write tells (a disk that
fails, a replica, a database that is away) a write tells, at once where something looks wrong, else when nothing was
written for a while: seldom into a file, so that the disk of an idle machine can rest.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, update
from sqlalchemy.exc import DBAPIError

from relay import log
from relay.store.db.database import Database
from relay.store.db.errors import StoreError, StoreFull, StoreGone
from relay.store.db.tables import schema_floor

_LOOK_SECONDS = 1.0
# Of no other write: a database elsewhere can go away at any moment, and writes all the time anyway.
_PROBE_SECONDS, _PROBE_SHARED_SECONDS = 60.0, 5.0
# While there is trouble.
_RETRY_SECONDS = 2.0


class StoreHealth:
    """One for a process; `run` goes on for ever. `room` says what is wrong with the room for new mail, "" for nothing.

    `on_change` is called when there is other trouble than before, or none.
    """

    def __init__(
        self, database: Database, room: Callable[[], str] = lambda: "", timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self.room = room
        self._timer = timer
        self._seen: StoreError | None = None
        self.is_gone = False  # what would be stored now would be lost
        self._told: tuple[str, str] | None = None
        self._wrote_at = self._probed_at = timer()
        self.on_change: Callable[[], None] = lambda: None
        database.on_write = self._note

    @property
    def trouble(self) -> StoreError | None:
        """What is wrong, as of a second ago."""
        if self._seen is None and (words := self.room()):
            return StoreFull(words)
        return self._seen

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Look now, and write where that is due or where something looks wrong."""
        found: StoreError | None = None
        try:
            await self._database.look()
        except StoreError as error:
            found = error
        if found is not None:
            self._see(found)
        elif self._is_probe_due():
            await self._probe()
        self._tell()

    async def copy_to(self, target: Path) -> None:
        """Copy all that is committed to a private file that is there and empty, also where the store's own files are
        in no folder any more. Raises StoreError."""
        await self._database.copy_to(target)

    def _is_probe_due(self) -> bool:
        now = self._timer()
        if self._seen is not None:
            return self.is_gone or now - self._probed_at >= _RETRY_SECONDS
        return now - self._wrote_at >= (_PROBE_SHARED_SECONDS if self._database.is_shared else _PROBE_SECONDS)

    async def _probe(self) -> None:
        self._probed_at = self._timer()
        try:
            await self._database.write_apart(_rewrite)
        except Exception as error:  # a StoreError is noted by who writes
            if _fault_of(error) is None:
                log.broken("what the store says to a write is no answer that we know", exc_info=True)

    def _note(self, error: BaseException | None) -> None:
        """Take note of how a write ended."""
        fault = None if error is None else _fault_of(error)
        if fault is not None:
            self._see(fault)
        elif error is None:
            self._wrote_at = self._timer()
            if self._seen is not None:
                self._see(None)

    def _see(self, trouble: StoreError | None) -> None:
        self._seen, self.is_gone = trouble, isinstance(trouble, StoreGone)

    def _tell(self) -> None:
        trouble = self.trouble
        told = None if trouble is None else (trouble.reason, str(trouble))
        before, self._told = self._told, told
        if (before and before[0]) == (told and told[0]):
            return
        if trouble is None:
            log.changed(what="store", state="it takes what is written again")
        elif not self.room():  # that has a line of its own
            log.broken(str(trouble), reason=trouble.reason)
        self.on_change()


def _rewrite(connection: Connection) -> None:
    """Write what is there already: nobody sees another value."""
    connection.execute(update(schema_floor).values(floor=schema_floor.c.floor))


def _fault_of(error: BaseException) -> StoreError | None:
    """Return what an exception says of the store itself; None where a job had its own reasons."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StoreGone) or (
            isinstance(cause, StoreError) and isinstance(cause.__cause__, DBAPIError | sqlite3.Error)
        ):
            return cause
        cause = cause.__cause__
    return None
