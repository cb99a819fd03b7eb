"""The pace of all accounts: who may hand a message over now, who waits for that, and how long it takes.

What is used up is on disk before (`relay.delivery.ledger`), so that the limits hold over a kill. Each account has its
own limits, or all accounts of a server together (`shared_limits`). Who waits for the minute waits here, in a line that
is fair between profiles; for the day's budget nobody waits here, since that takes hours.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil, inf

from relay.delivery.ledger import Kind, LocalLedger
from relay.delivery.turn import Turn
from relay.directory.model import Account, Server
from relay.limits.constants import PIECE
from relay.limits.day_quota import DayQuota, room, room_at
from relay.limits.fair_queue import FairQueue
from relay.limits.rate import RateLimit
from relay.store.cluster.day_quotas import Spent

# So much of a limit is taken ahead at once, and is lost for its minute or day where the process is killed.
_MINUTE_PARTS = 60
_DAY_PARTS = 100


@dataclass(slots=True)
class _Lane:
    """Those who share a pace."""

    pace: RateLimit
    line: FairQueue = field(default_factory=FairQueue)
    timer: asyncio.TimerHandle | None = None


def is_limited(server: Server) -> bool:
    """Whether anybody ever waits at this server."""
    return bool(server.messages_per_minute or server.recipients_per_day)


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def why(server: Server, account: Account, now: float, *, day: float, minute: float) -> str:
    """Return in a sentence what a message waits for, by the seconds that the day and the minute take; "" for nothing.

    `now` is in seconds since 1970.
    """
    who = f"waits for {server.scope(account)}"
    if day > 0:
        moment = datetime.fromtimestamp(now + day, UTC)
        later = "" if moment.date() == datetime.fromtimestamp(now, UTC).date() else " tomorrow"
        return f"{who}: {_many(server.recipients_per_day, 'recipient')} a day, next at {moment:%H:%M} UTC{later}"
    if minute > 0:
        return f"{who}: {_many(server.messages_per_minute, 'message')} a minute, next in {ceil(minute)} s"
    return ""


class Pacing:
    """One for a relay. `spent` is what an earlier run kept;

    `wall` counts seconds since 1970 by a clock that nobody sets, `timer` any seconds; `shown` is what people read.
    """

    def __init__(
        self,
        ledger: LocalLedger | None = None,
        spent: Iterable[Spent] = (),
        *,
        wall: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        shown: Callable[[], float] | None = None,
    ) -> None:
        self._ledger = ledger or LocalLedger(wall=wall)
        self._wall = wall
        self._shown = shown or wall
        self._timer = timer
        self._lanes: dict[str, _Lane] = {}
        self._budgets: dict[Account, DayQuota] = {}
        self._earlier: list[tuple[Account, float]] = []  # messages of an earlier run, and when they began
        self._is_closed = False
        for each in spent:
            self._remember(each)

    async def turn(
        self, server: Server, account: Account, profile: str | None, *, recipients: int = 1, within: float = inf
    ) -> Turn | None:
        """Wait for the turn of one message; None where the budget lacks that many recipients, or it takes longer.

        The caller ends the turn, whatever becomes of it. A cancelled wait leaves nothing behind.
        """
        if not is_limited(server):
            return Turn()
        if self.room(server, account) < recipients:
            return None
        lane = self._lane(server, account) if server.messages_per_minute else None
        if lane is not None and not await self._wait(lane, profile, 0 if self._is_closed else within):
            return None
        return self._turn(server, account, lane)

    def room(self, server: Server, account: Account) -> float:
        """Return how many recipients may still be sent to today; infinity where nobody counts."""
        limit = server.recipients_per_day
        return room(self._budgets_of(server, account), limit, self._wall()) if limit else inf

    def next(self, server: Server, account: Account) -> datetime | None:
        """Return when the next message may leave; None where one may now."""
        seconds = max(self._minute_seconds(server, account), self._day_seconds(server, account))
        return datetime.fromtimestamp(self._shown() + seconds, UTC) if seconds > 0 else None

    def reason(self, server: Server, account: Account) -> str:
        """Return in a sentence what the next message waits for; "" where it does not."""
        day, minute = self._day_seconds(server, account), self._minute_seconds(server, account)
        return why(server, account, self._shown(), day=day, minute=minute)

    def disband(self) -> None:
        """Give nobody who waits a turn: limits have changed, let them ask again."""
        for lane in self._lanes.values():
            while (place := lane.line.next()) is not None:
                if not place.done():
                    place.set_result(False)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._is_closed = True
        self.disband()

    # The minute

    async def _wait(self, lane: _Lane, profile: str | None, within: float) -> bool:
        now = self._timer()
        start = lane.pace.next(now)
        if start <= now and lane.line.is_empty:
            lane.pace.let_go(now)
            return True
        if within < inf and start + lane.line.ahead_of(profile) * lane.pace.interval - now > within:
            return False
        place = lane.line.join(profile)
        self._serve(lane)
        try:
            await asyncio.wait({place}, timeout=None if within == inf else within)
        except asyncio.CancelledError:
            if place.done() and place.result():
                self._skip(lane)
            lane.line.leave(profile, place)
            raise
        if place.done():
            return place.result()
        lane.line.leave(profile, place)
        return False

    def _serve(self, lane: _Lane) -> None:
        """Let those go who may, and come back when the next may."""
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        while not lane.line.is_empty:
            now = self._timer()
            start = lane.pace.next(now)
            if start > now:
                if start < inf:
                    lane.timer = asyncio.get_running_loop().call_later(start - now, self._serve, lane)
                return
            place = lane.line.next()
            if place is not None and not place.done():
                lane.pace.let_go(now)
                place.set_result(True)

    def _skip(self, lane: _Lane) -> None:
        lane.pace.take_back()
        self._serve(lane)

    def _lane(self, server: Server, account: Account) -> _Lane:
        key, limit = server.scope(account), server.messages_per_minute
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(RateLimit(limit, self._begun_earlier(server, account)))
        lane.pace.per_minute = limit
        return lane

    def _begun_earlier(self, server: Server, account: Account) -> list[float]:
        """Return when messages of an earlier run began."""
        return [
            at
            for owner, at in self._earlier
            if owner == account or (server.shared_limits and owner.server == server.name)
        ]

    def _minute_seconds(self, server: Server, account: Account) -> float:
        """Return how long until the next message of those who do not wait in line yet; 0 for now."""
        if not server.messages_per_minute:
            return 0.0
        lane, now = self._lane(server, account), self._timer()
        start = lane.pace.next(now)
        return start - now if start < inf else lane.pace.interval

    # The day

    def _day_seconds(self, server: Server, account: Account) -> float:
        if not server.recipients_per_day:
            return 0.0
        now = self._wall()
        return room_at(self._budgets_of(server, account), server.recipients_per_day, now) - now

    def _budgets_of(self, server: Server, account: Account) -> Iterator[DayQuota]:
        if not server.shared_limits:
            yield self._budget(account)
            return
        yield from (budget for owner, budget in self._budgets.items() if owner.server == server.name)

    def _budget(self, account: Account) -> DayQuota:
        return self._budgets.setdefault(account, DayQuota())

    def _remember(self, spent: Spent) -> None:
        account, since = Account(spent.server, spent.username), int(spent.since.timestamp())
        if spent.kind == Kind.RECIPIENT:
            self._budget(account).correct(since, spent.count)
        elif spent.kind == Kind.MESSAGE:
            began = self._timer() - max(0.0, self._wall() - (since + 1))
            self._earlier.extend([(account, began)] * spent.count)

    # A turn

    def _turn(self, server: Server, account: Account, lane: _Lane | None) -> Turn:
        turn = Turn()
        renew: Callable[[], Awaitable[None]] | None = None
        if server.recipients_per_day:
            turn.charge_up_to, turn.refund, renew = self._charging(server, account)
        if lane is not None:
            turn.on_skip = lambda: self._skip(lane)

        async def begin() -> None:
            if renew is not None:
                await renew()
            if lane is not None:
                await self._begin(server, account, lane, is_again=turn.has_begun)

        turn.on_begin = begin
        return turn

    async def _begin(self, server: Server, account: Account, lane: _Lane, *, is_again: bool) -> None:
        ahead = max(1, server.messages_per_minute // _MINUTE_PARTS)
        await self._ledger.use(server.scope(account), account, Kind.MESSAGE, 1, ahead=ahead)
        now = self._timer()
        if is_again:
            lane.pace.let_go(now)
        lane.pace.began(now)
        self._serve(lane)

    def _charging(
        self, server: Server, account: Account
    ) -> tuple[Callable[[int], Awaitable[int]], Callable[[int], None], Callable[[], Awaitable[None]]]:
        """Return how a turn takes recipients off the budget, gives them back, and counts them when they are named.

        They count in the piece of the day in which MAIL leaves, which may be later than they were taken.
        """
        scope, budget, ledger = server.scope(account), self._budget(account), self._ledger
        ahead = max(1, server.recipients_per_day // _DAY_PARTS)
        charged = piece = 0

        async def use(count: int) -> int:
            return await ledger.use(scope, account, Kind.RECIPIENT, count, ahead=ahead)

        async def charge(wanted: int) -> int:
            nonlocal charged, piece
            count = int(min(wanted, self.room(server, account)))
            if not count:
                return 0
            here = budget.spend(self._wall(), count)  # nobody else gets them while the store is asked
            try:
                piece = await use(count)
            finally:
                budget.correct(here, -count)
            budget.correct(piece, count)
            charged = count
            return count

        def refund(count: int) -> None:
            budget.correct(piece, -count)
            ledger.give_back(account, Kind.RECIPIENT, piece, count)

        async def renew() -> None:
            nonlocal piece
            if not charged or self._wall() < piece + PIECE:
                return
            later = await use(charged)
            budget.correct(later, charged)
            refund(charged)
            piece = later

        return charge, refund, renew
