"""The renewal of access tokens: of all processes at one store one at a time renews those of an account.

Any may. Who does has the lease of that account's tokens, and looks first whether somebody else has renewed them while
it waited for the lease.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from relay.limits.connection_leases import awake_seconds
from relay.secrets.renewal_lease import LeasesAway
from relay.secrets.sources import SecretDelayed
from relay.store.cluster.leases import LeaseTable, NamedLease
from relay.store.db.errors import StoreError

# A provider is asked for 20 seconds at most. We count on the lease for a while less than the store does.
_LEASE_SECONDS = 60.0
_TRUSTED_SECONDS = 30.0
_WAIT_SECONDS = 25.0
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Kept:
    """The lease, and until when (seconds of our clock) we count on it."""

    named: NamedLease
    until: float
    timer: Callable[[], float]

    @property
    def is_ours(self) -> bool:
        return self.timer() < self.until


class ByLease:
    """The port `relay.secrets.renewal_lease.RenewalLeases`. `timer` counts on while the machine sleeps."""

    def __init__(self, leases: LeaseTable, timer: Callable[[], float] = awake_seconds) -> None:
        self._leases = leases
        self._timer = timer
        self._turns: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def lease(self, owner: str) -> AsyncIterator[_Kept]:
        """Have the lease for an owner's tokens within; in this process, too, one has it at a time."""
        async with self._turns.setdefault(owner, asyncio.Lock()):
            kept = await self._take(f"token/{owner}")
            try:
                yield kept
            finally:
                with suppress(StoreError):  # it ends by itself
                    await self._leases.give_up(kept.named)

    async def _take(self, name: str) -> _Kept:
        begun = self._timer()
        while True:
            asked_at = self._timer()
            try:
                lease = await self._leases.take(name, _LEASE_SECONDS)
            except StoreError as error:
                raise LeasesAway(f"nobody can tell who else renews the access token: {error}") from None
            if lease is not None:
                return _Kept(lease, asked_at + _TRUSTED_SECONDS, self._timer)
            if self._timer() - begun > _WAIT_SECONDS:
                raise SecretDelayed("another process at the same store is renewing the access token")
            await asyncio.sleep(_LOOK_SECONDS)
