"""The database: one writing connection and a few reading ones, each kind with threads of its own, and one for duties.

Whoever writes waits for the one before: a queue in our process is fair, and one commit serves many
(`relay.store.db.writer`). A commit is durable when it returns. Reading connections cannot write and never wait for the
writer. What is different in SQLite and in PostgreSQL stands in `relay.store.db.backend`; `open_store` opens the one
that relay.toml names.

What relays at one database keep in memory of it has a topic, whose number is raised in the transaction of the change
itself, so that nobody sees the one without the other.

DIAGNOSTICS: StoreError and its kinds (`relay.store.db.errors`), each one sentence.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from random import uniform
from typing import Protocol, TypeVar

from sqlalchemy import Connection, insert, select, update

from relay import log
from relay.config.settings import Settings, without_password
from relay.secrets.sources import SecretUnavailable, parse_source, read_source
from relay.store.db.backend import Backend, Moment, Use
from relay.store.db.errors import StoreError, StoreOlder
from relay.store.db.schema import is_usable, upgrade
from relay.store.db.sqlite import FileNumber, SqliteFile
from relay.store.db.tables import HEAD, bulletin


class Topic(StrEnum):
    """A kind of thing that a relay has in memory."""

    HOLDS = "holds"
    SECRETS = "secrets"
    FAILURES = "failures"
    DIRECTORY = "directory"


def raise_number(connection: Connection, topic: Topic) -> int:
    """Raise the number of a topic, and return it; others who do the same wait for this transaction to end."""
    raised = update(bulletin).where(bulletin.c.topic == topic).values(number=bulletin.c.number + 1)
    number = connection.execute(raised.returning(bulletin.c.number)).scalar_one_or_none()
    if number is None:
        number = 1
        connection.execute(insert(bulletin).values(topic=topic, number=number))
    return number


def all_numbers(connection: Connection) -> Mapping[str, int]:
    """Return the number of each topic that ever changed."""
    return {row.topic: row.number for row in connection.execute(select(bulletin.c.topic, bulletin.c.number))}


T = TypeVar("T")
Job = Callable[[Connection], T]


class BatchJob(Protocol):
    """Changes at most `limit` messages, and returns how many."""

    def __call__(self, connection: Connection, /, *, limit: int) -> int:
        """Do it on this connection."""


_READERS = 4
# How often a job is run that the database undid for a reason that passes.
_RUNS = 3
_PAUSE_SECONDS = 0.05
_ANNOUNCED = "relay_announced"  # marks a connection whose transaction announces something


class Database:
    """An open store. `open_database` makes one, and `close` ends it.

    Whatever is read or written is one plain function over a connection, run as a whole in a thread: the event loop
    waits for no statement, and nobody holds a transaction open across the loop.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # Whether other machines may use it.
        self.is_shared = backend.is_shared
        self._writer = _Lane(backend, Use.WRITE, 1, self._announced)
        self._readers = _Lane(backend, Use.READ, _READERS, self._announced)
        self._apart = _Lane(backend, Use.WRITE, 1, self._announced)
        # Called (in a thread of the store) when something announced is committed.
        self.on_announced: Callable[[], None] = lambda: None
        # Called when a write has ended, with what it raised.
        self.on_write: Callable[[BaseException | None], None] = lambda _: None

    @property
    def name(self) -> str:
        """What people call it: its file, or its URL without a password."""
        return self._backend.name

    async def read(self, job: Job[T]) -> T:
        """Return what a job finds, which sees one state of the store. Raises StoreError, and what the job raises."""
        return await self._readers.run(job)

    async def write(self, job: Job[T]) -> T:
        """Run a job in one transaction: durable when this returns, undone by an exception.

        The turns are in the order of the calls, and nobody else's turn comes in between: not on another machine either.
        A job that has begun runs to its end also when its caller is cancelled. It may run once more, after its first
        run was undone. Raises what the job raises, and StoreError; then nothing was written, but for an error of the
        commit itself, after which only a look at the store tells.
        """

        def in_turn(connection: Connection) -> T:
            self._backend.lock_out_others(connection)
            return job(connection)

        return await self._written(self._writer.run(in_turn))

    async def write_beside(self, job: Job[T]) -> T:
        """Run a job as `write` does, while other machines may write too: it must see itself what they changed."""
        return await self._written(self._writer.run(job))

    async def write_apart(self, job: Job[T]) -> T:
        """Run a job as `write_beside` does, on a connection of its own: it waits for no other job of this process."""
        return await self._written(self._apart.run(job))

    def after(self, seconds: timedelta, now: datetime) -> Moment:
        """Return the moment so long after now, by the clock of the database where machines share it, else by `now`."""
        return self._backend.after(seconds, now)

    def now(self, connection: Connection, now: datetime) -> datetime:
        """Return the time by the clock of the database where machines share it, else `now`."""
        return self._backend.now(connection, now)

    def named_faults(self) -> AbstractContextManager[None]:
        """Turn what the driver raises into a StoreError; what we did wrong ourselves stays."""
        return self._backend.named_faults()

    def instance(self, connection: Connection) -> str:
        """Return a name of the database program that answers, which it has until it starts anew; "" for a file."""
        return self._backend.instance(connection)

    def command(self, statement: str) -> str:
        """Return the shell command by which a person runs a statement, where no relay runs."""
        return self._backend.command(statement)

    def announce(self, connection: Connection, topic: Topic) -> int:
        """Let all others know, when this transaction is committed, that something changed; return its number."""
        connection.info[_ANNOUNCED] = True
        number = raise_number(connection, topic)
        self._backend.notify_others(connection)
        return number

    async def listen(self, notified: Callable[[], None]) -> None:
        """Call `notified` at the start and when something was announced, until the connection is lost.

        Raises StoreError.
        """
        await self._backend.listen(notified)

    async def check(self) -> None:
        """Look for damage before anything is promised. Raises StoreCorrupt, and StoreError."""
        with self._backend.named_faults():
            await asyncio.to_thread(self._backend.check)

    async def inspect(self) -> list[str]:
        """Look through all of it, and return what is wrong with its structure. Raises StoreError."""
        with self._backend.named_faults():
            return await asyncio.to_thread(self._backend.inspect)

    async def look(self) -> None:
        """Look, without a write, whether anything keeps us from writing. Raises StoreError."""
        await asyncio.to_thread(self._backend.look)

    async def copy_to(self, target: Path) -> None:
        """Copy all that is committed to a private file that is there and empty, also where the store's own files are
        in no folder any more. Raises StoreError."""
        await self._writer.copy_to(target)

    async def shrink(self, pages: int) -> int:
        """Give at most so many unused pages of the file back to the disk; return how many. Raises StoreError."""
        return await self._writer.call(partial(self._backend.shrink, pages))

    async def close(self) -> None:
        """Wait for what is under way and close all; the last connection folds the WAL into the database file."""
        lanes = (self._readers, self._apart, self._writer)
        for lane in lanes:  # the last connection that is closed takes the WAL away, which others would miss
            await asyncio.to_thread(lane.finish)
        for lane in lanes:
            await asyncio.to_thread(lane.close)
        self._backend.close()

    def _announced(self) -> None:
        self.on_announced()

    async def _written(self, writing: Awaitable[T]) -> T:
        try:
            result = await writing
        except Exception as error:
            self.on_write(error)
            raise
        self.on_write(None)
        return result


