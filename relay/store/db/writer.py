"""Group commit: what waits to be written shares a transaction, so that one sync of the disk serves all of it.

A group is what came while the one before it was written; where many write at once, it waits a moment for more of them.
A caller goes on only when its job is on the disk. Items of one kind share their statements, too: most of what a
statement costs, it costs once.

DIAGNOSTICS: a job's own exception goes to its caller alone, a fault of the store to everybody whose job it undid.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from relay.store.db.database import Database, Job
from relay.store.db.errors import StoreClosed, StoreError, StoreFull, own

T = TypeVar("T")
Item = TypeVar("Item")
# Writes several items at once, all or none, and returns what each caller is told; None where that is nothing.
Batch = Callable[[Connection, Sequence[Item]], Sequence[Any] | None]

_MOST_JOBS = 200
# After a group of so many, the next one waits so long for company.
_MANY_JOBS = 4
_PAUSE_SECONDS = 0.003
# Of message content: more would keep small jobs waiting behind large ones.
_MOST_OCTETS = 8 * 1024 * 1024


class Writer:
    """Runs jobs on the writing connection, a group at a time; the groups in the order in which their jobs came."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Entry] = deque()
        self._octets = 0  # of what waits
        self._loop: asyncio.AbstractEventLoop | None = None  # kept: to ask for it costs a system call, in Python 3.11
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self.written = 0

    async def run(self, job: Job[T], *, octets: int = 0, is_alone: bool = False) -> T:
        """Run a job in a transaction and return its result when that is committed. `octets`: how much it writes.

        `is_alone`: what it finds must be true until its end, so no other machine writes what is `is_alone` meanwhile.

        A job may run a second time, after its first run was undone, so it changes nothing but the store. It runs to
        its end also when its caller is cancelled. Raises what the job raises (then nothing of it was written), and
        StoreError.
        """
        return cast("T", await self._take(None, job, octets, is_alone=is_alone))

    def run_together(self, batch: Batch[Item], item: Item, *, octets: int = 0) -> "asyncio.Future[Any]":
        """Write an item, together with the others that wait for the same `batch`. Otherwise as `run`."""
        return self._take(batch, item, octets)

    async def aclose(self) -> None:
        """Write what waits, then take no more."""
        self._is_closed = True
        if self._task is not None:
            await self._task

    def _take(
        self, batch: Batch[Any] | None, item: Any, octets: int, *, is_alone: bool = False
    ) -> "asyncio.Future[Any]":
        if self._is_closed:
            raise StoreClosed(f"the store {self._database.name} is closed")
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        entry = _Entry()
        entry.batch, entry.item, entry.octets, entry.is_alone = batch, item, octets, is_alone
        answer = entry.answer = loop.create_future()
        self._waiting.append(entry)
        self._octets += octets
        if self._task is None:
            self._task = loop.create_task(self._work(), name="store writer")
        return answer

    async def _work(self) -> None:
        group: list[_Entry] = []
        try:
            while self._waiting:
                if len(group) >= _MANY_JOBS:
                    await asyncio.sleep(_PAUSE_SECONDS)
                group = self._next_group()
                await self._write(group)
        finally:  # only a cancelled task leaves any
            self._task = None
            for entry in (*group, *self._waiting):
                entry.answer.cancel()
            self._waiting.clear()
            self._octets = 0

    def _next_group(self) -> "list[_Entry]":
        waiting = self._waiting
        if len(waiting) <= _MOST_JOBS and self._octets <= _MOST_OCTETS:
            group = list(waiting)
            waiting.clear()
            self._octets = 0
            return group
        group = [waiting.popleft()]
        octets = group[0].octets
        while waiting and len(group) < _MOST_JOBS and octets + waiting[0].octets <= _MOST_OCTETS:
            octets += waiting[0].octets
            group.append(waiting.popleft())
        self._octets -= octets
        return group

    async def _write(self, group: "list[_Entry]") -> None:
        """Write a group; where one of it fails, or they are too much for the disk, each by itself."""
        try:
            is_alone = True in [entry.is_alone for entry in group]
            write = self._database.write if is_alone else self._database.write_beside
            results = await write(lambda connection: _perform(connection, group, self._database))
        except Exception as error:
            if len(group) > 1 and isinstance(error, _Failed | StoreFull):
                for entry in group:
                    await self._write([entry])
                return
            for entry in group:
                entry.fail(error.cause if isinstance(error, _Failed) else error)
        else:
            self.written += len(group)
            for entry, result in zip(group, results, strict=True):
                if not entry.answer.done():  # else its caller was cancelled
                    entry.answer.set_result(result)


class _Failed(Exception):
    """Something of a group failed, and the whole transaction is undone."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Entry:
    """Something to be written, and who waits for that: an item of a batch, or a job of its own."""

    __slots__ = ("answer", "batch", "is_alone", "item", "octets")

    batch: Batch[Any] | None
    item: Any
    octets: int
    is_alone: bool
    answer: "asyncio.Future[Any]"

    def fail(self, error: Exception) -> None:
        """Give the caller an exception of its own: a group shares its fault, and each raises it."""
        if not self.answer.done():
            self.answer.set_exception(own(error) if isinstance(error, StoreError) else error)


def _perform(connection: Connection, group: Sequence[_Entry], database: Database) -> list[Any]:
    """Write a group, and return the results of its jobs. Raises _Failed."""
    batches: dict[Batch[Any], list[Any]] = {}
    for entry in group:
        if entry.batch is not None:
            batches.setdefault(entry.batch, []).append(entry.item)
    try:
        with database.named_faults():
            answers = {batch: iter(batch(connection, items) or [None] * len(items)) for batch, items in batches.items()}
            return [entry.item(connection) if entry.batch is None else next(answers[entry.batch]) for entry in group]
    except Exception as error:
        raise _Failed(error) from error
