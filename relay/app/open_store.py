"""The store as a service has it open: our place, its clock and health, the queue and its files, the passwords in it."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from relay import log
from relay.app.alone import Alone
from relay.config.settings import Settings
from relay.delivery.outcome import Schedule
from relay.limits.ledger import Ledger
from relay.limits.limiter import Limiter
from relay.secrets.master_key import key_source
from relay.secrets.vault import Vault
from relay.store.cluster.identity import keep_out_others, living_of, own_node, owner_of
from relay.store.db.clocks import ClockWatch, SteadyClock
from relay.store.db.database import Database, open_store
from relay.store.db.health import StoreHealth
from relay.store.people.secrets import SecretTable
from relay.store.queue.queue import Queue
from relay.store.queue.spool import Spool, SpooledGathering
from relay.system.event_loop import TaskExitStack

if TYPE_CHECKING:
    from relay.app.clustered import Clustered


class Spools:
    """Where bodies are that are too large for memory: of messages that come in, and of those that leave the queue."""

    def __init__(self, settings: Settings) -> None:
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Keep bodies by these settings from now on."""
        folder, in_memory = settings.state_dir, settings.limits.memory_per_message
        # Only what comes in minds the floor: what waits would otherwise never leave a disk that it has filled.
        self._incoming = Spool(folder, in_memory, settings.delivery.free_space)
        self._outgoing = Spool(folder, in_memory)

    def new_incoming(self) -> SpooledGathering:
        """Return what gathers the body of a message that comes in."""
        return SpooledGathering(self._incoming)

    def new_outgoing(self) -> SpooledGathering:
        """Return what gathers the body of a message that leaves the queue."""
        return SpooledGathering(self._outgoing)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStore:
    """`OpenStore.open` makes one, and its `closing` closes it."""

    database: Database
    health: StoreHealth
    clock: ClockWatch
    queue: Queue
    spools: Spools
    vault: Vault

    @classmethod
    async def open(
        cls,
        settings: Settings,
        cluster: "Alone | Clustered",
        closing: TaskExitStack,
        *,
        lead_changed: Callable[[], Awaitable[None]],
    ) -> Self:
        """Open the store, and take our place among those who use it.

        Raises Faults, StoreError and MasterKeyError.
        """
        place, spools = cluster.place, Spools(settings)
        database = await open_store(settings, os.environ, has_peers=place.has_others, is_file=cluster.store_file)
        closing.push_async_callback(database.close)
        health = StoreHealth(database)
        await database.check()
        node = own_node(settings)
        if place.is_first:
            closing.callback(os.close, keep_out_others(settings))
        clock = ClockWatch(database, SteadyClock())
        await cluster.enter(database, node, closing, clock.steady.now, lead_changed)
        if not database.is_shared and (seconds := await clock.resume(Schedule.of(settings.delivery).longest)):
            log.clock_set(seconds=round(seconds))
        source = key_source(settings.secrets.master_key, settings.state_dir, os.environ)
        vault = await Vault.open(SecretTable(database), source, keeps_copies=database.is_shared)
        living = living_of(node, place, is_shared=database.is_shared)
        queue = Queue(database, owner_of(node, place), new_body=spools.new_outgoing, living=living, steady=clock.steady)
        closing.push_async_callback(queue.aclose)
        return cls(database=database, health=health, clock=clock, queue=queue, spools=spools, vault=vault)


def open_limiter(ledger: Ledger, queue: Queue, closing: TaskExitStack) -> Limiter:
    """Return what keeps accounts within their limits; it gives back what is unused after all that is under way."""
    limiter = Limiter(ledger, wall=queue.wall, shown=lambda: queue.now().timestamp())
    closing.push_async_callback(limiter.aclose)
    closing.run(limiter.run())
    return limiter


def cluster_of(settings: Settings) -> "Alone | Clustered":
    """Return what other processes are to the only one of a relay: nothing at a file, and nodes at a database."""
    if settings.database_path is not None:
        return Alone()
    from relay.app.clustered import Clustered  # noqa: PLC0415  most relays are alone, and need nothing of it

    return Clustered()
