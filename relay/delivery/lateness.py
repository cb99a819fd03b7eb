"""Mail that waits for its account's limits longer than a sender should have to: it is warned about, and given up.

Nothing is tried for it, so no attempt would notice. Waiting for a limit is no hold: its time counts.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from datetime import timedelta

from relay import log
from relay.delivery.attempt import Attempts
from relay.delivery.lifecycle import State
from relay.directory.model import Account, Server
from relay.store.db.errors import StoreError
from relay.store.queue.claims import Late

_EVERY_SECONDS = 10.0
_MOST = 100  # messages and profiles at once
# What is due for less has its turn soon, and the attempt says more than we could.
_DUE_SECONDS = 60.0


class Lateness:
    """One for a relay."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._recorder = attempts.recorder
        self._limits = attempts.limits
        self._looks: dict[Account, asyncio.Task[None]] = {}
        self._looked: dict[Account, float] = {}

    def look(self, server: Server, account: Account, profiles: Collection[str | None]) -> None:
        """Look after the mail of these profiles, which waits for this account, unless that was done just now."""
        now = time.monotonic()
        if account in self._looks or now < self._looked.get(account, 0.0) + _EVERY_SECONDS:
            return
        self._looked[account] = now
        task = self._looks[account] = asyncio.create_task(self._look(server, account, tuple(profiles)))
        task.add_done_callback(lambda _: self._looks.pop(account))

    async def stop(self) -> None:
        """Wait for what is under way."""
        if self._looks:
            await asyncio.wait(set(self._looks.values()))

    async def _look(self, server: Server, account: Account, profiles: Sequence[str | None]) -> None:
        recorder = self._recorder
        now = recorder.clock()
        steady = now - timedelta(seconds=recorder.queue.ahead())
        late = Late(
            due=now - timedelta(seconds=_DUE_SECONDS),
            seconds=recorder.schedule.warn_after,
            warned_seconds=recorder.schedule.give_up_after,
            pausing=str(State.UNKNOWN),
        )
        for start in range(0, len(profiles), _MOST):
            some = profiles[start : start + _MOST]
            try:
                messages = await recorder.queue.claim_late(some, late, _MOST, steady, str(State.SENDING))
            except StoreError as error:
                log.broken(str(error))
                return
            for message in messages:
                await self._attempts.put_off(message, self._limits.reason(server, account))
