"""What accounts use up of their limits, written behind: a batch each half second, and nothing where nobody has limits.

A crash forgets what was spent in the last half second. Who reads it back makes up for that (`relay.delivery.pacing`).
"""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from relay import log
from relay.delivery.budget import DAY, PIECE
from relay.delivery.pace import MINUTE
from relay.directory.model import Account
from relay.store.budgets import Spent
from relay.store.errors import StoreError

_PAUSE_SECONDS = 0.5


class Kind(StrEnum):
    """What is counted. Messages are kept by the second, recipients by the piece of a `Budget`."""

    MESSAGE = "message"
    RECIPIENT = "recipient"


class _Entry(NamedTuple):
    account: Account
    kind: Kind
    since: int  # seconds since 1970


class Keeper(Protocol):
    """Where it is kept (`relay.store.queue`)."""

    async def spend(self, spent: list[Spent], forget: dict[str, datetime]) -> None:
        """Add to what is kept, and drop what began before the moment of its kind. Raises StoreError."""


class Spending:
    """Collects what is spent. `run` writes it for ever, `flush` at once; without a keeper it is only remembered."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._keeper = keeper
        self._new: Counter[_Entry] = Counter()
        self._has_some = asyncio.Event()

    def add(self, account: Account, kind: Kind, since: int, count: int) -> None:
        """Take so many more, or fewer, into a stretch of time."""
        if self._keeper is not None and count:
            self._new[_Entry(account, kind, since)] += count
            self._has_some.set()

    async def run(self) -> None:
        """Write what has come, a batch each half second, for ever."""
        while True:
            await self._has_some.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what has come. What the store does not take stays for the next time."""
        self._has_some.clear()
        new, self._new = self._new, Counter()
        if self._keeper is None or not new:
            return
        try:
            await self._keeper.spend(
                [_spent(entry, count) for entry, count in new.items() if count], counts_no_more(datetime.now(UTC))
            )
        except StoreError as error:
            log.broken(str(error))
            self._new.update(new)
            self._has_some.set()


def _spent(entry: _Entry, count: int) -> Spent:
    account, kind, since = entry
    moment = datetime.fromtimestamp(since, UTC)
    return Spent(server=account.server, username=account.username, kind=str(kind), since=moment, count=count)


def counts_no_more(now: datetime) -> dict[str, datetime]:
    """Return, by kind, what counts no more: twice as long as it does, so that nothing hangs on a second."""
    return {
        str(Kind.MESSAGE): now - timedelta(seconds=2 * MINUTE),
        str(Kind.RECIPIENT): now - timedelta(seconds=DAY + 2 * PIECE),
    }
