"""The recipients that this process may still send to today, taken ahead from what all have: a purse for each account.

What is taken counts as spent at once. What is left of it for some time is given back; what a process has when it dies
counts for a day, so that the limit holds whatever happens. While the store is away a process goes on with what is in
its purse: so one that is in use is kept filled, as long as the day has much left.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import NamedTuple, Protocol, TypeVar

from relay.delivery.ledger import Kind
from relay.directory.model import Account, Server
from relay.limits.constants import PIECE
from relay.limits.day_quota import SEEN_DAY_SECONDS, DayQuota, Row, buy, pieces_of, room, room_at
from relay.store.cluster.day_quotas import Purpose, Taken, TakeRule

# After it, what is unused is given back, and what others have spent is looked up again.
_REST_SECONDS = 10.0
# So much of a day's limit is taken at once.
_PARTS = 100
# With less than a tenth of the day left, somebody may soon lack what another has in its purse; with more a purse is
# kept for so long after it was used.
_SCARCE_PARTS = 10
_KEPT_SECONDS = 600.0


T = TypeVar("T", bound=Taken)


class Shop(Protocol):
    """Where recipients and moments are taken from (`relay.store.queue.queue`)."""

    async def take(self, purpose: Purpose, rule: TakeRule[T]) -> T:
        """Take what the rule says. Raises StoreError."""

    async def spent_for(self, purpose: Purpose) -> list[Row]:
        """Return what all have spent. Raises StoreError."""


class Correction(NamedTuple):
    """Where the store is to count more, or less."""

    account: Account
    kind: Kind
    since: datetime


@dataclass(slots=True)
class _Purse:
    """What is left of what was taken in a piece of the day; `promised` of it are somebody's already."""

    server: Server
    left: int = 0
    piece: int = 0
    promised: int = 0
    used_at: float = 0.0


@dataclass(slots=True)
class _Seen:
    """What all have spent, as of a moment, and when somebody asked."""

    server: Server
    account: Account
    budget: DayQuota = field(default_factory=DayQuota)
    at: float = 0.0
    asked_at: float = 0.0


@dataclass(slots=True)
class Promise:
    """So many recipients, for one message that has its turn. To be charged once, or released."""

    purses: "Purses"
    account: Account
    count: int
    is_open: bool = True
    _piece: int = 0

    async def charge(self, wanted: int) -> int:
        """Take so many out of the purse, or as many as there are; return how many."""
        self.release()
        self._piece = self.purses.piece
        return self.purses.spend(self.account, wanted)

    def refund(self, count: int) -> None:
        """Give back what nobody got, into the piece of the day that it came out of."""
        self.purses.put_back(self.account, self._piece, count)

    def release(self) -> None:
        """It is promised no more."""
        if self.is_open:
            self.is_open = False
            self.purses.release(self.account, self.count)


