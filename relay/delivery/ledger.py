"""What accounts use up of their limits, on disk before it is used: the ledger of a process that sends alone.

Not every message waits for the disk: each write takes a piece ahead, a reserve, and what is used comes out of that.
After a kill the whole reserve counts as used, so the limit holds and at most one piece is lost. A stop in order gives
the rest back. Who reads the ledger at the start takes every row as it stands (`relay.delivery.pacing`).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from relay import log
from relay.directory.model import Account
from relay.limits import constants
from relay.limits.constants import DAY, PIECE
from relay.store.cluster.day_quotas import Spent
from relay.store.db.errors import StoreError, own

# When what was used is written where it belongs, if no reserve is written before.
_PAUSE_SECONDS = 2.0


class Kind(StrEnum):
    """What is counted. Messages are kept by the second, recipients by the piece of a `DayQuota`."""

    MESSAGE = "message"
    RECIPIENT = "recipient"


class _Entry(NamedTuple):
    account: Account
    kind: Kind
    since: int  # seconds since 1970


class _Key(NamedTuple):
    """Who shares a reserve, and of what it is."""

    scope: str
    kind: Kind


@dataclass(slots=True)
class _Reserve:
    """What is on disk and not used yet. It counts there for `account`, in the stretch that begins at `since`."""

    account: Account
    since: int
    left: int


class Keeper(Protocol):
    """Where it is kept (`relay.store.queue.queue`)."""

    async def spend(self, spent: list[Spent], forget: dict[str, datetime]) -> None:
        """Add to what is kept, and drop what began before the moment of its kind. Raises StoreError."""


class LocalLedger:
    """One for a process. Without a keeper it is only remembered. `wall` counts seconds since 1970.

    `run` writes for ever what was used where it belongs; `aclose` does it at once, and gives the reserves back.

    SAFETY: at any moment the disk counts at least what was used, whatever write is lost. Rows are corrected only in
    pairs (less in a reserve, more where it was used), and what a failed write held is not written again: it may have
    been written, and to leave it out counts more, never less.
    """

    def __init__(self, keeper: Keeper | None = None, *, wall: Callable[[], float] = time.time) -> None:
        self._keeper = keeper
        self._wall = wall
        self._new: Counter[_Entry] = Counter()
        self._has_some = asyncio.Event()
        self._reserves: dict[_Key, _Reserve] = {}
        self._wanted: Counter[_Key] = Counter()
        self._writing: dict[_Key, asyncio.Task[None]] = {}

    async def use(self, scope: str, account: Account, kind: Kind, count: int, *, ahead: int) -> int:
        """Use so many, and return the beginning of the stretch in which they count. They are on disk then.

        Those of a `scope` share a reserve; where it lacks, at least `ahead` are taken. Raises StoreError: none is used.
        """
        if self._keeper is None:
            return _stretch(kind, self._wall())
        key = _Key(scope, kind)
        self._wanted[key] += count
        try:
            while (since := self._take(key, account, count)) is None:
                await self._wait_for_reserve(key, account, ahead)
        finally:
            self._wanted[key] -= count
        return since

    def give_back(self, account: Account, kind: Kind, since: int, count: int) -> None:
        """Let so many that were used in a stretch be used again."""
        if self._keeper is not None:
            self._add(account, kind, since, -count)

    async def run(self) -> None:
        """Write what was used where it belongs, a batch every other second, for ever."""
        while True:
            await self._has_some.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Do that once. Where the store fails, the reserves count in its place."""
        try:
            await self._write()
        except StoreError as error:
            log.broken(str(error))

    async def aclose(self) -> None:
        """Give back what was not used; to be called when nothing is under way any more."""
        if self._writing:
            await asyncio.wait(self._writing.values())
        for key, reserve in self._reserves.items():
            self._add(reserve.account, key.kind, reserve.since, -reserve.left)
        self._reserves.clear()
        await self.flush()

    def _take(self, key: _Key, account: Account, count: int) -> int | None:
        """Use so many of a reserve, and return where they count; None where it lacks, or is of another time."""
        reserve, since = self._reserves.get(key), _stretch(key.kind, self._wall())
        if reserve is None or reserve.left < count or not since <= reserve.since <= since + constants.AHEAD_SECONDS:
            return None
        reserve.left -= count
        self._add(reserve.account, key.kind, reserve.since, -count)
        self._add(account, key.kind, since, count)
        return since

    async def _wait_for_reserve(self, key: _Key, account: Account, ahead: int) -> None:
        """Wait until there is a new one, for all who wait for it; it comes also where one of them is cancelled."""
        task = self._writing.get(key)
        if task is None:
            task = self._writing[key] = asyncio.create_task(self._renew(key, account, ahead))
            task.add_done_callback(_read_failure)
        try:
            await asyncio.shield(task)
        except StoreError as error:
            raise own(error) from error.__cause__

    async def _renew(self, key: _Key, account: Account, ahead: int) -> None:
        """Take a new reserve, and give back what is left of the one before."""
        old = self._reserves.pop(key, None)
        if old is not None:
            self._add(old.account, key.kind, old.since, -old.left)
        count, since = max(self._wanted[key], ahead), _stretch(key.kind, self._wall())
        if key.kind is Kind.MESSAGE:
            since += constants.AHEAD_SECONDS
        self._add(account, key.kind, since, count)
        try:
            await self._write()
            self._reserves[key] = _Reserve(account, since, count)
        finally:
            del self._writing[key]  # at once: nobody may find one that is over

    def _add(self, account: Account, kind: Kind, since: int, count: int) -> None:
        if count:
            self._new[_Entry(account, kind, since)] += count
            self._has_some.set()

    async def _write(self) -> None:
        self._has_some.clear()
        new, self._new = self._new, Counter()
        spent = [_spent(entry, count) for entry, count in new.items() if count]
        if self._keeper is not None and spent:
            await self._keeper.spend(spent, counts_no_more(datetime.fromtimestamp(self._wall(), UTC)))


def _read_failure(task: asyncio.Task[None]) -> None:
    """Whoever waits for it is told; it is no fault where nobody does any more."""
    if not task.cancelled():
        task.exception()


def _stretch(kind: Kind, now: float) -> int:
    """Return when the stretch of time began that is now."""
    return int(now) // PIECE * PIECE if kind is Kind.RECIPIENT else int(now)


def _spent(entry: _Entry, count: int) -> Spent:
    account, kind, since = entry
    moment = datetime.fromtimestamp(since, UTC)
    return Spent(server=account.server, username=account.username, kind=str(kind), since=moment, count=count)


def counts_no_more(now: datetime) -> dict[str, datetime]:
    """Return, by kind, what counts no more: twice as long as it does, so that nothing hangs on a second."""
    return {
        str(Kind.MESSAGE): now - timedelta(seconds=2 * constants.MINUTE),
        str(Kind.RECIPIENT): now - timedelta(seconds=DAY + 2 * PIECE),
    }
