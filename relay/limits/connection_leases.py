"""What this process has of the connections that each account may have, where several processes send for all accounts.

Each has a share, leased in the store (`relay.store.cluster.account_limits`), and opens no more connections than
that. Who needs more asks at once; who has more than its part gives it up as its connections close. While all have what
they want nothing is written but a renewal each half minute, and what the store does not answer changes nothing:
everybody goes on with what they have, for as long as that is theirs. So that this is something for accounts that are
unused for a while, too, a process keeps one connection of each where every process can have one and nobody lacks any.

That ends with the lease of the shares (`relay.store.cluster.leases`): then others take them for lost. So who
was stopped for longer, or sees no store while there are other nodes, uses none until the store has given it some again.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol

from relay import log
from relay.limits import constants
from relay.limits.ledger import LedgerError
from relay.limits.shares import Ask, Grant, Others, Rule, Share, decide

# How often who lacks something is looked for.
_LOOK_SECONDS = 1.0
# So long who is alone leaves to each of the others what they may want first: a little less than the time of a look.
_FIRST_SECONDS = 0.9
# After it, what nobody uses is given back but for one, if nobody else has asked for it before. Longer than an unused
# connection is kept; and while the store is away an account goes on by what it has then.
_UNUSED_SECONDS = 300.0
# Of how many such accounts one is kept, of those that were used last: all that is kept is renewed again and again.
_KEPT_UNUSED = 500
# A store that says nothing for so long is taken for one that is away: a client is waiting.
_PATIENCE_SECONDS = 3.0
# So long each has what cannot be divided.
_EPOCH_SECONDS = 10


def _nothing() -> None:
    pass


def _always() -> bool:
    return True


def awake_seconds() -> float:
    """Return the seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Keeper(Protocol):
    """Where all can see what each has (`relay.store.queue.queue`). All raise LedgerError."""

    async def adjust_shares(self, rules: Mapping[str, Rule]) -> dict[str, Grant]:
        """Look at what others have, and write what the rules make of it."""

    async def lacking_shares(self) -> frozenset[str]:
        """Return the scopes of which somebody has less than it wants."""

    async def renew_shares(self) -> int:
        """Hold all our shares for longer; return how many there are."""

    async def drop_shares(self) -> None:
        """Give all our shares back."""


