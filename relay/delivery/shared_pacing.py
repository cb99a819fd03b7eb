"""The pace of all accounts where several processes send for them: as `relay.delivery.pacing`, by what the store has.

Who waits for the minute waits in the line of this process, which is fair between profiles. For those in line moments
are taken from the store, a few at once, in one transaction that looks at what all processes have taken in the last
minute. The day's recipients come out of a purse (`relay.delivery.purse`).

While the store is away each process goes by its part of the pace (`relay.limits.outage_share`) and by what is in its
purse. What it sends so is written down before anything is taken from the store again.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import Protocol

from relay import log
from relay.delivery.ledger import Kind, counts_no_more
from relay.delivery.pacing import is_limited, why
from relay.delivery.purse import Correction, Promise, Purses, Shop
from relay.delivery.turn import Turn
from relay.directory.model import Account, Server
from relay.limits import constants
from relay.limits.fair_queue import FairQueue
from relay.limits.max_min import Grant, Rule, Share
from relay.limits.other_processes import Others
from relay.limits.outage_share import is_away, limit_of, part
from relay.limits.rate import Begun, RateLimit, begin, seen_seconds, shared_window
from relay.store.cluster.day_quotas import BeginRule, Purpose, Spent
from relay.store.db.errors import StoreError

_TROUBLE_SECONDS = 1.0
_FORGET_SECONDS = 60.0
# So long after somebody else was faster each lets the others go first, by at most so much.
_CONTEST_SECONDS = 3.0
_COURTESY_SECONDS = 0.05
# How old what is known of an account may be, where somebody asks.
_ASKED_SECONDS = 2.0
# For how long after an account was used we have a part of it.
_USED_SECONDS = 600.0


class Keeper(Shop, Protocol):
    """Where all that is spent is kept (`relay.store.queue.queue`)."""

    @property
    def share_seconds(self) -> float:
        """So long after we were last heard of our parts are ours."""

    async def begin(self, purpose: Purpose, scope: str, quiet_seconds: float, rule: BeginRule[Begun]) -> Begun:
        """Take what the rule says, which is told what is kept back for those that are quiet. Raises StoreError."""

    async def adjust_outage(self, rules: Mapping[str, Rule]) -> dict[str, Grant]:
        """Say that we are there, and write what the rules make of the parts of others. Raises StoreError."""

    async def spend(self, spent: list[Spent], forget: dict[str, datetime]) -> None:
        """Add to what is kept, and drop what counts no more. Raises StoreError."""


@dataclass(slots=True, eq=False)
class _Lane:
    """Those of this process who share a pace. `next` is when one more may begin, as of the last look.

    `held` is our part of the pace, None before the others know of us, `own` when ours of the last minute began, and
    `away` the pace of our part while the store is away.
    """

    server: Server
    account: Account
    line: FairQueue = field(default_factory=FairQueue)
    taken: deque["_Moment"] = field(default_factory=deque)  # for those whose turn has come, in their order
    next: float = 0.0
    seen_at: float = 0.0
    asked_at: float = 0.0
    contested_at: float = 0.0  # when somebody else was faster
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_well: bool = True
    used_at: float = 0.0
    held: int | None = None
    own: deque[float] = field(default_factory=deque)
    away: RateLimit | None = None


@dataclass(slots=True, eq=False)
class _Moment:
    """A message that may begin, as the store has it or will, and has not. `pace`: the part of a pace that it uses."""

    lane: _Lane
    account: Account
    since: datetime
    pace: RateLimit | None = None


class SharedPacing:
    """One for a process. `run` goes on for ever, `aclose` gives back what was not used.

    `wall`: seconds since 1970, by a clock that nobody sets; `shown` is the clock that people read.
    """

    def __init__(
        self,
        keeper: Keeper,
        others: Others | None = None,
        *,
        wall: Callable[[], float] = time.time,
        shown: Callable[[], float] | None = None,
    ) -> None:
        self._keeper = keeper
        self._others = others
        self._wall = wall
        self._shown = shown or wall
        self._lanes: dict[str, _Lane] = {}
        self._waiting: set[_Moment] = set()  # may begin, and have not
        self._corrections: Counter[Correction] = Counter()
        self._purses = Purses(keeper, self._correct, wall)
        self._is_closed = False
        self._forget_at = 0.0
        self._is_well = True
        # When we last told the others that we are there: the beginning and the end of that.
        self._told_at = self._told_until = -inf
        self._is_returning = False
        self._is_lost = False  # the store, and nobody else is there

    async def turn(
        self, server: Server, account: Account, profile: str | None, *, recipients: int = 1, within: float = inf
    ) -> Turn | None:
        """Wait for the turn of one message, as `Pacing.turn`. Raises StoreError."""
        if not is_limited(server):
            return Turn()
        if self._is_closed:
            return None
        promise = None
        if server.recipients_per_day:
            if self._is_away() and not self._purses.has(account, recipients):
                return None
            promise = await self._purses.promise(server, account, recipients)
            if promise is None:
                return None
        if not server.messages_per_minute:
            return self._turn(None, None, promise)
        lane, moment = self._lane(server, account), None
        lane.used_at = self._wall()
        try:
            moment = await self._wait(lane, profile, within)
        finally:
            if moment is None and promise is not None:
                promise.release()
        return self._turn(lane, moment, promise) if moment is not None else None

    def room(self, server: Server, account: Account) -> float:
        """Return how many recipients may still be sent to today; infinity where nobody counts."""
        return self._purses.room(server, account)

    def next(self, server: Server, account: Account) -> datetime | None:
        """Return when the next message may leave; None where one may now."""
        seconds = max(self._minute_seconds(server, account), self._purses.seconds(server, account))
        return datetime.fromtimestamp(self._shown() + seconds, UTC) if seconds > 0 else None

    def reason(self, server: Server, account: Account) -> str:
        """Return in a sentence what the next message waits for; "" where it does not."""
        day, minute = self._purses.seconds(server, account), self._minute_seconds(server, account)
        return why(server, account, self._shown(), day=day, minute=minute)

    def disband(self) -> None:
        """Give nobody who waits a turn: limits have changed, let them ask again."""
        for lane in self._lanes.values():
            while (place := lane.line.next()) is not None:
                if not place.done():
                    place.set_result(False)
            lane.next = 0.0
            lane.wake.set()

    def close(self) -> None:
        """Let nobody wait any more."""
        self._is_closed = True
        self.disband()

    async def run(self) -> None:
        """Write what is to be counted otherwise, and look again where somebody asks, for ever."""
        while True:
            await asyncio.sleep(constants.TIDY_SECONDS)
            try:
                await self.tidy()
            except StoreError as error:
                if self._is_well:
                    log.broken(str(error))
                self._is_well = False
            except Exception:  # whatever it is, what is to be counted must not wait for ever
                log.broken("the pace of accounts met a fault of ours", exc_info=True)
            else:
                self._is_well = True

    async def tidy(self) -> None:
        """Do that once. Raises StoreError; what was not written waits for the next time."""
        now = self._now()
        for moment in self._waiting:
            if now - moment.since >= timedelta(seconds=constants.TIDY_SECONDS):
                self._move(moment, now)
        self._purses.tidy()
        await self._write()
        await self._tell()
        await self._purses.refresh()
        await self._purses.fill()
        for lane in tuple(self._lanes.values()):
            is_old = self._wall() - lane.seen_at >= _ASKED_SECONDS
            if lane.asked_at > lane.seen_at and is_old and lane.task is None:
                self._see(lane, begin(await self._rows(lane), now, per_minute=self._limit(lane), wanted=0))

    # While the store is away

    def _is_away(self) -> bool:
        return self._is_lost or is_away(self._told_at, self._told_until, self._wall(), self._keeper.share_seconds)

    @property
    def _is_alone(self) -> bool:
        return self._others is not None and self._others.is_alone and self._others.processes == 1

    async def _tell(self) -> None:
        """Tell the others that we are there, and agree on our parts. Raises StoreError."""
        now = self._wall()
        used = {scope: lane for scope, lane in self._lanes.items() if now - lane.used_at < _USED_SECONDS}
        is_early = now - self._told_until < constants.TELL_SECONDS and not self._is_lost
        if is_early and all(lane.held is not None for lane in used.values()):
            return
        if not used and all(lane.held is None for lane in self._lanes.values()):
            return
        try:
            if self._is_away():
                await self._return()
            await self._adjust(used)
        finally:
            self._is_returning = False

    async def _return(self) -> None:
        """Let the store know of all that went by our parts, before others may have that; let nothing go meanwhile."""
        await self._rows(next(iter(self._lanes.values())))  # raises while it is away
        self._is_returning = True
        await self._write()

    async def _adjust(self, used: Mapping[str, _Lane]) -> None:
        asked: dict[str, int] = {}

        def ask(scope: str, limit: int, others: Sequence[Share], _: datetime) -> Grant:
            held = asked[scope] = part(limit, [each.held for each in others])
            return Grant(held=held, wanted=held, granted=held)

        began = self._wall()
        try:
            grants = await self._keeper.adjust_outage(
                {scope: partial(ask, scope, self._limit(lane)) for scope, lane in used.items()}
            )
        except BaseException:  # it may have been written, and less is no fault
            for scope, less in asked.items():
                lane = self._lanes[scope]
                lane.held = min(lane.held or 0, less)
            raise
        self._told_at, self._told_until, self._is_lost = began, self._wall(), False
        for scope, lane in self._lanes.items():
            lane.held = grants[scope].held if scope in grants else None
            if lane.away is not None:
                lane.away, lane.next = None, 0.0
                lane.wake.set()

    def _let_go(self, lane: _Lane) -> float:
        """Give those in line their turn who may begin by our part of the pace; return how long the next one waits."""
        now, limit = self._wall(), self._limit(lane)
        held = limit if self._is_lost else min(lane.held or 0, limit)
        if not held or self._is_returning:
            return constants.TIDY_SECONDS
        if lane.away is None:
            lane.away = limit_of(held, lane.own, now, is_alone=self._is_lost)
            for moment in self._waiting:
                if moment.lane is lane:
                    lane.away.let_go(now)
                    moment.pace = lane.away
        lane.away.per_minute = held
        while not lane.line.is_empty and lane.away.next(now) <= now:
            lane.away.let_go(now)
            moment = _Moment(lane, lane.account, self._now(), lane.away)
            self._correct(Correction(lane.account, Kind.MESSAGE, moment.since), 1)
            self._waiting.add(moment)
            self._give(lane, moment)
        pause = lane.away.next(now) - now
        lane.next = now + min(pause, constants.MINUTE)
        return min(pause, _TROUBLE_SECONDS)

    async def aclose(self) -> None:
        """Give back what was not used; to be called when no turn is under way any more."""
        self.close()
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        for moment in tuple(self._waiting):
            self._take_back(moment)
        self._purses.tidy(at_once=True)
        try:
            await self._write()
        except StoreError as error:
            log.broken(str(error))  # it counts until it is over

    # The minute

    async def _wait(self, lane: _Lane, profile: str | None, within: float) -> _Moment | None:
        now = self._wall()
        if within < inf and lane.next > now:
            start = lane.next + lane.line.ahead_of(profile) * shared_window() / self._limit(lane)
            if start - now > within:
                lane.asked_at = now
                return None
        place = lane.line.join(profile)
        lane.wake.set()
        if lane.task is None:
            lane.task = asyncio.create_task(self._serve(lane))
        try:
            await asyncio.wait({place}, timeout=None if within == inf else within)
        except asyncio.CancelledError:
            if place.done() and place.result():
                self._skip(lane, lane.taken.popleft())
            lane.line.leave(profile, place)
            raise
        if place.done():
            return lane.taken.popleft() if place.result() else None
        lane.line.leave(profile, place)
        return None

    async def _serve(self, lane: _Lane) -> None:
        """Take moments for those in line, as long as there are any."""
        try:
            while not lane.line.is_empty:
                lane.wake.clear()
                pause = lane.next - self._wall()
                if self._is_away():
                    pause = self._let_go(lane)
                elif pause <= 0:
                    pause = await self._take_some(lane)
                if pause > 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await lane.wake.wait()
        finally:
            lane.task = None

    async def _take_some(self, lane: _Lane) -> float:
        """Give those in line their turn who may begin now; return how long to wait after a failure."""
        rule = partial(begin, per_minute=self._limit(lane), wanted=len(lane.line))
        try:
            scope = lane.server.scope(lane.account)
            begun = await self._keeper.begin(self._purpose(lane), scope, constants.KEPT_BACK_SECONDS, rule)
        except StoreError as error:
            if lane.is_well:
                log.broken(str(error), account=str(lane.account))
            lane.is_well = False
            self._is_lost = self._is_alone
            return 0.0 if self._is_lost else _TROUBLE_SECONDS
        except Exception:  # whatever it is, they must not wait for ever
            log.broken("the pace of an account met a fault of ours", account=str(lane.account), exc_info=True)
            return _TROUBLE_SECONDS
        lane.is_well = True
        self._see(lane, begun)
        if not begun.count:
            lane.contested_at = lane.seen_at
        elif lane.seen_at - lane.contested_at < _CONTEST_SECONDS:
            lane.next += min(_COURTESY_SECONDS, shared_window() / self._limit(lane) / 2)
        for _ in range(begun.count):
            moment = _Moment(lane, lane.account, begun.since)
            self._waiting.add(moment)
            self._give(lane, moment)
        return 0.0

    def _see(self, lane: _Lane, begun: Begun) -> None:
        lane.next, lane.seen_at = begun.next, self._wall()

    def _give(self, lane: _Lane, moment: _Moment) -> None:
        """Let the next in line have it; where nobody waits any more, it is taken back."""
        while (place := lane.line.next()) is not None:
            if not place.done():
                lane.taken.append(moment)
                place.set_result(True)
                return
        self._take_back(moment)

    def _skip(self, lane: _Lane, moment: _Moment) -> None:
        if moment in self._waiting:
            self._give(lane, moment)

    def _take_back(self, moment: _Moment) -> None:
        self._waiting.discard(moment)
        if moment.pace is not None:
            moment.pace.take_back()
            moment.lane.next = 0.0
        self._correct(Correction(moment.account, Kind.MESSAGE, moment.since), -1)

    def _move(self, moment: _Moment, now: datetime) -> None:
        self._correct(Correction(moment.account, Kind.MESSAGE, moment.since), -1)
        self._correct(Correction(moment.account, Kind.MESSAGE, now), 1)
        moment.since = now

    def _begin(self, moment: _Moment, *, is_again: bool) -> None:
        now = self._now()
        if is_again:  # on another connection: the server has seen two
            self._correct(Correction(moment.account, Kind.MESSAGE, now), 1)
        elif now - moment.since > timedelta(seconds=constants.LATE_SECONDS):
            self._move(moment, now)
        moment.lane.own.append(now.timestamp())
        while moment.lane.own[0] <= now.timestamp() - shared_window():
            moment.lane.own.popleft()
        if moment.pace is not None:
            if is_again:
                moment.pace.let_go(now.timestamp())
            moment.pace.began(now.timestamp())
        self._waiting.discard(moment)

    def _lane(self, server: Server, account: Account) -> _Lane:
        scope = server.scope(account)
        lane = self._lanes.get(scope)
        if lane is None:
            lane = self._lanes[scope] = _Lane(server, account)
        lane.server, lane.account = server, account
        return lane

    def _minute_seconds(self, server: Server, account: Account) -> float:
        if not server.messages_per_minute:
            return 0.0
        lane = self._lane(server, account)
        lane.asked_at = self._wall()
        return max(0.0, lane.next - lane.asked_at)

    @staticmethod
    def _limit(lane: _Lane) -> int:
        return max(1, lane.server.messages_per_minute)

    def _purpose(self, lane: _Lane) -> Purpose:
        after, account = self._now() - timedelta(seconds=seen_seconds()), lane.account
        return Purpose(account.server, account.username, str(Kind.MESSAGE), after, lane.server.shared_limits)

    async def _rows(self, lane: _Lane) -> list[tuple[datetime, int]]:
        return await self._keeper.spent_for(self._purpose(lane))

    # What both have

    def _turn(self, lane: _Lane | None, moment: _Moment | None, promise: Promise | None) -> Turn:
        turn = Turn()

        def skip() -> None:
            if promise is not None:
                promise.release()
            if lane is not None and moment is not None:
                self._skip(lane, moment)

        if moment is not None:

            async def begin() -> None:
                self._begin(moment, is_again=turn.has_begun)

            turn.on_begin = begin
        if promise is not None:
            turn.charge_up_to, turn.refund = promise.charge, promise.refund
        turn.on_skip = skip
        return turn

    def _correct(self, correction: Correction, count: int) -> None:
        self._corrections[correction] += count

    async def _write(self) -> None:
        new, self._corrections = self._corrections, Counter()
        is_due = self._wall() >= self._forget_at
        if not (any(new.values()) or is_due):
            return
        try:
            spent = [_spent(correction, count) for correction, count in new.items() if count]
            await self._keeper.spend(spent, counts_no_more(self._now()) if is_due else {})
        except StoreError:  # what is cancelled meanwhile is written nevertheless
            oldest = self._now() - timedelta(seconds=2 * constants.MINUTE)  # what is older counts for nothing
            for correction, count in new.items():
                if correction.kind is not Kind.MESSAGE or correction.since > oldest:
                    self._corrections[correction] += count
            raise
        if is_due:
            self._forget_at = self._wall() + _FORGET_SECONDS

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)


def _spent(correction: Correction, count: int) -> Spent:
    account, kind, since = correction
    return Spent(server=account.server, username=account.username, kind=str(kind), since=since, count=count)