class Purses:
    """One for a process. `correct` is told what the store is to count otherwise."""

    def __init__(
        self, shop: Shop, correct: Callable[[Correction, int], None], wall: Callable[[], float] = time.time
    ) -> None:
        self._shop = shop
        self._correct = correct
        self._wall = wall
        self._purses: dict[Account, _Purse] = {}
        self._seen: dict[str, _Seen] = {}

    @property
    def piece(self) -> int:
        """The piece of the day that is now."""
        return int(self._wall()) // PIECE * PIECE

    async def promise(self, server: Server, account: Account, recipients: int) -> Promise | None:
        """Have so many recipients in the purse; None where there are not as many today. Raises StoreError."""
        purse = self._purses.setdefault(account, _Purse(server))
        purse.server = server
        lack = recipients - (purse.left - purse.promised)
        if lack > 0:
            await self._take(server, account, purse, lack)
        if purse.left - purse.promised < recipients:
            return None
        purse.promised += recipients
        return Promise(self, account, recipients)

    def has(self, account: Account, recipients: int) -> bool:
        """Whether so many are in the purse, and promised to nobody."""
        return self._left(account) >= recipients

    def room(self, server: Server, account: Account) -> float:
        """Return how many recipients there are today, as far as is known here; infinity where nobody counts."""
        if not server.recipients_per_day:
            return inf
        seen = self._asked(server, account)
        return self._left(account) + room([seen.budget], server.recipients_per_day, self._wall())

    def seconds(self, server: Server, account: Account) -> float:
        """Return how long until there is one at least, as far as is known here; 0 for now."""
        if not server.recipients_per_day or self._left(account):
            return 0.0
        now = self._wall()
        return room_at([self._asked(server, account).budget], server.recipients_per_day, now) - now

    def spend(self, account: Account, wanted: int) -> int:
        """Take out of the purse what is promised to nobody else."""
        purse = self._purses[account]
        count = max(0, min(wanted, purse.left - purse.promised))
        purse.left -= count
        purse.used_at = self._wall()
        if purse.piece != self.piece:  # taken before, and sent to now
            self._count(account, purse.piece, -count)
            self._count(account, self.piece, count)
        return count

    def put_back(self, account: Account, piece: int, count: int) -> None:
        """Put back what was taken out in a piece of the day."""
        purse = self._purses[account]
        if piece == purse.piece:
            purse.left += count
            purse.used_at = self._wall()
        else:
            self._count(account, piece, -count)

    def release(self, account: Account, count: int) -> None:
        """So many are promised no more."""
        self._purses[account].promised -= count

    def tidy(self, *, at_once: bool = False) -> None:
        """Give back what was unused for some time; `at_once` all that is promised to nobody."""
        for account, purse in self._purses.items():
            unused = purse.left - purse.promised
            kept = _REST_SECONDS if self._is_scarce(purse.server, account) else _KEPT_SECONDS
            if unused > 0 and (at_once or self._wall() - purse.used_at >= kept):
                purse.left -= unused
                self._count(account, purse.piece, -unused)

    async def fill(self) -> None:
        """Fill the purses that are half empty and were used just now, where the day has much left.

        Raises StoreError.
        """
        for account, purse in tuple(self._purses.items()):
            if self._wall() - purse.used_at >= _REST_SECONDS or self._is_scarce(purse.server, account):
                continue
            most = purse.server.recipients_per_day // _PARTS
            lack = most - (purse.left - purse.promised)
            if lack > most // 2:
                await self._take(purse.server, account, purse, lack)

    async def refresh(self) -> None:
        """Look again at what others have spent, where that is asked and nothing was left. Raises StoreError."""
        now = self._wall()
        for seen in tuple(self._seen.values()):
            limit = seen.server.recipients_per_day
            is_asked = seen.asked_at > seen.at and now - seen.at >= _REST_SECONDS
            if is_asked and (not seen.at or room([seen.budget], limit, now) < 1):
                rows = await self._shop.spent_for(self._purpose(seen.server, seen.account))
                seen.budget, seen.at = DayQuota(dict(pieces_of(rows))), now

    async def _take(self, server: Server, account: Account, purse: _Purse, lack: int) -> None:
        limit = server.recipients_per_day
        rule = partial(buy, per_day=limit, wanted=max(lack, limit // _PARTS), at_least=lack)
        taken = await self._shop.take(self._purpose(server, account), rule)
        seen = self._known(server, account)
        seen.budget, seen.at = DayQuota(dict(taken.spent)), self._wall()
        piece = int(taken.since.timestamp())
        seen.budget.correct(piece, taken.count)
        if taken.count:
            if purse.left and purse.piece != piece:
                self._count(account, purse.piece, -purse.left)
                self._count(account, piece, purse.left)
            purse.piece, purse.left, purse.used_at = piece, purse.left + taken.count, self._wall()

    def _purpose(self, server: Server, account: Account) -> Purpose:
        after = datetime.fromtimestamp(self._wall(), UTC) - timedelta(seconds=SEEN_DAY_SECONDS)
        return Purpose(account.server, account.username, str(Kind.RECIPIENT), after, server.shared_limits)

    def _known(self, server: Server, account: Account) -> _Seen:
        scope = server.scope(account)
        seen = self._seen.get(scope)
        if seen is None:
            seen = self._seen[scope] = _Seen(server, account)
        seen.server = server
        return seen

    def _asked(self, server: Server, account: Account) -> _Seen:
        seen = self._known(server, account)
        seen.asked_at = self._wall()
        return seen

    def _is_scarce(self, server: Server, account: Account) -> bool:
        """Whether there is little left of the day of an account, as far as is known here."""
        limit = server.recipients_per_day
        return room([self._known(server, account).budget], limit, self._wall()) * _SCARCE_PARTS < limit

    def _left(self, account: Account) -> int:
        purse = self._purses.get(account)
        return purse.left - purse.promised if purse else 0

    def _count(self, account: Account, piece: int, count: int) -> None:
        if count:
            self._correct(Correction(account, Kind.RECIPIENT, datetime.fromtimestamp(piece, UTC)), count)
            for seen in self._seen.values():
                if seen.server.scope(seen.account) == seen.server.scope(account):
                    seen.budget.correct(piece, count)
