"""The renewal of access tokens: the first worker does it for all, and of several machines one at a time.

Of the machines any may renew: another cannot be asked over a pipe. Who does has the duty for that account's tokens, and
looks first whether somebody else has renewed them while it waited for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from relay.delivery.shares import awake_seconds
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.oauth.answers import TokenRefused
from relay.secrets.renewal_lease import StoreAway
from relay.secrets.secret import SecretRef
from relay.secrets.sources import SecretDelayed, SecretUnavailable
from relay.store.cluster.leader_lease import Duty, DutyTable
from relay.store.db.errors import StoreError
from relay.workers.siblings import Siblings

_KIND = "renewal"
_SECONDS = 60.0
# The more special kinds first.
_ERRORS = {kind.__name__: kind for kind in (TokenRefused, StoreAway, SecretDelayed, SecretUnavailable)}

# A provider is asked for 20 seconds at most. We count on the lease for a while less than the store does.
_LEASE_SECONDS = 60.0
_TRUSTED_SECONDS = 30.0
_WAIT_SECONDS = 25.0
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Kept:
    """The duty, and until when (seconds of our clock) we count on it."""

    duty: Duty
    until: float
    timer: Callable[[], float]

    @property
    def is_ours(self) -> bool:
        return self.timer() < self.until


class ByLease:
    """Keeps other machines out (`relay.secrets.renewal_lease.Guard`). The `timer` goes on while the machine sleeps."""

    def __init__(self, duties: DutyTable, timer: Callable[[], float] = awake_seconds) -> None:
        self._duties = duties
        self._timer = timer
        self._turns: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def alone(self, owner: str) -> AsyncIterator[_Kept]:
        """Have the duty for an owner's tokens within; in this process, too, one has it at a time."""
        async with self._turns.setdefault(owner, asyncio.Lock()):
            kept = await self._take(f"token/{owner}")
            try:
                yield kept
            finally:
                with suppress(StoreError):  # it ends by itself
                    await self._duties.give_up(kept.duty)

    async def _take(self, name: str) -> _Kept:
        begun = self._timer()
        while True:
            asked_at = self._timer()
            try:
                duty = await self._duties.take(name, _LEASE_SECONDS)
            except StoreError as error:
                raise StoreAway(f"nobody can tell who else renews the access token: {error}") from None
            if duty is not None:
                return _Kept(duty, asked_at + _TRUSTED_SECONDS, self._timer)
            if self._timer() - begun > _WAIT_SECONDS:
                raise SecretDelayed("another relay at the same store is renewing the access token")
            await asyncio.sleep(_LOOK_SECONDS)


class ByTheFirst:
    """Lets the first worker renew (`relay.secrets.oauth.access_tokens.Elsewhere`)."""

    def __init__(self, siblings: Siblings) -> None:
        self._siblings = siblings

    async def renew(self, owner: str, version: str) -> None:
        """Let it renew the tokens of an owner."""
        try:
            answer = await self._siblings.ask_first(_KIND, [owner, version], _SECONDS)
        except TimeoutError:
            raise SecretDelayed("the worker that renews access tokens does not answer") from None
        if answer["error"]:
            raise _ERRORS[answer["kind"]](answer["error"])


def renew_for_all(siblings: Siblings, tokens: Tokens, refs: Callable[[], Iterable[SecretRef]]) -> None:
    """Renew when another worker asks for it. `refs` returns the accounts of the directory that have tokens."""

    async def answer(question: Any) -> dict[str, str]:
        owner, version = question
        ref = next((ref for ref in refs() if ref.owner == owner), None)
        try:
            if ref is None:
                raise SecretUnavailable("the directory has this account no more")
            await tokens.renew_for(ref, version)
        except StoreError as error:
            return {"error": str(error), "kind": StoreAway.__name__}
        except SecretUnavailable as error:
            return {
                "error": str(error),
                "kind": next(name for name, kind in _ERRORS.items() if isinstance(error, kind)),
            }
        return {"error": "", "kind": ""}

    siblings.answer(_KIND, answer)
