"""How many recipients an account may still send to today: a quota over a rolling day, counted in ten minutes.

Law: no stretch of a day holds more recipients than the limit, however it is laid. What a piece of ten minutes holds is
free again a day after its end, never earlier: the provider counts to the second, and we are on the safe side by less
than one percent of a day. Times are seconds since 1970. The rule itself (`DayQuota`, `buy`) is pure.

A process takes recipients ahead, a hundredth of the limit at a time; what is left of it for some time is given back.
While the store is away a process goes on with what it has: so the reservation of an account that is in use is kept
filled, as long as the day has much left.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf

from relay.directory.model import Account, Server
from relay.limits import constants
from relay.limits.ledger import Kind, Ledger, LedgerError, Purpose, moment_of, rows_of
from relay.limits.reservation import Reservation, stretch_of
from relay.limits.rows import Row, Taken


@dataclass(frozen=True, slots=True)
class Purchase(Taken):
    """`spent`: what all have used before."""

    spent: Sequence[Row] = ()


class DayQuota:
    """What one account has spent. `pieces`: what an earlier run kept, by the beginning of each ten minutes."""

    def __init__(self, pieces: Mapping[int, int] | None = None) -> None:
        self._pieces = dict(pieces or {})

    def spend(self, now: float, count: int) -> int:
        """Count some recipients, and return the piece that they are in; a negative count gives some back."""
        piece = int(now) // constants.PIECE * constants.PIECE
        self.correct(piece, count)
        return piece

    def correct(self, piece: int, count: int) -> None:
        """Change what a piece holds."""
        self._pieces[piece] = self._pieces.get(piece, 0) + count

    def pieces(self, now: float) -> Iterator[tuple[float, int]]:
        """Yield what counts now: when it is free again, and how many. Forgets what is free."""
        for piece in [piece for piece in self._pieces if free_at(piece) <= now]:
            del self._pieces[piece]
        # A clock that was set back leaves pieces in the future; they count no longer than those of now.
        yield from (
            (min(free_at(piece), now + constants.DAY + constants.PIECE), count) for piece, count in self._pieces.items()
        )


def free_at(piece: int) -> int:
    """Return when what was spent in a piece may be spent again."""
    return piece + constants.PIECE + constants.DAY


def room(quotas: Iterable[DayQuota], limit: int, now: float) -> int:
    """Return how many recipients accounts that share a limit may still send to now."""
    return max(0, limit - sum(count for quota in quotas for _, count in quota.pieces(now)))


def room_at(quotas: Iterable[DayQuota], limit: int, now: float) -> float:
    """Return when they may send to at least one: now or later."""
    pieces = sorted(piece for quota in quotas for piece in quota.pieces(now))
    spent = sum(count for _, count in pieces)
    moment = now
    for moment_free, count in pieces:
        if spent < limit:
            break
        spent, moment = spent - count, moment_free
    return moment


def seen_day_seconds() -> float:
    """Return of how many seconds the rows of a store are looked at."""
    return constants.DAY + constants.PIECE + 1.0


def buy(rows: Sequence[Row], now: datetime, *, per_day: int, wanted: int, at_least: int) -> Purchase:
    """Return how many recipients may be taken ahead of those that are `wanted`; none where `at_least` cannot be had.

    They count in a later piece, so that they may be used for some time.
    """
    left = room([DayQuota(pieces_of(rows))], per_day, now.timestamp())
    piece = int(now.timestamp()) // constants.PIECE * constants.PIECE + constants.DAY_AHEAD_SECONDS
    return Purchase(min(wanted, left) if left >= at_least else 0, datetime.fromtimestamp(piece, UTC), rows)


def pieces_of(rows: Iterable[Row]) -> dict[int, int]:
    """Return what rows hold, by the piece of the day that they are in."""
    pieces: dict[int, int] = {}
    for since, count in rows:
        piece = int(since.timestamp()) // constants.PIECE * constants.PIECE
        pieces[piece] = pieces.get(piece, 0) + count
    return pieces


# After it, what is unused is given back, and what others have used is looked up again.
_REST_SECONDS = 10.0
# So much of a day's limit is taken at once.
_PARTS = 100
# With less than a tenth of the day left, somebody may soon lack what another has taken ahead; with more it is kept for
# so long after it was used.
_SCARCE_PARTS = 10
_KEPT_SECONDS = 600.0


@dataclass(slots=True, eq=False)
class _Day:
    """The day of a scope. `quota`: what all have used, as of the moment `seen_at`."""

    server: Server
    account: Account
    quota: DayQuota
    reservation: Reservation
    seen_at: float = 0.0
    asked_at: float = 0.0

    @property
    def ahead(self) -> int:
        """How many are taken at once."""
        return self.server.recipients_per_day // _PARTS

    def is_scarce(self, now: float) -> bool:
        """Whether there is little left of the day, as far as is known here."""
        limit = self.server.recipients_per_day
        return room([self.quota], limit, now) * _SCARCE_PARTS < limit


@dataclass(slots=True, eq=False)
class Promise:
    """So many recipients, for one message that has its permit. To be charged once, or released."""

    days: "Recipients"
    day: _Day
    account: Account
    number: int
    _charged: int = 0
    _since: datetime | None = None

    async def charge(self, wanted: int) -> int:
        """Use so many, or as many as there are; return how many. Raises LedgerError where there are none here."""
        self.release()
        reservation = self.day.reservation
        if reservation.free < wanted and not self.days.is_away:
            try:
                await reservation.fill(self.account, wanted, at_least=1)
            except LedgerError:
                if reservation.free < 1:
                    raise
        self._charged = max(0, min(wanted, reservation.free))
        if self._charged:
            self._since = reservation.use(self.account, self._charged)
        return self._charged

    async def begin(self) -> None:
        """Count them in the piece of the day in which they are named to the server. Raises LedgerError."""
        if self._since is not None and self.days.wall() >= self._since.timestamp() + constants.PIECE:
            self._since = await self.days.move(self.day, self.account, self._since, self._charged)

    def refund(self, number: int) -> None:
        """Give back what nobody got."""
        if self._since is not None:
            self.day.reservation.put_back(self.account, self._since, number)

    def release(self) -> None:
        """They are promised no more."""
        self.day.reservation.promised -= self.number
        self.number = 0


class Recipients:
    """One for a process."""

    def __init__(self, ledger: Ledger, wall: Callable[[], float]) -> None:
        self._ledger = ledger
        self.wall = wall
        self._days: dict[str, _Day] = {}

    @property
    def is_away(self) -> bool:
        """Whether the store is away."""
        return self._ledger.is_away

    async def promise(self, server: Server, account: Account, number: int) -> Promise | None:
        """Have so many recipients ready; None where there are not as many today. Raises LedgerError."""
        day = self._day(server, account)
        reservation = day.reservation
        if reservation.free < number and (self.is_away or await reservation.fill(account, number, number) < number):
            return None
        reservation.promised += number
        return Promise(self, day, account, number)

    def room(self, server: Server, account: Account) -> float:
        """Return how many recipients there are today, as far as is known here; infinity where nobody counts."""
        if not server.recipients_per_day:
            return inf
        day = self._asked(server, account)
        return max(0, day.reservation.free) + room([day.quota], server.recipients_per_day, self.wall())

    def seconds(self, server: Server, account: Account) -> float:
        """Return how long until there is one at least, as far as is known here; 0 for now."""
        if not server.recipients_per_day:
            return 0.0
        day, now = self._asked(server, account), self.wall()
        return 0.0 if day.reservation.free > 0 else room_at([day.quota], server.recipients_per_day, now) - now

    async def move(self, day: _Day, account: Account, since: datetime, number: int) -> datetime:
        """Count in the piece of the day that is now what was used in an earlier one. Raises LedgerError."""
        here = moment_of(stretch_of(Kind.RECIPIENT, self.wall()))
        self._count(day, account, since, -number)
        self._count(day, account, here, number)
        if not self.is_away:
            await self._ledger.corrections.write()
        return here

    def give_back(self) -> None:
        """Give back what was unused for some time."""
        now = self.wall()
        for day in self._days.values():
            kept = _REST_SECONDS if day.is_scarce(now) else _KEPT_SECONDS
            if now - day.reservation.used_at >= kept:
                day.reservation.give_back()

    async def look(self) -> None:
        """Look again at what others have used, where somebody asks and nothing was left; then take ahead what lacks.

        Raises LedgerError.
        """
        now = self.wall()
        for day in tuple(self._days.values()):
            limit, reservation = day.server.recipients_per_day, day.reservation
            is_asked = day.asked_at > day.seen_at and now - day.seen_at >= _REST_SECONDS
            if is_asked and (not day.seen_at or room([day.quota], limit, now) < 1):
                purpose = self._purpose(day, day.account)
                self._see(day, await self._ledger.store.spent_for(purpose))
            is_used = now - reservation.used_at < _REST_SECONDS
            if is_used and not day.is_scarce(now) and day.ahead - reservation.free > day.ahead // 2:
                await reservation.fill(day.account, day.ahead, day.ahead)

    async def settle(self) -> None:
        """Give all back; no message is under way any more."""
        for day in self._days.values():
            await day.reservation.settle()

    async def _take(self, day: _Day, account: Account, wanted: int, at_least: int) -> Purchase:
        limit = day.server.recipients_per_day
        rule = partial(buy, per_day=limit, wanted=max(wanted, day.ahead), at_least=at_least)
        taken = await self._ledger.store.take(self._purpose(day, account), rule)
        self._see(day, taken.spent)
        if taken.count:
            day.quota.correct(int(taken.since.timestamp()), taken.count)
        return taken

    def _count(self, day: _Day, account: Account, since: datetime, number: int) -> None:
        self._ledger.corrections.add(account, Kind.RECIPIENT, since, number)
        day.quota.correct(int(since.timestamp()), number)

    def _see(self, day: _Day, rows: Sequence[Row]) -> None:
        pending = self._ledger.corrections.pending(day.server, day.account, Kind.RECIPIENT)
        day.quota, day.seen_at = DayQuota(pieces_of([*rows, *pending])), self.wall()

    def _purpose(self, day: _Day, account: Account) -> Purpose:
        return Purpose.of(day.server, account, Kind.RECIPIENT, self.wall() - seen_day_seconds())

    def _day(self, server: Server, account: Account) -> _Day:
        scope = server.scope(account)
        day = self._days.get(scope)
        if day is None:
            earlier = rows_of(self._ledger.spent, server, account, Kind.RECIPIENT)
            reservation = Reservation(Kind.RECIPIENT, self.wall)
            day = self._days[scope] = _Day(server, account, DayQuota(pieces_of(earlier)), reservation)
            reservation.take, reservation.count = partial(self._take, day), partial(self._count, day)
        day.server, day.account = server, account
        return day

    def _asked(self, server: Server, account: Account) -> _Day:
        day = self._day(server, account)
        day.asked_at = self.wall()
        return day
