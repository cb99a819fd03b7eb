"""The lead: which process of all that use one store does what must be done once.

That is: the probes of held accounts, the freeing of what a changed directory lets go, the mailboxes of returned mail,
the renewal of access tokens ahead, the deletion of what is old. Where no other machine can use the store, the first
worker leads. Else the first workers of all relays stand for it, and one has it by a lease
(`relay.store.cluster.leases`).

Who has it counts by its own clock, from before it asked, and a few seconds less than the database does: it knows that
its lease is over before anybody else can have one. The clock is one that goes on while the machine sleeps.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from relay import log
from relay.limits.connection_leases import awake_seconds
from relay.store.cluster.leases import LEAD, LeaseTable, NamedLease
from relay.store.db.errors import StoreError

# By the database's clock, and as long as we count on it.
LASTS_SECONDS = 15.0
TRUSTED_SECONDS = 12.0
RENEWED_EVERY = 5.0
# How often who does not lead looks whether nobody does, and who could not renew tries again.
_LOOK_SECONDS = 2.0
_TRY_SECONDS = 1.0
# A store that says nothing for so long did not renew it.
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Tenure:
    """The lease as it was given to us. `asked_at`: the moment (seconds of our clock) before we asked for it."""

    lease: NamedLease
    asked_at: float

    def is_over(self, now: float) -> bool:
        """Whether we may count on it no more."""
        return now >= self.asked_at + TRUSTED_SECONDS

    def pause(self, now: float) -> float:
        """Return after how many seconds it is to be renewed; less after that has failed, so that there are several
        tries before it is over."""
        due = self.asked_at + RENEWED_EVERY - now
        return due if due > 0 else max(0.0, min(_TRY_SECONDS, self.asked_at + TRUSTED_SECONDS - now))


async def _nothing() -> None:
    """Nobody wants to know."""


class Elected:
    """The lead (`relay.store.cluster.leases.Lead`) as one process of several machines has it at a time.

    `run` goes on for ever. `on_change` is called when it has become ours, or is no more. The `timer` goes on while the
    machine sleeps.
    """

    def __init__(self, leases: LeaseTable, timer: Callable[[], float] = awake_seconds) -> None:
        self.on_change: Callable[[], Awaitable[None]] = _nothing
        self._leases = leases
        self._timer = timer
        self._tenure: Tenure | None = None
        self._is_known = False  # what `on_change` was told last
        self._has_resigned = self._is_resting = False
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def is_ours(self) -> bool:
        """Whether we lead at this moment: to be asked before each piece of work that one process of all does."""
        tenure = self._tenure
        is_willing = not (self._has_resigned or self._is_resting)
        return tenure is not None and is_willing and not tenure.is_over(self._timer())

    @property
    def lease(self) -> NamedLease | None:
        """By what the work is written, also when it is over: the store refuses it where another has it."""
        return self._tenure.lease if self._tenure is not None else None

    async def run(self) -> None:
        """Stand for it, and keep it, for ever."""
        while not self._has_resigned:
            self._wake.clear()
            async with self._turn:
                await self._step()
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    _LOOK_SECONDS if self._tenure is None else self._tenure.pause(self._timer())
                ):
                    await self._wake.wait()

    async def resign(self) -> None:
        """End what is done by it, then let others have it at once, and stand for it no more."""
        self._has_resigned = True
        self._wake.set()
        async with self._turn:
            await self._give_up()

    def rest(self, *, is_wanted: bool) -> None:
        """Let others have it for as long as that is wanted."""
        self._is_resting = is_wanted
        self._wake.set()

    async def _give_up(self) -> None:
        """End what is done by it first."""
        await self._tell()
        tenure, self._tenure = self._tenure, None
        if tenure is None:
            return
        with suppress(StoreError, TimeoutError):  # then it ends by itself
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._leases.give_up(tenure.lease)

    async def _step(self) -> None:
        if self._has_resigned or self._is_resting:
            await self._give_up()
            return
        asked_at = self._timer()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                lease = await self._have(self._tenure)
        except (StoreError, TimeoutError):  # who looks at the rest of the store says so
            if self._tenure is not None and self._tenure.is_over(self._timer()):
                self._tenure = None
        else:
            self._tenure = Tenure(lease, asked_at) if lease is not None else None
        await self._tell()

    async def _have(self, tenure: Tenure | None) -> NamedLease | None:
        """Renew what we have, or take what is free."""
        if tenure is not None and await self._leases.renew(tenure.lease, LASTS_SECONDS):
            return tenure.lease
        return await self._leases.take(LEAD, LASTS_SECONDS)

    async def _tell(self) -> None:
        is_ours = self.is_ours
        if is_ours == self._is_known:
            return
        self._is_known = is_ours
        log.changed(what="lead", is_ours=is_ours)
        try:
            await self.on_change()
        except Exception:  # whatever it is, the lead must not stay with who does not know
            log.broken("a change of the lead met a fault of ours", exc_info=True)
