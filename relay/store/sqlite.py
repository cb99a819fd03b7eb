"""The store in a file of SQLite, in WAL mode: the one that needs no server.

SQLite has one writer at a time, and waiting in our process never ends in "database is locked". A commit is on the disk
when it returns (synchronous=FULL; NORMAL would not sync a WAL commit).
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event

from relay.private import check_modes, create_private, make_private_folder, sync_folder
from relay.store.backend import Moment, Use
from relay.store.damage import find_damage
from relay.store.errors import StoreError, StoreLax, damaged, named_faults
from relay.store.snapshot import keep_copy, kept_copies
from relay.store.turns import turn_to_write

# How long a statement waits for another process, such as a command that opened the store itself.
_BUSY_SECONDS = 10.0
# What the WAL keeps of the disk when its content has gone to the database; large messages make it larger for a while.
_WAL_OCTETS = 16 * 1024 * 1024
_BEGIN = {Use.READ: "BEGIN", Use.WRITE: "BEGIN IMMEDIATE", Use.UPGRADE: "BEGIN IMMEDIATE"}
# An upgrade does not enforce foreign keys: rebuilding a table, which is how SQLite changes a column, drops the old one,
# and that would delete whatever refers to it.
_PRAGMAS = {Use.READ: ("query_only=ON",), Use.WRITE: ("foreign_keys=ON",), Use.UPGRADE: ()}


class SqliteFile:
    """A file: the port `relay.store.backend.Backend`. `has_siblings`: other processes write to it all the time."""

    def __init__(self, path: Path, *, has_siblings: bool = False) -> None:
        self._path = path
        self._has_siblings = has_siblings

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    @property
    def is_shared(self) -> bool:
        """Never: the processes of one relay tell each other."""
        return False

    def prepare(self) -> None:
        """Make the file, since SQLite would make it readable by others; its own files take the mode of this one."""
        path = self._path
        try:
            make_private_folder(path.parent)
            with contextlib.suppress(FileExistsError):  # it is there, or another process was faster
                os.close(create_private(path))
                sync_folder(path.parent)
                _let_shrink(path)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be made: {error.strerror}") from None
        if not path.is_file():
            raise StoreError(f"the store {path} is no file")
        if lax := check_modes(store_files(path)):
            raise StoreLax(lax[0])

    def engine(self, use: Use, connections: int) -> Engine:
        """Return an engine. The driver is told to leave transactions alone (isolation_level=None): it would open them
        late, and not at all for a change of the schema."""
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            # Any of its threads may use a connection, one at a time.
            connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,  # no value of a row in an exception
        )
        event.listen(engine, "connect", lambda connection, _: _set_up(connection, _PRAGMAS[use]))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(_BEGIN[use]))
        return engine

    def named_faults(self) -> AbstractContextManager[None]:
        """Turn what the driver raises into a StoreError about the file."""
        return named_faults(self._path)

    def may_repeat(self, error: Exception) -> bool:  # noqa: ARG002
        """Never: who waited for another process has waited long enough."""
        return False

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the other processes (`relay.store.turns`), where there are any."""
        return turn_to_write(self._path) if self._has_siblings else nullcontext()

    def keep_out_others(self, connection: Connection) -> None:
        """There is one writer at a time anyway."""

    def call_others(self, connection: Connection) -> None:
        """There is nobody to be called."""

    async def be_called(self, heard: Callable[[], None]) -> None:
        """Nobody calls."""

    def take_schema(self, connection: Connection) -> None:
        """There is one writer at a time anyway."""

    def keep_copy(self, revision: str) -> str:
        """Keep a copy beside the file. Raises StoreError."""
        return str(keep_copy(self._path, revision))

    def way_back(self) -> str:
        """Say how to come back to before a migration: `relay restore` holds what may have been sent since."""
        copy = next(iter(kept_copies(self._path)), None)
        return f"put back the copy from before it: relay restore {copy}" if copy else "put back a backup from before it"

    def check(self) -> None:
        """Look for damage. Raises StoreCorrupt."""
        if found := find_damage(self._path):
            raise damaged(self._path, found)

    def shrink(self, pages: int) -> int:
        """Free unused pages; not by SQLAlchemy, since the statement frees one with each step and a cursor makes one."""
        with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
            before = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
            connection.executescript(f"PRAGMA incremental_vacuum({pages})")
            return before - int(connection.execute("PRAGMA freelist_count").fetchone()[0])

    def after(self, seconds: timedelta, now: datetime) -> Moment:
        """Return the moment so long after `now`: the file is on this machine."""
        return now + seconds

    def now(self, connection: Connection, now: datetime) -> datetime:  # noqa: ARG002
        """Return `now`: the file is on this machine."""
        return now

    def instance(self, connection: Connection) -> str:  # noqa: ARG002
        """Return "": nothing can take the place of a file under us."""
        return ""

    def command(self, statement: str) -> str:
        """Return the command; Debian has the program in the package sqlite3."""
        return f"sqlite3 {quote(str(self._path))} '{statement}'"


def store_files(path: Path) -> tuple[Path, ...]:
    """Return the files that a store may consist of: the database, and what SQLite keeps beside it."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))


def _let_shrink(path: Path) -> None:
    """Let an empty database give room back to the disk, which must be said before anything is in it."""
    with named_faults(path), contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL"):
            connection.execute(f"PRAGMA {pragma}")


def _set_up(connection: Any, pragmas: tuple[str, ...]) -> None:
    common = ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={_WAL_OCTETS}")
    try:
        cursor = connection.cursor()
        for pragma in (*common, *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
    except BaseException:  # the pool does not know it yet and would not close it
        connection.close()
        raise
