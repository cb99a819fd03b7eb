"""Group commit: what waits to be written shares a transaction, so that one sync of the disk serves all of it.

Nothing waits for company: a group is what came while the one before it was written. A caller goes on only when its
job is on the disk.

DIAGNOSTICS: a job's own exception goes to its caller alone, a fault of the store to everybody whose job it undid.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from relay.store.database import Database, is_undone
from relay.store.errors import StoreError, StoreFull, named_faults

T = TypeVar("T")
Job = Callable[[AsyncConnection], Awaitable[T]]

_MOST_JOBS = 200
# Of message content: more would keep small jobs waiting behind large ones.
_MOST_OCTETS = 8 * 1024 * 1024


class Writer:
    """Runs jobs on the writing connection, in the order in which they came."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Entry] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self.written = 0

    async def run(self, job: Job[T], *, octets: int = 0) -> T:
        """Run a job in a transaction and return its result when that is committed. `octets`: how much it writes.

        A job may run a second time, after its first run was undone, so it changes nothing but the store. It runs to
        its end also when its caller is cancelled. Raises what the job raises (then nothing of it was written), and
        StoreError.
        """
        if self._is_closed:
            raise StoreError(f"the store {self._database.path} is closed")
        entry = _Entry(job, octets)
        self._waiting.append(entry)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="store writer")
        return cast("T", await entry.answer)

    async def aclose(self) -> None:
        """Write what waits, then take no more."""
        self._is_closed = True
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        group: list[_Entry] = []
        try:
            while self._waiting:
                group = self._next_group()
                await self._write(group)
        finally:  # only a cancelled task leaves any
            self._task = None
            for entry in (*group, *self._waiting):
                entry.answer.cancel()
            self._waiting.clear()

    def _next_group(self) -> "list[_Entry]":
        group = [self._waiting.popleft()]
        octets = group[0].octets
        while self._waiting and len(group) < _MOST_JOBS and octets + self._waiting[0].octets <= _MOST_OCTETS:
            octets += self._waiting[0].octets
            group.append(self._waiting.popleft())
        return group

    async def _write(self, group: "list[_Entry]") -> None:
        """Write a group; where one job undoes the others, or they are too much for the disk, each by itself."""
        try:
            async with self._database.write() as connection:
                for entry in group:
                    await entry.perform(connection, self._database.path)
        except Exception as error:
            if len(group) > 1 and isinstance(error, _Undone | StoreFull):
                for entry in group:
                    await self._write([entry])
                return
            for entry in group:
                entry.fail(error.cause if isinstance(error, _Undone) else error)
        else:
            self.written += len(group)
            for entry in group:
                entry.tell()


class _Undone(Exception):
    """A job met a fault for which the database undid the whole transaction."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Entry:
    """A job, what came of it, and who waits for that."""

    def __init__(self, job: Job[Any], octets: int) -> None:
        self.octets = octets
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._job = job
        self._result: Any = None
        self._error: Exception | None = None

    async def perform(self, connection: AsyncConnection, path: Path) -> None:
        """Run the job behind a savepoint, so that its exception undoes it alone. Raises _Undone."""
        self._error = None
        savepoint = await connection.begin_nested()
        try:
            with named_faults(path):
                self._result = await self._job(connection)
        except Exception as error:
            if await is_undone(connection):
                raise _Undone(error) from error
            await savepoint.rollback()
            self._error = error
        else:
            await savepoint.commit()

    def tell(self) -> None:
        """Give the caller the answer of a job whose transaction is committed."""
        if self._error is not None:
            self.fail(self._error)
        elif not self.answer.done():
            self.answer.set_result(self._result)

    def fail(self, error: Exception) -> None:
        """Give the caller an exception of its own: a group shares its fault, and each raises it."""
        if not self.answer.done():
            alone = type(error)(*error.args) if isinstance(error, StoreError) else error
            alone.__cause__ = error.__cause__
            self.answer.set_exception(alone)
