"""The ledger of several processes that send for the same accounts: all count in the store.

Messages that may begin are taken from the store, a few at once, in one transaction that looks at what all processes
have taken in the last minute. Each process tells the others again and again that it is there, and agrees with them on a
share of each rate for an outage (`relay.limits.shares`). While the store is away it goes by that. What it sends
so is written down before anything is taken from the store again.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import Protocol

from relay.directory.model import Account, Server
from relay.limits import constants
from relay.limits.ledger import Corrections, Kind, LedgerError, Message, Purpose, Spent, Store, moment_of
from relay.limits.rate import BeginRule, Begun, RateLimit, begin, seen_seconds, shared_window
from relay.limits.shares import Grant, Others, Rule, Share, is_away, limit_of, part

# So long after somebody else was faster each lets the others go first, by at most so much.
_CONTEST_SECONDS = 3.0
_COURTESY_SECONDS = 0.05
# How old what is known of an account may be, where somebody asks.
_ASKED_SECONDS = 2.0
# For how long after an account was used we have a share of its rate.
_USED_SECONDS = 600.0


class SharedStore(Store, Protocol):
    """Where all processes count (`relay.store.queue.queue`). All raise LedgerError."""

    @property
    def share_seconds(self) -> float:
        """So long after we were last heard of our shares are ours."""

    async def begin(self, purpose: Purpose, scope: str, quiet_seconds: float, rule: BeginRule) -> Begun:
        """Take what the rule says, which is told what is kept back for those that are quiet."""

    async def adjust_outage(self, rules: Mapping[str, Rule]) -> dict[str, Grant]:
        """Say that we are there, and write for each scope what its rule makes of the shares of others."""


@dataclass(slots=True, eq=False)
class SharedRate:
    """The messages of a scope. `next`: when one more may be let go, as far as is known; `seen_at`: as of when.

    `held` is our share for an outage, None before the others know of us, `own` when ours of the last minute began, and
    `outage` the rate limit of our share while the store is away.
    """

    ledger: "SharedLedger"
    server: Server
    account: Account
    next: float = 0.0
    seen_at: float = 0.0
    asked_at: float = 0.0
    contested_at: float = 0.0  # when somebody else was faster
    used_at: float = 0.0
    is_taking: bool = False
    held: int | None = None
    own: deque[float] = field(default_factory=deque)
    outage: RateLimit | None = None

    @property
    def per_minute(self) -> int:
        """The limit of all."""
        return max(1, self.server.messages_per_minute)

    @property
    def interval(self) -> float:
        """The even distance of two messages, in seconds."""
        return shared_window() / self.per_minute

    def seconds(self, *, is_asked: bool = False) -> float:
        """Return how long until one more may be let go, as far as is known here."""
        now = self.ledger.wall()
        if is_asked:
            self.asked_at = now
        return max(0.0, self.next - now)

    def take_known(self, wanted: int) -> list[Message] | None:
        """Return who may be let go by our share where the store is away, else None."""
        ledger, now = self.ledger, self.ledger.wall()
        self.used_at = now
        if not ledger.is_away:
            return None
        limit, found = self._outage_limit(now), list[Message]()
        if limit is None:
            self.next = now + constants.TIDY_SECONDS
            return found
        while len(found) < wanted and limit.next(now) <= now:
            limit.let_go(now)
            found.append(Message(self.account, moment_of(now), limit))
            ledger.correct(found[-1], 1)
        ledger.waiting.update(dict.fromkeys(found, self))
        self.next = min(limit.next(now), now + constants.MINUTE)
        return found

    async def take(self, wanted: int) -> list[Message]:
        """Return who may be let go by what the store says. Raises LedgerError."""
        ledger, scope = self.ledger, self.server.scope(self.account)
        rule = partial(begin, per_minute=self.per_minute, wanted=wanted)
        self.is_taking = True
        try:
            begun = await ledger.store.begin(self.purpose(), scope, constants.KEPT_BACK_SECONDS, rule)
        except LedgerError:
            ledger.lose()
            raise
        finally:
            self.is_taking = False
        self.see(begun)
        if not begun.count:
            self.contested_at = self.seen_at
        elif self.seen_at - self.contested_at < _CONTEST_SECONDS:
            self.next += min(_COURTESY_SECONDS, self.interval / 2)
        found = [Message(self.account, begun.since) for _ in range(begun.count)]
        ledger.waiting.update(dict.fromkeys(found, self))
        return found

    async def begin(self, message: Message, *, is_again: bool) -> None:
        """Count a message as beginning now: in the store soon, for which the window has a margin."""
        ledger, now = self.ledger, self.ledger.wall()
        if is_again:  # on another connection: the server has seen two
            ledger.correct(Message(message.account, moment_of(now)), 1)
        elif now - message.since.timestamp() > constants.LATE_SECONDS:
            ledger.move(message)
        self.own.append(now)
        while self.own[0] <= now - shared_window():
            self.own.popleft()
        if message.limit is not None:
            if is_again:
                message.limit.let_go(now)
            message.limit.began(now)
        ledger.waiting.pop(message, None)

    def take_back(self, message: Message) -> None:
        """It never begins."""
        self.ledger.waiting.pop(message, None)
        if message.limit is not None:
            message.limit.take_back()
            self.next = 0.0
        self.ledger.correct(message, -1)

    def look_again(self) -> None:
        """Go by nothing that the store has said before."""
        self.next = 0.0

    def see(self, begun: Begun) -> None:
        """Take in what the store says."""
        self.next, self.seen_at = begun.next, self.ledger.wall()

    def purpose(self) -> Purpose:
        """Return what counts for those of the scope."""
        return Purpose.of(self.server, self.account, Kind.MESSAGE, self.ledger.wall() - seen_seconds())

    def adopt(self, grant: Grant | None) -> None:
        """Go by the store again, with this share for when it is away."""
        self.held = None if grant is None else grant.held
        if self.outage is not None:
            self.outage, self.next = None, 0.0

    def _outage_limit(self, now: float) -> RateLimit | None:
        """Return the rate limit of our share; None where we have none, or are about to give it back."""
        ledger = self.ledger
        held = self.per_minute if ledger.is_lost else min(self.held or 0, self.per_minute)
        if not held or ledger.is_returning:
            return None
        if self.outage is None:
            self.outage = limit_of(held, self.own, now, is_alone=ledger.is_lost)
            for message, rate in ledger.waiting.items():
                if rate is self:
                    self.outage.let_go(now)
                    message.limit = self.outage
        self.outage.per_minute = held
        return self.outage


class SharedLedger:
    """One for a process. `wall`: seconds since 1970, by a clock that nobody sets.

    `waiting`: who may begin and has not. `is_lost`: the store, and nobody else is there. `is_returning`: it is back,
    and what went without it is being written.
    """

    spent: Sequence[Spent] = ()

    def __init__(
        self, store: SharedStore, others: Others | None = None, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.wall = wall
        self.corrections = Corrections(store, wall)
        self.waiting: dict[Message, SharedRate] = {}
        self.is_lost = self.is_returning = False
        self._others = others
        self._rates: dict[str, SharedRate] = {}
        # When we last told the others that we are there: the beginning and the end of that.
        self._told_at = self._told_until = -inf

    @property
    def tidy_seconds(self) -> float:
        """How often it is to be tidied."""
        return constants.TIDY_SECONDS

    @property
    def is_away(self) -> bool:
        """Whether the store is away, and we go by our shares."""
        return self.is_lost or is_away(self._told_at, self._told_until, self.wall(), self.store.share_seconds)

    def rate(self, server: Server, account: Account) -> SharedRate:
        """Return the rate of an account; always the same for those who share it."""
        scope = server.scope(account)
        rate = self._rates.get(scope)
        if rate is None:
            rate = self._rates[scope] = SharedRate(self, server, account)
        rate.server, rate.account = server, account
        return rate

    def lose(self) -> None:
        """The store did not answer: who is alone goes on at once."""
        self.is_lost = self._others is not None and self._others.is_alone and self._others.processes == 1

    def correct(self, message: Message, count: int) -> None:
        """Let the store count a message where it does not, or no more."""
        self.corrections.add(message.account, Kind.MESSAGE, message.since, count)

    def move(self, message: Message) -> None:
        """Let a message count from now on."""
        self.correct(message, -1)
        message.since = moment_of(self.wall())
        self.correct(message, 1)

    async def tidy(self) -> None:
        """Write what counts otherwise, tell the others that we are there, and look at what is asked for.

        Raises LedgerError.
        """
        now = moment_of(self.wall())
        for message in self.waiting:
            if now - message.since >= timedelta(seconds=constants.TIDY_SECONDS):
                self.move(message)
        await self.corrections.write()
        await self._tell()
        for rate in tuple(self._rates.values()):
            is_old = self.wall() - rate.seen_at >= _ASKED_SECONDS
            if rate.asked_at > rate.seen_at and is_old and not rate.is_taking:
                rows = await self.store.spent_for(rate.purpose())
                rate.see(begin(rows, now, per_minute=rate.per_minute, wanted=0))

    async def settle(self) -> None:
        """Give back what has not begun."""
        for message, rate in tuple(self.waiting.items()):
            rate.take_back(message)

    async def _tell(self) -> None:
        """Tell the others that we are there, and agree on our shares. Raises LedgerError."""
        now, rates = self.wall(), self._rates
        used = {scope: rate for scope, rate in rates.items() if now - rate.used_at < _USED_SECONDS}
        is_early = now - self._told_until < constants.TELL_SECONDS and not self.is_lost
        if is_early and all(rate.held is not None for rate in used.values()):
            return
        if not used and all(rate.held is None for rate in rates.values()):
            return
        try:
            if self.is_away:
                await self._return()
            await self._adjust(used)
        finally:
            self.is_returning = False

    async def _return(self) -> None:
        """Let the store know of all that went by our shares, before others may have that; let nothing go meanwhile."""
        await self.store.spent_for(next(iter(self._rates.values())).purpose())  # raises while it is away
        self.is_returning = True
        await self.corrections.write()

    async def _adjust(self, used: Mapping[str, SharedRate]) -> None:
        asked: dict[str, int] = {}

        def ask(scope: str, limit: int, others: Sequence[Share], _: datetime) -> Grant:
            held = asked[scope] = part(limit, [each.held for each in others])
            # Who has none yet wants one at least: so the others see it, and leave it a share.
            return Grant(held=held, wanted=max(1, held), granted=held)

        began = self.wall()
        try:
            grants = await self.store.adjust_outage(
                {scope: partial(ask, scope, rate.per_minute) for scope, rate in used.items()}
            )
        except BaseException:  # it may have been written, and less is no fault
            for scope, less in asked.items():
                rate = self._rates[scope]
                rate.held = min(rate.held or 0, less)
            raise
        self._told_at, self._told_until, self.is_lost = began, self.wall(), False
        for scope, rate in self._rates.items():
            rate.adopt(grants.get(scope))
