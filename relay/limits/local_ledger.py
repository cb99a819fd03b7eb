"""The ledger of a process that sends alone: it counts in memory, and what it uses is on disk before it is used.

It has leased all that there is, so it asks nobody. A sixtieth of the minute is taken ahead with each write: after a
kill that counts as used. Who reads the ledger at the start takes every row as it stands.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from relay.directory.model import Account, Server
from relay.limits import constants
from relay.limits.ledger import Corrections, Kind, LedgerError, Message, Purpose, Spent, Store, moment_of, rows_of
from relay.limits.rate import RateLimit
from relay.limits.reservation import Reservation, stretch_of
from relay.limits.rows import Row, Taken

# So much of the minute is taken ahead at once.
_PARTS = 60
# How often it is tried again where a write takes so long that what it took is too old.
_TRIES = 5


@dataclass(slots=True, eq=False)
class LocalRate:
    """The messages of a scope. `limit` counts in seconds from `zero`, as those since 1970 have too few digits."""

    ledger: "LocalLedger"
    limit: RateLimit
    zero: float
    account: Account
    reservation: Reservation

    @property
    def interval(self) -> float:
        """The even distance of two messages, in seconds."""
        return self.limit.interval

    def seconds(self, *, is_asked: bool = False) -> float:  # noqa: ARG002
        """Return how long until one more may be let go; where only those under way can tell, at the earliest."""
        return min(self.limit.next(self._now()) - self._now(), constants.MINUTE)

    def take_known(self, wanted: int) -> list[Message]:
        """Return who may be let go now."""
        now, found = self._now(), list[Message]()
        while len(found) < wanted and self.limit.next(now) <= now:
            self.limit.let_go(now)
            found.append(Message(self.account, moment_of(self.zero + now)))
        return found

    async def take(self, wanted: int) -> list[Message]:
        """Return that."""
        return self.take_known(wanted)

    async def begin(self, message: Message, *, is_again: bool) -> None:
        """Count a message as beginning now, on disk and here. Raises LedgerError."""
        for _ in range(_TRIES):
            if self.reservation.free > 0 or await self.reservation.fill(message.account, 1, 1) > 0:
                break
        else:
            raise LedgerError(f"the store takes more than {constants.AHEAD_SECONDS} seconds for each write")
        self.reservation.use(message.account, 1)
        now = self._now()
        if is_again:
            self.limit.let_go(now)
        self.limit.began(now)

    def take_back(self, message: Message) -> None:  # noqa: ARG002
        """It never begins."""
        self.limit.take_back()

    def look_again(self) -> None:
        """The store says nothing that is not known here."""

    async def reserve(self, server: Server, account: Account, wanted: int, _: int) -> Taken:
        """Have messages on disk before they begin, with some ahead. Raises LedgerError."""
        count = max(wanted, server.messages_per_minute // _PARTS)
        purpose = Purpose.of(server, account, Kind.MESSAGE, self.ledger.wall())
        return await self.ledger.store.take(purpose, partial(_ahead, count=count))

    def _now(self) -> float:
        return self.ledger.wall() - self.zero


class LocalLedger:
    """One for a process. `spent` is what an earlier run has used up. `wall`: seconds since 1970, that nobody sets."""

    tidy_seconds = 2.0
    is_away = False

    def __init__(self, store: Store, spent: Sequence[Spent] = (), *, wall: Callable[[], float] = time.time) -> None:
        self.store = store
        self.spent = spent
        self.wall = wall
        self.corrections = Corrections(store, wall)
        self._rates: dict[str, LocalRate] = {}

    def rate(self, server: Server, account: Account) -> LocalRate:
        """Return the rate of an account; always the same for those who share it."""
        scope = server.scope(account)
        rate = self._rates.get(scope)
        if rate is None:
            zero = self.wall()
            # What is of a second counts to its end; what is ahead of now was used by now.
            earlier = rows_of(self.spent, server, account, Kind.MESSAGE)
            begun = [at for since, count in earlier for at in [min(0.0, since.timestamp() + 1 - zero)] * count]
            reservation = Reservation(Kind.MESSAGE, self.wall)
            limit = RateLimit(server.messages_per_minute, begun)
            rate = self._rates[scope] = LocalRate(self, limit, zero, account, reservation)
            reservation.count = self._count
        rate.reservation.take = partial(rate.reserve, server)
        rate.limit.per_minute, rate.account = server.messages_per_minute, account
        return rate

    async def tidy(self) -> None:
        """Write what was used where it belongs. Raises LedgerError; then the reservations count in its place."""
        await self.corrections.write()

    async def settle(self) -> None:
        """Give back what is taken ahead."""
        for rate in self._rates.values():
            await rate.reservation.settle()

    def _count(self, account: Account, since: datetime, number: int) -> None:
        self.corrections.add(account, Kind.MESSAGE, since, number)


def _ahead(rows: Sequence[Row], now: datetime, *, count: int) -> Taken:  # noqa: ARG001
    return Taken(count, moment_of(stretch_of(Kind.MESSAGE, now.timestamp()) + constants.AHEAD_SECONDS))