@dataclass(slots=True, eq=False)
class ConnectionLease:
    """What this process has of one scope. An allowance for the slots of an upstream (`relay.upstream.connections`).

    `given` is what it may use, as long as `is_ours`. `held` is what the store has of it, `told` how many it is told to
    want, `lacks` whether others know that they have what is ours. `backlog` is what waits on disk, `used_at` when it
    was wanted last.
    """

    ask: Callable[[], None]
    is_ours: Callable[[], bool] = _always
    given: int = 0
    limit: int = 0
    wanted: int = 0
    is_open: int = 0
    backlog: int = 0
    held: int = 0
    told: int = 0
    lacks: bool = False
    used_at: float = 0.0
    changed: Callable[[], None] = field(default=_nothing)
    _peak: int = 0
    _peak_at: float = 0.0
    _first_at: float | None = None

    @property
    def granted(self) -> int:
        """How many connections may be open now."""
        return self.given if self.is_ours() else 0

    def report(self, limit: int, wanted: int, is_open: int) -> None:
        """Take in what the slots need. Called for every message."""
        is_new = limit != self.limit
        self.limit, self.wanted, self.is_open = limit, wanted, is_open
        self._peak = max(self._peak, wanted)
        if is_new or self._is_short or is_open < self.held > self.granted:
            self.ask()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have this called whenever `granted` is another."""
        self.changed = changed

    def expect(self, limit: int, backlog: int) -> None:
        """Take in how many connections what waits on disk would use."""
        self.limit, self.backlog = limit, backlog
        if self._is_short:
            self.ask()

    def look(self, owner: str, workers: int, now: float) -> Ask:
        """Return what to look for now. What was wanted in the last second counts: it comes and goes."""
        wanted, first = min(max(self._peak, self.backlog), self.limit), -(-self.limit // workers)
        if now - self._peak_at >= _LOOK_SECONDS:
            self._peak, self._peak_at = self.wanted, now
        if wanted:
            self.used_at = now
        if wanted <= first:
            self._first_at = None
        elif self._first_at is None:
            self._first_at = now
        is_first = self._first_at is not None and now - self._first_at < _FIRST_SECONDS
        self.told = wanted
        return Ask(
            owner=owner,
            limit=self.limit,
            wanted=wanted,
            granted=self.granted,
            in_use=self.is_open,
            most=first if is_first else self.limit,
        )

    def let_go(self, *, but: int) -> None:
        """Use no more of it than that; what was wanted when somebody last looked is long ago."""
        self.given, self._peak = min(self.given, but), self.wanted

    def is_unused(self, now: float) -> bool:
        """Whether nobody uses it or would, and has not for long."""
        return not (self.wanted or self.backlog or self.is_open) and now - self.used_at >= _UNUSED_SECONDS

    @property
    def _is_short(self) -> bool:
        """Whether it wants more than it has, and than the others know."""
        wanted = min(max(self.wanted, self.backlog), self.limit)
        return wanted > self.granted and wanted > self.told


class ConnectionLeases:
    """One for a process. `run` goes on for ever, `look` makes it look at once; `tell` has the others look.

    `owner` names this process in the store, `others` are all that share with it. `lease`: for how many seconds the
    store keeps what it has. The `timer` goes on while this process or its machine is stopped.
    """

    def __init__(
        self,
        keeper: Keeper,
        owner: str,
        others: Others,
        *,
        lease: float,
        tell: Callable[[], None] = _nothing,
        timer: Callable[[], float] = awake_seconds,
    ) -> None:
        self._keeper = keeper
        self._owner = owner
        self._others = others
        self._lease = lease
        self._tell = tell
        self._timer = timer
        self._shares: dict[str, ConnectionLease] = {}
        self._asking: set[str] = set()
        self._asked: set[str] = set()  # of which the store is being asked
        self._wake = asyncio.Event()
        self._is_told = False
        self._look_at = self._renew_at = 0.0
        self._sure_until = timer() + constants.USED_PART * lease
        self._is_well = True

    def allowance(self, scope: str) -> ConnectionLease:
        """Return the share of a scope; always the same."""
        share = self._shares.get(scope)
        if share is None:
            share = self._shares[scope] = ConnectionLease(partial(self._ask, scope), self._is_ours)
        return share

    def claims(self, scope: str, limit: int) -> int:
        """Return how many messages of a scope may be under way here: one at least, so that it asks for a share."""
        return min(limit, max(1, self.allowance(scope).granted))

    def expect(self, scope: str, limit: int, backlog: int) -> None:
        """Say how many connections of a scope what waits on disk would use."""
        self.allowance(scope).expect(limit, backlog)

    def look(self) -> None:
        """Look at once: another process lacks something, or has given something up."""
        self._is_told = True
        self._wake.set()

    async def run(self) -> None:
        """Ask, give up and renew, for ever."""
        while True:
            try:
                await self._step_or_help()
            except LedgerError as error:
                if self._is_well:
                    log.broken(f"what this process has of the connections of accounts stays as it is: {error}")
                self._is_well = False
                self._help_ourselves()
                await asyncio.sleep(_LOOK_SECONDS)
            except Exception:  # whatever it is, the accounts must not stay without connections
                log.broken("the shares of connections met a fault of ours", exc_info=True)
                await asyncio.sleep(_LOOK_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._look_at - self._timer())):
                    await self._wake.wait()

    async def step(self) -> None:
        """Do what is due now. Raises LedgerError."""
        self._wake.clear()
        now = self._timer()
        if not self._is_ours():
            self._lose()
            self._renew_at = now
        if now >= self._renew_at:
            await self._renew(now)
        if now >= self._look_at or self._is_told:
            self._is_told, self._look_at = False, now + _LOOK_SECONDS
            if self._shares:
                self._asking |= await self._keeper.lacking_shares() & self._shares.keys()
        if self._asking:
            await self._adjust(now)
        self._is_well = True

    async def _step_or_help(self) -> None:
        """Do what is due; as long as the store is silent, help ourselves as where it is away."""
        step = asyncio.create_task(self.step())
        try:
            while not (await asyncio.wait({step}, timeout=_PATIENCE_SECONDS))[0]:
                self._help_ourselves()
            await step
        finally:
            if step.cancel():
                await asyncio.wait({step})

    async def aclose(self) -> None:
        """Give all back; to be called when no connection is open any more."""
        try:
            await self._keeper.drop_shares()
        except LedgerError as error:
            log.broken(str(error))  # it ends by itself
        self._tell()

    def _ask(self, scope: str) -> None:
        self._asking.add(scope)
        self._wake.set()

    async def _renew(self, now: float) -> None:
        """Hold on to what is used. Where others have taken it for lost, look at everything again."""
        kept = await self._renewed(now)
        self._renew_at = now + min(constants.SHARE_RENEW_SECONDS, self._lease / 4)
        has_some = {scope for scope, share in self._shares.items() if share.held or share.told}
        if kept < len(has_some):
            self._lose()
        self._sure_until = now + constants.USED_PART * self._lease
        idle = {scope: share for scope in has_some if (share := self._shares[scope]).is_unused(now)}
        for number, scope in enumerate(sorted(idle, key=lambda scope: idle[scope].used_at, reverse=True)):
            share = idle[scope]
            kept = 1 if number < _KEPT_UNUSED and share.limit >= self._others.processes else 0
            if max(share.given, share.held) > kept or share.told:
                share.let_go(but=kept)
                self._asking.add(scope)

    async def _renewed(self, now: float) -> int:
        """Return how many shares the store has of us. Raises LedgerError; without another node they stay ours."""
        try:
            return await self._keeper.renew_shares()
        except LedgerError:
            if self._others.is_alone and self._is_ours():
                self._sure_until = now + constants.USED_PART * self._lease
            raise

    def _help_ourselves(self) -> None:
        """Have all that is asked for, where nobody else could have it and the store does not answer."""
        if not (self._others.is_alone and self._others.processes == 1):
            return
        for scope in self._asking | self._asked:
            share = self._shares[scope]
            if share.given < share.limit:
                share.given = share.limit
                share.changed()

    def _is_ours(self) -> bool:
        """Whether nobody else can have what we have."""
        return self._timer() < self._sure_until

    def _lose(self) -> None:
        """Use nothing until the store has given it anew: others may have had it for lost."""
        for scope, share in self._shares.items():
            if share.held or share.told:
                self._asking.add(scope)
            if share.given:
                share.given = 0
                share.changed()

    async def _adjust(self, now: float) -> None:
        """Look at the scopes that were asked for, all in one transaction, and follow what came of it."""
        scopes, self._asking = self._asking, set()
        self._asked = scopes
        asks = {scope: self._shares[scope].look(self._owner, self._others.processes, now) for scope in scopes}
        try:
            grants = await self._keeper.adjust_shares({scope: partial(_decide, ask) for scope, ask in asks.items()})
        except BaseException:
            self._asking |= scopes
            raise
        finally:
            self._asked = set()
        concerns = [self._follow(self._shares[scope], grant) for scope, grant in grants.items()]
        if any(concerns):
            self._tell()

    def _follow(self, share: ConnectionLease, grant: Grant) -> bool:
        """Make use of what is granted, or less of it; tell whether that concerns others."""
        is_less, is_new = grant.held < share.held, grant.lacks and not share.lacks
        share.held, share.lacks = grant.held, grant.lacks
        if grant.granted != share.given:
            share.given = grant.granted
            share.changed()
        if max(share.granted, share.is_open) < share.held or share.is_open > share.held:  # while it was silent
            share.ask()
        return is_new or (is_less and grant.others_lack)


def _decide(ask: Ask, others: Sequence[Share], now: datetime) -> Grant:
    return decide(ask, others, int(now.timestamp()) // _EPOCH_SECONDS)
