"""The database: a file of SQLite in WAL mode, one writing connection and a few reading ones.

Whoever writes waits for the one before: SQLite has one writer at a time, and a queue in our process is fair and
never ends in "database is locked". Several processes take turns (`relay.store.turns`) for the same reason. A commit is
on the disk when it returns (synchronous=FULL; NORMAL would not sync a WAL commit). Reading connections cannot write and
never wait for the writer.

DIAGNOSTICS: StoreError and its kinds (`relay.store.errors`), each one sentence.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event

from relay import log
from relay.private import check_modes, create_private, make_private_folder, sync_folder
from relay.store.damage import find_damage
from relay.store.errors import StoreError, StoreLax, damaged, named_faults
from relay.store.schema import is_current, upgrade
from relay.store.tables import HEAD
from relay.store.turns import turn_to_write

T = TypeVar("T")
Job = Callable[[Connection], T]
Turn = Callable[[], AbstractContextManager[None]]

# How long a statement waits for another process, such as a command that opened the store itself.
_BUSY_SECONDS = 10.0
_READERS = 4
# What the WAL keeps of the disk when its content has gone to the database; large messages make it larger for a while.
_WAL_OCTETS = 16 * 1024 * 1024


class Database:
    """An open store. `open_database` makes one, and `close` ends it.

    Whatever is read or written is one plain function over a connection, run as a whole in a thread: the event loop
    waits for no statement, and nobody holds a transaction open across the loop.
    """

    def __init__(self, path: Path, turn: Turn = nullcontext) -> None:
        self._path = path
        self._writer = _Lane(
            path, "writer", begin="BEGIN IMMEDIATE", connections=1, pragmas=("foreign_keys=ON",), turn=turn
        )
        self._readers = _Lane(path, "reader", begin="BEGIN", connections=_READERS, pragmas=("query_only=ON",))

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    async def read(self, job: Job[T]) -> T:
        """Return what a job finds, which sees one state of the store. Raises StoreError, and what the job raises."""
        return await self._readers.run(job)

    async def write(self, job: Job[T]) -> T:
        """Run a job in one transaction: durable when this returns, undone by an exception.

        The turns are in the order of the calls. A job that has begun runs to its end also when its caller is
        cancelled. Raises what the job raises, and StoreError; then nothing was written, but for an error of the
        commit itself, after which only a look at the store tells.
        """
        return await self._writer.run(job)

    async def check(self) -> None:
        """Look for damage before anything is promised. Raises StoreCorrupt, and StoreError."""
        with named_faults(self._path):
            found = await asyncio.to_thread(find_damage, self._path)
        if found:
            raise damaged(self._path, found)

    async def shrink(self, pages: int) -> int:
        """Give at most so many unused pages of the file back to the disk; return how many. Raises StoreError."""
        return await self._writer.call(partial(_shrink, self._path, pages))

    async def close(self) -> None:
        """Wait for what is under way and close all; the last connection folds the WAL into the database file."""
        for lane in (self._readers, self._writer):
            await asyncio.to_thread(lane.close)


class _Lane:
    """Some connections of one kind, with as many threads, which take jobs in the order in which they come."""

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        begin: str,
        connections: int,
        pragmas: tuple[str, ...],
        turn: Turn = nullcontext,
    ) -> None:
        self._path = path
        self._turn = turn
        self._engine = _engine(path, begin=begin, connections=connections, pragmas=pragmas)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix=f"store-{name}")

    async def run(self, job: Job[T]) -> T:
        """Run a job in a transaction."""
        return await self.call(partial(self._transact, job))

    async def call(self, function: Callable[[], T]) -> T:
        """Run anything else in its turn. Raises StoreError."""
        with named_faults(self._path):
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_turn, function)

    def close(self) -> None:
        """Wait for what is under way, and close the connections."""
        self._threads.shutdown()
        self._engine.dispose()

    def _in_turn(self, function: Callable[[], T]) -> T:
        with self._turn():
            return function()

    def _transact(self, job: Job[T]) -> T:
        with self._engine.begin() as connection:
            return job(connection)


async def open_database(path: Path, *, has_siblings: bool = False) -> Database:
    """Open the store at `path`: made with mode 0600 if missing, brought to this version's schema if older.

    Of an older one a copy is kept beside it (`relay.store.snapshot`).
    `has_siblings`: other processes write to it all the time.

    Raises StoreError: others could open it, it is damaged, locked, made by a newer relay, or cannot be opened.
    """
    _prepare(path)
    database = Database(path, partial(turn_to_write, path) if has_siblings else nullcontext)
    try:
        if not await database.read(is_current):
            await asyncio.to_thread(_upgrade, path)
    except BaseException:
        await database.close()
        raise
    return database


def store_files(path: Path) -> tuple[Path, ...]:
    """Return the files that a store may consist of: the database, and what SQLite keeps beside it."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))


def _prepare(path: Path) -> None:
    """Make the file, since SQLite would make it readable by others; its own files take the mode of this one."""
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


def _let_shrink(path: Path) -> None:
    """Let an empty database give room back to the disk, which must be said before anything is in it."""
    with named_faults(path), contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL"):
            connection.execute(f"PRAGMA {pragma}")


def _shrink(path: Path, pages: int) -> int:
    """Free unused pages; not by SQLAlchemy, since the statement frees one with each step and a cursor makes one."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        before = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
        connection.executescript(f"PRAGMA incremental_vacuum({pages})")
        return before - int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def _upgrade(path: Path) -> None:
    """Migrate on a connection of its own.

    It does not enforce foreign keys: rebuilding a table, which is how SQLite changes a column, drops the old one,
    and that would delete whatever refers to it.
    """
    engine = _engine(path, begin="BEGIN IMMEDIATE", connections=1, pragmas=())
    try:
        with named_faults(path), engine.begin() as connection:
            copy = upgrade(connection, path)
        if copy is not None:
            log.changed(what="store", schema=HEAD, copy=str(copy))
    finally:
        engine.dispose()


def _engine(path: Path, *, begin: str, connections: int, pragmas: tuple[str, ...]) -> Engine:
    """Return an engine whose transactions start with `begin`.

    The driver is told to leave transactions alone (isolation_level=None): it would open them late, and not at all
    for a change of the schema.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        # Any of its threads may use a connection, one at a time.
        connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # no value of a row in an exception
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: object) -> None:  # noqa: ARG001
        try:
            cursor = connection.cursor()
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                f"journal_size_limit={_WAL_OCTETS}",
                *pragmas,
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()
        except BaseException:  # the pool does not know it yet and would not close it
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
