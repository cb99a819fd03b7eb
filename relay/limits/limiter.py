"""The limiter: who may hand a message over now (a permit), who waits for that, and how long it takes.

Each account has its own limits, or all accounts of a server together (`shared_limits`). Who waits for the minute waits
here; for the day nobody waits here, since that takes hours. What is used up is in the ledger before it is used, so that
the limits hold over a kill (`relay.limits.ledger`).

The queue is fair between profiles: each profile that waits has one turn before any has another; first come, first
served within a profile only. A campaign of thousands from one sender so delays nobody else's message by more than one
of its own.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import ceil, inf
from typing import Generic, TypeVar

from relay import log
from relay.directory.model import Account, Server
from relay.limits.day_quota import Promise, Recipients
from relay.limits.ledger import Ledger, LedgerError, Message, Rate


def is_limited(server: Server) -> bool:
    """Whether anybody ever waits at this server."""
    return bool(server.messages_per_minute or server.recipients_per_day)


@dataclass(slots=True, kw_only=True)
class Permit:
    """One hand-over, within the limits of a `scope` (`Server.scope`). `recipients` is how many were charged.

    `promise` is what it has of the day, `message` of the minute, at `rate`; `pass_on` gives that to the next, `changed`
    is called when others may go. What begins is on disk before; where the store fails nothing may leave.
    """

    scope: str = ""
    promise: Promise | None = None
    rate: Rate | None = None
    message: Message | None = None
    changed: Callable[[], None] | None = None
    pass_on: Callable[[Message], None] | None = None
    recipients: int = 0
    has_begun: bool = False
    _has_ended: bool = False

    async def charge(self, wanted: int) -> int:
        """Take so many recipients off the day, or as many as there are; return how many. To be called once.

        Raises LedgerError.
        """
        self.recipients = wanted if self.promise is None else await self.promise.charge(wanted)
        return self.recipients

    async def begin(self) -> None:
        """MAIL leaves when this returns. A second time: its connection was dead, and MAIL is said again on another.

        Raises LedgerError: it must not leave.
        """
        if self.promise is not None:
            await self.promise.begin()
        if self.rate is not None and self.message is not None:
            await self.rate.begin(self.message, is_again=self.has_begun)
        self.has_begun = True
        if self.changed is not None:
            self.changed()

    def end(self, used: int = 0) -> None:
        """It is over, and the server has the message for `used` recipients, or may have it: the rest is free again."""
        if self._has_ended:
            return
        self._has_ended = True
        if not self.has_begun and self.message is not None and self.pass_on is not None:
            self.pass_on(self.message)
        if self.promise is not None:
            self.promise.release()
            if self.recipients > used:
                self.promise.refund(self.recipients - used)


T = TypeVar("T")


class FairQueue(Generic[T]):
    """Those who wait, by profile (None is nobody's)."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str | None, deque[asyncio.Future[T | None]]] = OrderedDict()

    def join(self, profile: str | None) -> asyncio.Future[T | None]:
        """Wait at the end of a profile's own queue; a permit comes with the turn, None where there will be none."""
        place: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(profile, deque()).append(place)
        return place

    def leave(self, profile: str | None, place: asyncio.Future[T | None]) -> None:
        """Give up a place that has not had its turn."""
        places = self._waiting.get(profile)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del self._waiting[profile]

    def next(self) -> asyncio.Future[T | None] | None:
        """Take out whose turn it is: each profile once, then again. None where nobody waits."""
        if not self._waiting:
            return None
        profile, places = self._waiting.popitem(last=False)
        place = places.popleft()
        if places:
            self._waiting[profile] = places
        return place

    def ahead_of(self, profile: str | None) -> int:
        """Return how many have their turn before one of this profile that would join now."""
        own = len(self._waiting.get(profile, ()))
        return sum(min(len(places), own + 1) if name != profile else own for name, places in self._waiting.items())

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def is_empty(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting


# How soon who waits is looked at again, whatever was known before; and after a failure of the store.
_LOOK_SECONDS = 1.0
# After it nothing is left of what was used, and nobody needs to look at it.
_QUIET_SECONDS = 700.0


@dataclass(slots=True, eq=False)
class _Lane:
    """Those who share a rate."""

    rate: Rate
    account: Account
    queue: FairQueue[Message] = field(default_factory=FairQueue)
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    is_well: bool = True


class Limiter:
    """One for a process. `run` goes on for ever, `aclose` gives back what was not used.

    `wall`: seconds since 1970, by a clock that nobody sets; `shown` is the clock that people read.
    """

    def __init__(
        self, ledger: Ledger, *, wall: Callable[[], float] = time.time, shown: Callable[[], float] | None = None
    ) -> None:
        self._ledger = ledger
        self._wall = wall
        self._shown = shown or wall
        self._recipients = Recipients(ledger, wall)
        self._lanes: dict[str, _Lane] = {}
        self._is_closed = False
        self._is_well = True
        self._used = asyncio.Event()
        self._used_at = 0.0

    async def permit(
        self, server: Server, account: Account, profile: str | None, *, recipients: int = 1, within: float = inf
    ) -> Permit | None:
        """Wait for the permit of one message; None where the day lacks that many recipients, or it takes longer.

        The caller ends the permit, whatever becomes of it. A cancelled wait leaves nothing behind. Raises LedgerError.
        """
        self._note()
        if self._is_closed:
            return None
        promise = None
        if server.recipients_per_day:
            promise = await self._recipients.promise(server, account, recipients)
            if promise is None:
                return None
        if not server.messages_per_minute:
            return Permit(scope=server.scope(account), promise=promise)
        lane, message = self._lane(server, account), None
        try:
            message = await self._wait(lane, profile, within)
        finally:
            if message is None and promise is not None:
                promise.release()
        if message is None:
            return None
        pass_on, changed = partial(self._give, lane), lane.wake.set
        return Permit(
            scope=server.scope(account),
            promise=promise,
            rate=lane.rate,
            message=message,
            changed=changed,
            pass_on=pass_on,
        )

    def room(self, server: Server, account: Account) -> float:
        """Return how many recipients may still be sent to today; infinity where nobody counts."""
        self._note()
        return self._recipients.room(server, account)

    def next(self, server: Server, account: Account) -> datetime | None:
        """Return when the next message may leave; None where one may now."""
        seconds = max(self._minute_seconds(server, account), self._recipients.seconds(server, account))
        return datetime.fromtimestamp(self._shown() + seconds, UTC) if seconds > 0 else None

    def reason(self, server: Server, account: Account) -> str:
        """Return in a sentence what the next message waits for; "" where it does not."""
        day, minute = self._recipients.seconds(server, account), self._minute_seconds(server, account)
        return _reason(server, account, self._shown(), day=day, minute=minute)

    def disband(self) -> None:
        """Give nobody who waits a permit: limits have changed, let them ask again."""
        for lane in self._lanes.values():
            while (place := lane.queue.next()) is not None:
                if not place.done():
                    place.set_result(None)
            lane.rate.look_again()
            lane.wake.set()

    def close(self) -> None:
        """Let nobody wait any more."""
        self._is_closed = True
        self.disband()

    async def run(self) -> None:
        """Write what is to be counted otherwise, and look again where somebody asks, for ever."""
        while True:
            await self._used.wait()
            await asyncio.sleep(self._ledger.tidy_seconds)
            try:
                await self.tidy()
            except LedgerError as error:
                if self._is_well:
                    log.broken(str(error))
                self._is_well = False
            except Exception:  # whatever it is, what is to be counted must not wait for ever
                log.broken("the limits of accounts met a fault of ours", exc_info=True)
            else:
                self._is_well = True
                if self._wall() - self._used_at >= _QUIET_SECONDS:
                    self._used.clear()

    async def tidy(self) -> None:
        """Do that once. Raises LedgerError; what must not be lost waits for the next time."""
        self._recipients.give_back()
        await self._ledger.tidy()
        await self._recipients.look()

    async def aclose(self) -> None:
        """Give back what was not used; to be called when no permit is under way any more."""
        self.close()
        if tasks := [lane.task for lane in self._lanes.values() if lane.task is not None]:
            await asyncio.wait(tasks)
        await self._recipients.settle()
        await self._ledger.settle()
        try:
            await self._ledger.corrections.write()
        except LedgerError as error:
            log.broken(str(error))  # it counts until it is over

    async def _wait(self, lane: _Lane, profile: str | None, within: float) -> Message | None:
        if lane.queue.is_empty and (known := lane.rate.take_known(1)):
            return known[0]
        if within < inf:
            start = lane.rate.seconds()
            if start + lane.queue.ahead_of(profile) * lane.rate.interval > within and start > 0:
                return None
        place = lane.queue.join(profile)
        lane.wake.set()
        if lane.task is None:
            lane.task = asyncio.create_task(self._serve(lane))
        try:
            await asyncio.wait({place}, timeout=None if within == inf else within)
        except asyncio.CancelledError:
            if place.done() and (message := place.result()) is not None:
                self._give(lane, message)
            raise
        finally:
            if not place.done():
                lane.queue.leave(profile, place)
        return place.result() if place.done() else None

    async def _serve(self, lane: _Lane) -> None:
        """Give permits to those in line when they may go, as long as there are any."""
        try:
            while not lane.queue.is_empty:
                lane.wake.clear()
                pause = await self._serve_some(lane)
                if pause > 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(min(pause, _LOOK_SECONDS)):
                            await lane.wake.wait()
        finally:
            lane.task = None

    async def _serve_some(self, lane: _Lane) -> float:
        """Give permits to those who may go now; return for how long nobody else may, as far as is known."""
        rate, wanted = lane.rate, len(lane.queue)
        messages = rate.take_known(wanted)
        if messages is None:
            if (pause := rate.seconds()) > 0:
                return pause
            try:
                messages = await rate.take(wanted)
            except LedgerError as error:
                if lane.is_well:
                    log.broken(str(error), account=str(lane.account))
                lane.is_well = False
                return 0.0 if self._ledger.is_away else _LOOK_SECONDS
            except Exception:  # whatever it is, they must not wait for ever
                log.broken("the limits of an account met a fault of ours", account=str(lane.account), exc_info=True)
                return _LOOK_SECONDS
            lane.is_well = True
        for message in messages:
            self._give(lane, message)
        return rate.seconds()

    def _give(self, lane: _Lane, message: Message) -> None:
        """Let the next in line have it; where nobody waits any more, it is taken back."""
        while (place := lane.queue.next()) is not None:
            if not place.done():
                place.set_result(message)
                return
        lane.rate.take_back(message)

    def _lane(self, server: Server, account: Account) -> _Lane:
        scope, rate = server.scope(account), self._ledger.rate(server, account)
        lane = self._lanes.get(scope)
        if lane is None:
            lane = self._lanes[scope] = _Lane(rate, account)
        return lane

    def _minute_seconds(self, server: Server, account: Account) -> float:
        self._note()
        return self._ledger.rate(server, account).seconds(is_asked=True) if server.messages_per_minute else 0.0

    def _note(self) -> None:
        self._used_at = self._wall()
        self._used.set()


def _reason(server: Server, account: Account, now: float, *, day: float, minute: float) -> str:
    """Return what a message waits for, by the seconds that the day and the minute take. `now`: seconds since 1970."""
    who = f"waits for {server.scope(account)}"
    if day > 0:
        moment = datetime.fromtimestamp(now + day, UTC)
        later = "" if moment.date() == datetime.fromtimestamp(now, UTC).date() else " tomorrow"
        return f"{who}: {_many(server.recipients_per_day, 'recipient')} a day, next at {moment:%H:%M} UTC{later}"
    if minute > 0:
        return f"{who}: {_many(server.messages_per_minute, 'message')} a minute, next in {ceil(minute)} s"
    return ""


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