class _Lane:
    """Some connections of one kind, with as many threads, which take jobs in the order in which they come."""

    def __init__(self, backend: Backend, use: Use, connections: int, announced: Callable[[], None]) -> None:
        self._backend = backend
        self._announced = announced
        self._turn = backend.turn if use is Use.WRITE else nullcontext
        self._is_writing = use is Use.WRITE
        self._engine = backend.engine(use, connections)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix=f"store-{use}")

    async def run(self, job: Job[T]) -> T:
        """Run a job in a transaction."""
        return await self.call(partial(self._transact, job))

    async def call(self, function: Callable[[], T]) -> T:
        """Run anything else in its turn. Raises StoreError."""
        with self._backend.named_faults():
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_turn, function)

    async def copy_to(self, target: Path) -> None:
        """Copy what one of its connections sees."""

        def copy() -> None:
            with closing(self._engine.raw_connection()) as connection:
                self._backend.copy_to(connection.driver_connection, target)

        with self._backend.named_faults():
            await asyncio.get_running_loop().run_in_executor(self._threads, copy)

    def finish(self) -> None:
        """Wait for what is under way, and take no more."""
        self._threads.shutdown()

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _in_turn(self, function: Callable[[], T]) -> T:
        with self._turn():
            return function()

    def _transact(self, job: Job[T]) -> T:
        for _ in range(_RUNS - 1):
            try:
                return self._run_once(job)
            except _Undone as undone:
                if not self._backend.may_repeat(undone.cause):
                    raise undone.cause  # noqa: B904 - it has its own cause
                time.sleep(uniform(0, _PAUSE_SECONDS))  # noqa: S311 - so that two do not meet again
        try:
            return self._run_once(job)
        except _Undone as undone:
            raise undone.cause  # noqa: B904

    def _run_once(self, job: Job[T]) -> T:
        """Raises _Undone for what the job raises: an error of the commit is none that anybody may try again.

        What is written is promised only where its file is still the one that the next start finds.
        """
        with self._engine.begin() as connection:
            info = connection.info
            info.pop(_ANNOUNCED, None)  # of a transaction that was undone
            try:
                result = job(connection)
                if self._is_writing:
                    self._backend.look_before_commit()
            except Exception as error:
                raise _Undone(error) from None
        if self._is_writing:
            self._backend.look_after_commit()
        if info.pop(_ANNOUNCED, False):
            self._announced()
        return result


