"""What has to be done again and again: old history deleted, the disk looked at, the leases of this process renewed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

from relay import log
from relay.config.settings import Settings
from relay.store.cluster.leases import Lead, Unrivalled
from relay.store.db.errors import StoreError
from relay.store.queue.queue import Queue
from relay.system.clock import utc_now
from relay.system.files import free_space

_TROUBLE_SECONDS = 1.0
_LOOK_SECONDS = 1.0
_PURGE_EVERY = 3600.0


async def _forget_nothing(_: datetime) -> None:
    """Where the store has nothing beside the queue."""


class Maintenance:
    """One for a process. `run` goes on for ever; `forget` deletes what else in the store has expired by a moment.

    Of several processes that use the store the one that has the `lead` deletes, and not while `may_purge` says no: what
    is old by a clock that was set a moment ago may not be.
    """

    def __init__(
        self,
        queue: Queue,
        folder: Path,
        *,
        free_floor: int,
        keep_seconds: float,
        forget: Callable[[datetime], Awaitable[None]] = _forget_nothing,
        lead: Lead | None = None,
        may_purge: Callable[[], bool] = lambda: True,
    ) -> None:
        self._queue = queue
        self._folder = folder
        self._free_floor = free_floor
        self._keep_seconds = keep_seconds
        self._forget = forget
        self._lead = lead or Unrivalled()
        self._may_purge = may_purge
        self.has_room = True  # for new mail

    def adopt(self, settings: Settings) -> None:
        """Work by these settings from now on."""
        self._free_floor = settings.delivery.free_space
        self._keep_seconds = settings.log.keep_messages

    def trouble(self) -> str:
        """Return what is wrong with the room on the disk, in a sentence; "" where nothing is."""
        if self.has_room:
            return ""
        floor = f"less than {self._free_floor} octets free (delivery.free_space)"
        return f"no new mail is accepted: {self._folder} has {floor}; make room on its disk"

    async def run(self) -> None:
        """Look after everything, each at its time, for ever."""
        loop = asyncio.get_running_loop()
        purge = loop.time()
        while True:
            self._look_at_disk()
            try:
                if self._lead.is_ours and not self.has_room:
                    await self._queue.shrink()
                if self._lead.is_ours and loop.time() >= purge and self._may_purge():
                    purge = loop.time() + _PURGE_EVERY
                    await self._queue.purge(utc_now() - timedelta(seconds=self._keep_seconds))
                    await self._forget(utc_now())
                    await self._queue.shrink()
            except StoreError as error:
                log.broken(str(error))
            await asyncio.sleep(_LOOK_SECONDS)

    def _look_at_disk(self) -> None:
        try:
            free = free_space(self._folder)
        except OSError as error:
            log.broken(f"the free space of {self._folder} cannot be found out: {error.strerror}")
            return
        has_room = free >= self._free_floor
        if has_room != self.has_room:
            tell = log.warned if has_room else log.broken
            tell(f"{self._folder} has {free} octets free; " + ("mail is accepted again" if has_room else "no new mail"))
        self.has_room = has_room


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
            await asyncio.sleep(self._queue.durations.messages / 3 if self._is_well else _TROUBLE_SECONDS)
