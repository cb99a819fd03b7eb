"""How the relay is: what `relay status`, the metrics and `systemctl status` say of it, for all of its processes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from relay import __version__, log
from relay.app.reload import LiveSettings
from relay.cluster.leader_election import Lead
from relay.cluster.membership import Membership
from relay.cluster.peer_counts import Open, PeerCounts
from relay.cluster.peers import Peers
from relay.control.context import QueueActions
from relay.control.results import (
    DirectoryState,
    LogState,
    SettingsState,
    Status,
    WebState,
    WorkerState,
    records_of,
)
from relay.directory.live import LiveDirectory
from relay.incoming.watch import ReturnedMail
from relay.listener.server import Listeners
from relay.metrics import Metrics, Now
from relay.store.cluster.nodes import Doing, NodeState
from relay.store.db.health import StoreHealth
from relay.store.db.space import free_space
from relay.system.clock import utc_now
from relay.system.loop_lag import LoopLag
from relay.upstream.pool import Upstream

if TYPE_CHECKING:
    from relay.web.kit.server import WebServer

_METRICS = "metrics"  # what one worker asks the others for


@dataclass(slots=True, kw_only=True)
class RelayStatus:
    """Asks the parts of a running relay. `web` is there once the pages are open."""

    reloading: LiveSettings
    metrics: Metrics
    peers: Peers
    directory: LiveDirectory
    listeners: Listeners
    upstream: Upstream
    queue_actions: QueueActions
    returned_mail: ReturnedMail
    lead: Lead
    membership: Membership
    health: StoreHealth
    web: "WebServer | None" = None
    lag: LoopLag = field(default_factory=LoopLag)
    peer_counts: PeerCounts
    _since: datetime = field(default_factory=utc_now, init=False)

    def __post_init__(self) -> None:
        """Answer the other workers, too."""
        self.peers.answer(_METRICS, lambda: self.metrics.counts(self._now()))

    def status(self) -> Status:
        """Return how the relay is, but for what the store says of queue and accounts."""
        of_settings = records_of(self.reloading.faults)
        of_directory = records_of(self.directory.faults)
        return Status(
            running=True,
            pid=os.getppid() if self.peers.are_there else os.getpid(),  # to which signals are for the relay
            version=__version__,
            node=self.membership.node.name,
            leads=self.lead.is_ours,
            state=str(self.membership.state),
            since=self._since.isoformat(timespec="seconds").replace("+00:00", "Z"),
            state_dir=str(self.reloading.settings.state_dir),
            listeners=list(self.listeners.addresses),
            connections=self.listeners.connections + self.peer_counts.connections,
            workers=self._workers(),
            settings=SettingsState(ok=not of_settings, faults=of_settings, needs_restart=list(self.reloading.waiting)),
            directory=DirectoryState(ok=not of_directory, faults=of_directory),
            log=LogState(dropped=log.dropped_lines() + self.peer_counts.log_dropped),
            web=self.web.state if self.web else WebState(),
            mailboxes=self.returned_mail.status(),
            queue={},
        )

    def summary(self) -> str:
        """Return one line for `systemctl status`."""
        trouble = ""
        if (found := self.health.trouble) is not None:
            trouble += f"; the store is {found.reason}: {found}"
        if faults := len(self.reloading.faults):
            trouble += f"; the settings have faults ({faults}), and the ones before stay in effect"
        if faults := len(self.directory.faults):
            trouble += f"; the directory has faults ({faults}), and the one before stays in effect"
        does = "takes mail at" if self.membership.state is NodeState.SERVING else f"is {self.membership.state}:"
        return f"{does} {', '.join(self.listeners.addresses)}{trouble}"

    async def metrics_text(
        self, queue: Mapping[str, int] | None, oldest: Mapping[str, datetime], accounts_held: int
    ) -> str:
        """Return the counters of all processes as text for Prometheus. `queue` is None where nobody can count it."""
        others = await self.peers.ask(_METRICS)
        return self.metrics.text(self._now(queue, oldest, accounts_held), others)

    def open(self) -> Open:
        """Return what this worker has open, for the others."""
        return Open(
            pid=os.getpid(),
            connections=self.listeners.connections,
            clients=self.listeners.per_peer,
            accounts={str(account): number for account, number in self.upstream.connections().items()},
            under_way=self.upstream.under_way,
            log_dropped=log.dropped_lines(),
        )

    def doing(self) -> Doing:
        """Return what all processes of this node do."""
        return Doing(
            workers=self.peers.total,
            clients=self.listeners.connections + self.peer_counts.connections,
            messages=self.peer_counts.under_way,
        )

    def _workers(self) -> list[WorkerState]:
        """Return the processes that hand over mail, this one first."""
        own = WorkerState(index=self.peers.index, pid=os.getpid(), connections=self.listeners.connections)
        others = self.peer_counts.others.items()
        return [own, *(WorkerState(index=index, pid=one.pid, connections=one.connections) for index, one in others)]

    def _now(
        self,
        queue: Mapping[str, int] | None = MappingProxyType({}),
        oldest: Mapping[str, datetime] = MappingProxyType({}),
        accounts_held: int = 0,
    ) -> Now:
        now, settings, certificate = datetime.now(UTC), self.reloading.settings, self.reloading.certificate
        return Now(
            queue=queue or {},
            oldest={state: (now - created).total_seconds() for state, created in oldest.items()},
            accounts_held=accounts_held,
            unreached=len(self.queue_actions.unreached()),
            connections=self.listeners.connections,
            connections_limit=settings.limits.connections,
            loop_lag=self.lag.seconds,
            settings_ok=not self.reloading.faults,
            directory_ok=not self.directory.faults,
            store_ok=queue is not None and self.health.trouble is None,
            certificate_expires=certificate.expires.timestamp() if certificate else None,
            free=_free(settings.state_dir),
            free_floor=settings.delivery.free_space,
            # The supervisor has no metrics of its own: the first worker counts its lines, too.
            log_dropped=log.dropped_lines() + (self.peer_counts.of_supervisor if self.peers.is_first else 0),
        )


def _free(folder: Path) -> int:
    """Return the room on the disk of a folder; one that is gone has none."""
    try:
        return free_space(folder)
    except OSError:
        return 0
