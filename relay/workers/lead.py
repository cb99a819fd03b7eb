"""The lead: which process of all that use one store does what must be done once.

That is: the probes of held accounts, the freeing of what a changed directory lets go, the mailboxes of returned mail,
the renewal of access tokens ahead, the deletion of what is old. Where no other machine can use the store, the first
worker leads. Else the first workers of all relays stand for it, and one has it by a lease (`relay.store.leases`).

Who has it counts by its own clock, from before it asked, and a few seconds less than the database does: it knows that
its lease is over before anybody else can have one. The clock is one that goes on while the machine sleeps.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from relay import log
from relay.store.errors import StoreError
from relay.store.leases import Held, LeaseTable

_NAME = "lead"
# By the database's clock, and as long as we count on it.
LASTS_SECONDS = 15.0
TRUSTED_SECONDS = 12.0
RENEWED_EVERY = 5.0
# How often who does not lead looks whether nobody does, and who could not renew tries again.
_LOOK_SECONDS = 2.0
_TRY_SECONDS = 1.0
# A store that says nothing for so long did not renew it.
_PATIENCE_SECONDS = 5.0


def since_boot() -> float:
    """Return the seconds since this machine began, also those in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Term:
    """A lease as it was given to us. `asked_at`: the moment (seconds of our clock) before we asked for it."""

    lease: Held
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


class Lead:
    """The lead where it never changes: the first worker's."""

    def __init__(self, *, is_ours: bool) -> None:
        self._is_ours = is_ours
        self.on_change: Callable[[], Awaitable[None]] = _nothing

    @property
    def is_ours(self) -> bool:
        """Whether we lead at this moment: to be asked before each piece of work that one process of all does."""
        return self._is_ours

    @property
    def lease(self) -> Held | None:
        """What the work is written under; None where nobody else could have it."""
        return None

    async def run(self) -> None:
        """There is nobody to agree with."""

    async def resign(self) -> None:
        """Nobody else would have it."""


class Elected(Lead):
    """The lead as one process of several machines has it at a time. `run` goes on for ever.

    `on_change` is called when it has become ours, or is no more. `place` is what names our place in this relay, if
    it has several: who had it before us is dead. `timer`: seconds, from anywhen.
    """

    def __init__(self, leases: LeaseTable, place: str = "", timer: Callable[[], float] = since_boot) -> None:
        super().__init__(is_ours=False)
        self._leases = leases
        self._place = place
        self._timer = timer
        self._term: Term | None = None
        self._is_known = False  # what `on_change` was told last
        self._has_resigned = False
        self._turn = asyncio.Lock()

    @property
    def is_ours(self) -> bool:
        """Whether we lead at this moment."""
        term = self._term
        return term is not None and not self._has_resigned and not term.is_over(self._timer())

    @property
    def lease(self) -> Held | None:
        """What the work is written under, also when it is over: then the store refuses it."""
        return self._term.lease if self._term is not None else None

    async def run(self) -> None:
        """Stand for it, and keep it, for ever."""
        while not self._has_resigned:
            async with self._turn:
                await self._step()
            await asyncio.sleep(_LOOK_SECONDS if self._term is None else self._term.pause(self._timer()))

    async def resign(self) -> None:
        """End what is done by it, then let others have it at once, and stand for it no more."""
        self._has_resigned = True
        async with self._turn:
            await self._tell()
            term, self._term = self._term, None
            with suppress(StoreError, TimeoutError):  # then it ends by itself
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    if term is not None:
                        await self._leases.give_up(term.lease)

    async def _step(self) -> None:
        if self._has_resigned:
            return
        asked_at = self._timer()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                lease = await self._lease(self._term)
        except (StoreError, TimeoutError):  # who looks at the rest of the store says so
            if self._term is not None and self._term.is_over(self._timer()):
                self._term = None
        else:
            self._term = Term(lease, asked_at) if lease is not None else None
        await self._tell()

    async def _lease(self, term: Term | None) -> Held | None:
        """Renew what we have, or take what is free."""
        if term is not None and await self._leases.renew(term.lease, LASTS_SECONDS):
            return term.lease
        return await self._leases.take(_NAME, LASTS_SECONDS, place=self._place)

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