class _Undone(Exception):
    """A job has failed, and its transaction is undone."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


async def open_database(place: Path | Backend, *, upgrades: bool = True) -> Database:
    """Open the store at `place`, a file of SQLite or another database: made if missing, brought to this version's
    schema if older. Of an older file a copy is kept beside it (`relay.store.db.sqlite`). A newer schema that can be
    used by this version stays as it is.

    Without `upgrades` it is only looked at: an older one is StoreOlder.

    Raises StoreError: others could open it, it is damaged, locked, made by a newer relay, or cannot be opened.
    """
    backend = SqliteFile(place) if isinstance(place, Path) else place
    await asyncio.to_thread(backend.prepare)
    database = Database(backend)
    try:
        if not await database.read(is_usable):
            if not upgrades:
                raise StoreOlder(f"the store {backend.name} has not been used by this version yet")
            await asyncio.to_thread(_upgrade, backend)
    except BaseException:
        await database.close()
        raise
    return database


def _upgrade(backend: Backend) -> None:
    engine = backend.engine(Use.UPGRADE, 1)
    try:
        with backend.named_faults(), engine.begin() as connection:
            backend.lock_schema(connection)
            copy = upgrade(connection, backend)
        if copy is not None:
            log.changed(what="store", schema=HEAD, **({"copy": copy} if copy else {}))
    finally:
        engine.dispose()


async def open_store(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    has_peers: bool = False,
    is_file: FileNumber | None = None,
    upgrades: bool = True,
) -> Database:
    """Open the store, made or brought to this version's schema where needed. Raises StoreError.

    Without `upgrades` an older one is StoreOlder. `has_peers`: other processes of this relay write to it all the
    time; `is_file`: the one that they have open.
    """
    if settings.database_path is not None:
        file = SqliteFile(settings.database_path, has_peers=has_peers, is_file=is_file)
        return await open_database(file, upgrades=upgrades)
    name = without_password(settings.store)
    password = ""
    if settings.store_password_from:
        try:
            password = await read_source(parse_source(settings.store_password_from), environ, settings.state_dir)
        except SecretUnavailable as error:
            raise StoreError(f"the password of the store {name} cannot be had: {error}") from None
    try:  # the driver is loaded only where it is needed
        from relay.store.db.postgresql import PostgresDatabase  # noqa: PLC0415
    except ImportError as error:  # neither there, nor without libpq
        words = " ".join(str(error).split())
        raise StoreError(
            f"the store {name} needs the package psycopg, which cannot be loaded ({words}); "
            "run: pip install 'relay-submission[postgresql]'"
        ) from None
    return await open_database(PostgresDatabase(settings.store, name, password), upgrades=upgrades)
