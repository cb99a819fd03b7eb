"""How the relay is: what `relay status`, the metrics and `systemctl status` say of it, for all of its processes."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from relay import __version__, log
from relay.app.alone import Alone
from relay.app.reload import LiveSettings
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
from relay.incoming.returned_mail import ReturnedMail
from relay.listener.server import Listeners
from relay.metrics import Counts, Metrics, Now, WebhookFigures
from relay.store.cluster.nodes import Doing, NodeState
from relay.store.db.health import StoreHealth
from relay.system.clock import utc_now
from relay.system.event_loop import LoopLag
from relay.system.files import free_space
from relay.upstream.pool import Upstream

if TYPE_CHECKING:
    from relay.app.clustered import Clustered
    from relay.web.kit.server import WebServer


@dataclass(kw_only=True)
class RelayStatus:
    """Asks the parts of a running relay. `web` is there once the pages are open."""

    reloading: LiveSettings
    metrics: Metrics
    cluster: "Alone | Clustered"
    directory: LiveDirectory
    listeners: Listeners
    upstream: Upstream
    queue_actions: QueueActions
    returned_mail: ReturnedMail
    health: StoreHealth
    webhooks: Callable[[], Mapping[str, WebhookFigures]] = dict
    web: "WebServer | None" = None
    lag: LoopLag = field(default_factory=LoopLag)
    _since: datetime = field(default_factory=utc_now, init=False)

    def __post_init__(self) -> None:
        """Know the other processes."""
        self._place, self._node, self._elsewhere = self.cluster.place, self.cluster.node, self.cluster.elsewhere

    def status(self) -> Status:
        """Return how the relay is, but for what the store says of queue and accounts."""
        of_settings = records_of(self.reloading.faults)
        of_directory = records_of(self.directory.faults)
        return Status(
            running=True,
            pid=os.getppid() if self._place.has_others else os.getpid(),  # to which signals are for the relay
            version=__version__,
            node=self._node.node.name,
            leads=self.cluster.lead.is_ours,
            state=str(self._node.state),
            since=self._since.isoformat(timespec="seconds").replace("+00:00", "Z"),
            state_dir=str(self.reloading.settings.state_dir),
            listeners=list(self.listeners.addresses),
            connections=self.listeners.connections + self._elsewhere.connections,
            workers=self._workers(),
            settings=SettingsState(ok=not of_settings, faults=of_settings, needs_restart=list(self.reloading.waiting)),
            directory=DirectoryState(ok=not of_directory, faults=of_directory),
            log=LogState(dropped=log.dropped_lines() + self._elsewhere.log_dropped),
            web=self.web.state if self.web else WebState(),
            mailboxes=self.returned_mail.status(),
            queue={},
            unreached=self.queue_actions.unreached(),
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
        does = "takes mail at" if self._node.state is NodeState.SERVING else f"is {self._node.state}:"
        return f"{does} {', '.join(self.listeners.addresses)}{trouble}"

    async def metrics_text(
        self, queue: Mapping[str, int] | None, oldest: Mapping[str, datetime], accounts_held: int
    ) -> str:
        """Return the counters of all processes as text for Prometheus. `queue` is None where nobody can count it."""
        return self.metrics.text(self._now(queue, oldest, accounts_held), await self.cluster.metrics())

    def counts(self) -> Counts:
        """Return the counters of this process, for the one that is asked for those of all."""
        return self.metrics.counts(self._now())

    @property
    def connections_of_accounts(self) -> Mapping[str, int]:
        """The connections of all processes of this relay, by account."""
        own = Counter({str(account): number for account, number in self.upstream.connections().items()})
        return own + Counter(self._elsewhere.accounts)

    def doing(self) -> Doing:
        """Return what all processes of this node do."""
        return Doing(
            workers=self._place.total,
            clients=self.listeners.connections + self._elsewhere.connections,
            messages=self.upstream.under_way + self._elsewhere.under_way,
        )

    def _workers(self) -> list[WorkerState]:
        """Return the processes that hand over mail, this one first."""
        own = WorkerState(index=self._place.index, pid=os.getpid(), connections=self.listeners.connections)
        others = self._elsewhere.others.items()
        return [own, *(WorkerState(index=index, pid=one.pid, connections=one.connections) for index, one in others)]

    def _now(
        self,
        queue: Mapping[str, int] | None = MappingProxyType({}),
        oldest: Mapping[str, datetime] = MappingProxyType({}),
        accounts_held: int = 0,
    ) -> Now:
        now, settings, certificate = datetime.now(UTC), self.reloading.settings, self.reloading.certificate
        unreached = self.queue_actions.unreached()
        return Now(
            queue=queue or {},
            oldest={state: (now - created).total_seconds() for state, created in oldest.items()},
            accounts_held=accounts_held,
            unreached=len(unreached),
            on_backup=sum(bool(one.backup) for one in unreached),
            connections=self.listeners.connections,
            connections_limit=settings.limits.connections,
            loop_lag=self.lag.seconds,
            settings_ok=not self.reloading.faults,
            directory_ok=not self.directory.faults,
            store_ok=queue is not None and self.health.trouble is None,
            certificate_expires=certificate.expires.timestamp() if certificate else None,
            free=_free(settings.state_dir),
            free_floor=settings.delivery.free_space,
            webhooks=self.webhooks(),
            # The supervisor has no metrics of its own: the first worker counts its lines, too.
            log_dropped=log.dropped_lines() + (self._elsewhere.of_supervisor if self._place.is_first else 0),
        )


def _free(folder: Path) -> int:
    """Return the room on the disk of a folder; one that is gone has none."""
    try:
        return free_space(folder)
    except OSError:
        return 0
