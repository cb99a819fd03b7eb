"""Holds on to what this process has under way, for as long as it lives."""

import asyncio

from relay import log
from relay.store.errors import StoreError
from relay.store.queue import Queue

_TROUBLE_SECONDS = 1.0


class Leases:
    """One for a process. `run` goes on for ever: each third of a lease, and each second while the store fails."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._is_well = True

    async def run(self) -> None:
        """Renew all leases of this process, for ever."""
        while True:
            try:
                await self._queue.renew_leases()
                self._is_well = True
            except StoreError as error:
                if self._is_well:
                    log.broken(f"what is under way here may soon be taken for lost: {error}")
                self._is_well = False
            await asyncio.sleep(self._queue.terms.messages / 3 if self._is_well else _TROUBLE_SECONDS)
