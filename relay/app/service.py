"""The service: the one place where everything is put together, started and stopped.

It reads from top to bottom in the order of the start: store, vault, directory, upstream, acceptance, listeners, control
socket.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from relay import __version__, log
from relay.app.admin_server import AdminServer
from relay.app.changes import Changes, begin_counters, tell_directory, warn_of_directory
from relay.app.notifications import AlertNotifications, WebhookNotifications, events_of
from relay.app.open_store import OpenStore, cluster_of, open_limiter
from relay.app.reload import LiveSettings
from relay.app.status import RelayStatus
from relay.config.faults import Faults
from relay.config.settings import Listener, Settings, check_modes, left_out, load_settings
from relay.control.audit_log import AuditLog
from relay.control.context import ControlContext, People
from relay.control.messages.queue_actions import StoreQueueActions
from relay.control.transport.socket import ControlSocketError
from relay.delivery import replies
from relay.delivery.acceptance import Acceptance
from relay.delivery.attempt import Attempts
from relay.delivery.dsn import Reporter
from relay.delivery.events import Journey, MessageEvents
from relay.delivery.history import History
from relay.delivery.holds import Accounts
from relay.delivery.maintenance import Leases, Maintenance
from relay.delivery.outcome import Schedule
from relay.delivery.queue_runner import QueueRunner
from relay.delivery.recorder import Recorder
from relay.directory.file import DirectoryFile, ReadFile
from relay.directory.live import LiveDirectory
from relay.directory.model import Server
from relay.incoming.returned_mail import ReturnedMail
from relay.listener.events import ListenerEvents
from relay.listener.server import Listeners
from relay.listener.session_limits import SessionLimits
from relay.listener.session_registry import Together
from relay.listener.sockets import ListenError, PassedSockets, own_socket, places_of
from relay.mail.reply import Reply
from relay.metrics import Metrics
from relay.secrets.authentication import Logins
from relay.secrets.binding import bind_unbound
from relay.secrets.master_key import MasterKeyError
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.resolver import SecretResolver
from relay.secrets.vault import Vault
from relay.store.cluster.login_failures import LISTENERS, PAGES
from relay.store.cluster.nodes import OwnNode
from relay.store.db.errors import StoreError
from relay.store.people.access import forget_outdated
from relay.store.people.audit import AuditTable
from relay.store.people.directory import DirectoryTable, storage_of
from relay.system.event_loop import TaskExitStack
from relay.system.systemd import Systemd
from relay.upstream.connections import unshared
from relay.upstream.outcome import Failure
from relay.upstream.pool import Upstream
from relay.upstream.probe import reach
from relay.upstream.transaction import Timeouts

if TYPE_CHECKING:
    from relay.app.clustered import Clustered
    from relay.limits.connection_leases import ConnectionLeases
    from relay.listener.tls import LiveCertificate

# In how much time we stop, and how much of it is kept for what comes last: history, good-byes, the store.
_STOP_SECONDS = 30.0
_LAST_SECONDS = 6.0
_GOODBYE_SECONDS = 4.0
_GONE_SECONDS = 2.0
# Of a worker's messages on their way in: some that are as large as one may be in memory.
# What may be wrong at the start; each is one sentence for whoever started us, or several of them.
START_ERRORS = (Faults, StoreError, MasterKeyError, ListenError, ControlSocketError)


class Service:
    """One relay. `start` opens everything or raises one of START_ERRORS; `stop` ends it in order.

    `cluster`: this is one of several workers.
    """

    def __init__(
        self,
        settings: Settings,
        settings_file: Path | None,
        watch: Callable[[Journey], None] | None = None,
        *,
        stop_seconds: float | None = None,
        systemd: Systemd | None = None,
        read_settings: Callable[[Path], Settings] = load_settings,
        read_directory: ReadFile = DirectoryFile.read,
        cluster: "Clustered | None" = None,
    ) -> None:
        self._cluster = cluster or cluster_of(settings)
        self._place = self._cluster.place
        self._reloading = LiveSettings(settings, settings_file, read_settings, is_telling=self._place.is_first)
        self._watch = watch
        self.metrics = Metrics()
        self._events: MessageEvents
        self._stop_seconds = _STOP_SECONDS if stop_seconds is None else stop_seconds
        self._systemd = systemd or Systemd()
        self._read_directory = read_directory
        self._is_serving = False
        self._is_reload_due = False
        self._stop_at = 0.0  # when work must have ended, by the loop's clock
        self._closing = TaskExitStack()
        self._jobs: set[asyncio.Task[None]] = set()
        self.directory: LiveDirectory
        self.listeners: Listeners
        self._logins: Logins
        self._status: RelayStatus
        self._changes: Changes
        self._webhooks: WebhookNotifications
        self._store: OpenStore
        self._maintenance: Maintenance
        self._parts: ControlContext
        self._admin_server: AdminServer
        self.queue_runner: QueueRunner
        self.returned_mail: ReturnedMail
        self.tokens: Tokens
        self._node: OwnNode

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self._reloading.settings

    async def start(self) -> None:
        """Open everything, and let clients in when all of it is there."""
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise
        log.started(
            listeners=self.listeners.addresses,
            state_dir=str(self.settings.state_dir),
            version=__version__,
            what=left_out(self.settings, self.listeners.addresses) or None,
        )
        self._is_serving = self._changes.is_serving = True
        self._changes.follow_directory()  # it may have changed meanwhile
        await self._systemd.ready(self._status.summary())
        if self._is_reload_due:
            self.reload()

    async def stop(self) -> None:
        """Take no more mail, end or store what is under way, and close everything; all of it within `stop_seconds`."""
        self._is_serving = self._changes.is_serving = False
        await self._node.stopping()
        work = max(self._stop_seconds - _LAST_SECONDS, self._stop_seconds / 2)
        if self._store.health.is_gone:  # what is under way can be written down nowhere
            work = min(work, _GONE_SECONDS)
        self._stop_at = asyncio.get_running_loop().time() + work
        await self._systemd.stopping("ending what is under way")
        self._later(self._cluster.resign())  # no client waits for a store that may be away
        await self._closing.aclose()
        log.stopped()

    async def greet_administrator(self, terminal: TextIO) -> None:
        """Show whoever started us at a terminal a link for the first administrator."""
        if self.settings.web.address and self._place.is_first:
            await self._admin_server.greet(terminal)

    def reload(self) -> None:
        """Read settings and directory now (SIGHUP), or as soon as we serve; who ends has no need of it."""
        self._is_reload_due = not self._is_serving
        if self._is_serving:
            self._later(self._reload())

    async def _reload(self) -> None:
        await self._systemd.reloading()
        await self._reloading.reload(self.directory)
        if self._is_serving:
            await self._systemd.ready(self._status.summary())

    def _trouble(self) -> str:
        """Return which part of a relay that serves is dead, in a sentence; "" where none is."""
        if not self._is_serving:
            return ""
        if self.queue_runner.silent_seconds > self._systemd.watchdog_seconds:
            return f"the queue runner has done nothing for {self.queue_runner.silent_seconds:.0f} s"
        stuck = self.listeners.stuck()
        return f"nobody is let in at listener {', '.join(stuck)}" if stuck else ""

    def _tell(self, journey: Journey) -> None:
        self._events.submitted(journey)
        if self._watch is not None:
            self._watch(journey)

    def _rest(self) -> None:
        """Take no clients and no mail from the queue while this node is drained."""
        is_wanted = self._node.is_draining
        self.listeners.rest(is_wanted=is_wanted)
        self.queue_runner.rest(is_wanted=is_wanted)
        self._cluster.rest(is_wanted=is_wanted)
        self._status_changed()

    def _status_changed(self) -> None:
        """Let `systemctl status` show how we are."""
        if self._is_serving:
            self._later(self._systemd.status(self._status.summary()))

    def _queue_changed(self) -> None:
        self.queue_runner.wake()
        self._cluster.look()

    def _directory_changed(self, directory: LiveDirectory) -> None:
        if self._place.is_first:
            tell_directory(directory)
            self._cluster.look()
        if not directory.faults and self._is_serving:
            self._changes.follow_directory()
        self._status_changed()

    async def _lead_changed(self) -> None:
        await self._webhooks.lead_changed()
        await self._changes.follow_lead()

    def _later(self, job: Coroutine[Any, Any, None]) -> None:
        """Let a job go on by itself; it is kept from being forgotten while it does."""
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _end_sessions(self) -> None:
        """Let clients end the message that they are in."""
        await self.listeners.stop(max(self._stop_at - asyncio.get_running_loop().time(), 0.0))

    async def _end_deliveries(self, attempts: Attempts) -> None:
        """Let what is under way end; what does not in time is on disk, and the next start goes on with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._stop_at):
                await self.queue_runner.stop()
                await attempts.stop()

    async def _start(self) -> None:
        settings, closing = self.settings, self._closing
        if faults := check_modes(settings):
            raise Faults(faults)
        certificate = self._reloading.open_certificate()
        closing.run(self._systemd.feed_watchdog(self._trouble))
        passed = PassedSockets(self._systemd.descriptors)
        closing.callback(passed.close)

        self._events = events_of(self.metrics, os.environ, closing)
        is_first = self._place.is_first
        store = self._store = await OpenStore.open(
            settings,
            self._cluster,
            closing,
            lead_changed=self._lead_changed,
        )
        self._reloading.subscribe(store.spools.adopt)
        vault, queue = store.vault, store.queue
        self._webhooks = WebhookNotifications(queue, self._cluster.lead, self.metrics, self._place)
        closing.push_async_callback(self._webhooks.aclose)
        self._reloading.subscribe(lambda now: self._later(self._webhooks.follow(now)))
        self._node = self._cluster.node
        secrets = self._open_secrets(vault)
        await self._open_directory(store)
        shares = await self._cluster.open_shares(queue)
        upstream = Upstream(settings.effective_hostname, _timeouts(settings), shares.allowance if shares else unshared)
        self._reloading.subscribe(lambda now: upstream.adopt(_timeouts(now)))
        closing.push_async_callback(_say_goodbye, upstream)

        attempts, acceptance = await self._open_delivery(store, secrets, upstream, shares)
        self.returned_mail = ReturnedMail(
            queue, secrets, lambda: self.directory.routing().directory, self._cluster.lead
        )
        closing.push_async_callback(self.returned_mail.aclose)
        self._changes = self._make_changes(vault)
        self._logins = Logins(vault, self.directory.routing)
        closing.callback(self._logins.close)
        self.listeners = self._make_listeners(acceptance, self._logins, certificate, passed)
        self._parts = self._make_parts(store, secrets, attempts, upstream)
        self._admin_server = AdminServer(self._parts, closing)
        if is_first:
            await self._admin_server.open_commands()
        self._reloading.subscribe(self._admin_server.adopt)
        self._node.doing, self._node.on_change = self._status.doing, self._rest
        if self._place.is_replacement:
            await self._reloading.reload(self.directory)  # the others may have settings that are newer than ours
        await self.listeners.open(passed)
        self._rest()
        closing.push_async_callback(self._end_sessions)
        if settings.web.address and is_first:
            failures = self._cluster.failures(PAGES, settings.limits.login_failures)
            self._status.web = await self._admin_server.open_pages(self._logins, failures)
        closing.run(self._status.lag.watch())
        accounts, wake = attempts.accounts, self.queue_runner.wake
        await self._cluster.follow(self._parts, accounts, self._changes.follow_secrets, wake)
        await self.listeners.serve()
        self._tell_others(attempts)

    def _tell_others(self, attempts: Attempts) -> None:
        """Begin to tell webhooks of messages, and people of troubles."""
        self._later(self._webhooks.follow(self.settings))
        if self._place.is_first:
            node, wake = self._node.node.name, self._queue_changed
            alerts = AlertNotifications(
                self._reloading, attempts, self.tokens, node, wake, self.metrics, lambda: self._parts
            )
            self._closing.push_async_callback(alerts.aclose)
            self._reloading.subscribe(lambda now: self._later(alerts.follow(now)))
            self._later(alerts.follow(self.settings))

    async def _open_directory(self, store: OpenStore) -> None:
        settings, database = self.settings, store.database
        self.directory = await LiveDirectory.open(
            settings,
            self._reloading.file,
            self._directory_changed,
            storage_of(settings, database, self._read_directory),
        )
        begin_counters(self.metrics, self.directory)
        await bind_unbound(store.vault, self.directory.routing().directory)
        if self._place.is_first:
            warn_of_directory(self.directory)
        if not (settings.is_directory_stored and database.is_shared):  # the bulletin tells of that one
            self._closing.run(self.directory.watch())

    def _open_secrets(self, vault: Vault) -> SecretResolver:
        self.tokens = Tokens(vault, renews_ahead=lambda: self._cluster.lead.is_ours, leases=self._cluster.token_guard)
        self._closing.push_async_callback(self.tokens.aclose)
        return SecretResolver(vault, os.environ, self.settings.state_dir, tokens=self.tokens)

    async def _open_delivery(
        self, store: OpenStore, secrets: SecretResolver, upstream: Upstream, shares: "ConnectionLeases | None"
    ) -> tuple[Attempts, Acceptance]:
        settings, closing, queue = self.settings, self._closing, store.queue
        history = History(queue, self.metrics.history_lost)
        closing.push_async_callback(history.flush)
        await self._webhooks.begin(settings, history)
        maintenance = self._maintenance = Maintenance(
            queue,
            settings.state_dir,
            free_floor=settings.delivery.free_space,
            keep_seconds=settings.log.keep_messages,
            forget=lambda now: forget_outdated(store.database, now),
            lead=self._cluster.lead,
            may_purge=lambda: store.clock.is_settled,
        )
        self._reloading.subscribe(maintenance.adopt)
        schedule = Schedule.of(settings.delivery)
        hostname = settings.effective_hostname
        routing, events = self.directory.routing, self._events
        recorder = Recorder(queue, routing, schedule, Reporter(hostname, schedule), events, clock=queue.now)
        attempts = Attempts(
            routing=routing,
            secrets=secrets,
            upstream=upstream,
            limits=open_limiter(await self._cluster.ledger(queue), queue, closing),
            accounts=Accounts(schedule, await queue.holds()),
            recorder=recorder,
            events=events,
            lead=self._cluster.lead,
        )
        attempts.backups.reach = lambda server: _look_for(server, self.settings)
        self.queue_runner = QueueRunner(attempts, shares, None if store.database.is_shared else store.clock)
        acceptance = Acceptance(
            hostname=hostname,
            routing=routing,
            secrets=secrets,
            attempts=attempts,
            history=history,
            tell=self._events.submitted if self._watch is None else self._tell,
            why_not=self._why_not,
            is_behind=self.queue_runner.is_behind,
        )
        for part in (attempts, acceptance):
            part.adopt(settings)
            self._reloading.subscribe(part.adopt)
        closing.push_async_callback(self._end_deliveries, attempts)
        store.health.room = maintenance.trouble
        for job in (history.run, maintenance.run, store.health.run, Leases(queue).run, self.queue_runner.run):
            closing.run(job())
        return attempts, acceptance

    def _why_not(self) -> Reply | None:
        """Return why no mail is taken just now; None where it is."""
        if self._store.health.is_gone:
            return replies.STORE_BROKEN
        return None if self._maintenance.has_room else replies.STORE_FULL

    def _make_listeners(
        self, acceptance: Acceptance, logins: Logins, certificate: "LiveCertificate | None", passed: PassedSockets
    ) -> Listeners:
        places = places_of(self.settings, passed)

        def doors(settings: Settings) -> list[Listener]:
            own = own_socket(settings, os.geteuid(), places)
            return [*settings.listeners, *([own] if own else [])]

        def adopt(now: Settings) -> None:
            listeners.adopt(doors(now), now.limits, self._reloading.certificate)

        failures = self._cluster.failures(LISTENERS, self.settings.limits.login_failures)
        listeners = Listeners(
            doors(self.settings),
            self.settings.limits,
            acceptance,
            logins=logins,
            session_limits=SessionLimits.of_worker(self._place.total),
            events=ListenerEvents(self.metrics),
            certificate=certificate,
            new_body=self._store.spools.new_incoming,
            together=Together(self._cluster.elsewhere, failures),
        )
        self._reloading.subscribe(adopt)
        return listeners

    def _make_changes(self, vault: Vault) -> Changes:
        return Changes(
            directory=self.directory,
            vault=vault,
            tokens=self.tokens,
            returned_mail=self.returned_mail,
            queue_runner=self.queue_runner,
            lead=self._cluster.lead,
            metrics=self.metrics,
            later=self._later,
        )

    def _make_parts(
        self, store: OpenStore, secrets: SecretResolver, attempts: Attempts, upstream: Upstream
    ) -> ControlContext:
        queue_actions = StoreQueueActions(
            store.queue,
            self.directory.routing,
            attempts.accounts,
            on_change=self._queue_changed,
            connections=lambda: self._status.connections_of_accounts,
            taken_over=attempts.backups.taken_over,
            limiter=attempts.limits,
        )
        self._status = RelayStatus(
            reloading=self._reloading,
            metrics=self.metrics,
            cluster=self._cluster,
            directory=self.directory,
            listeners=self.listeners,
            upstream=upstream,
            queue_actions=queue_actions,
            returned_mail=self.returned_mail,
            health=store.health,
            webhooks=self._webhooks.figures,
        )
        self._cluster.report(self.listeners, upstream, self._status.counts)
        store.health.on_change = self._status_changed
        audit = AuditTable(store.database)
        audit_log = AuditLog(audit)
        self._closing.push_async_callback(audit_log.aclose)
        return ControlContext(
            settings=self.settings,
            directory=self.directory,
            entries=DirectoryTable(store.database),
            vault=store.vault,
            secrets=secrets,
            queue=store.queue,
            queue_actions=queue_actions,
            people=People.of(store.database),
            audit_table=audit,
            audit_log=audit_log,
            nodes=self._node,
            status=self._status.status,
            health=store.health,
            metrics=self._status.metrics_text,
        )


async def _look_for(server: Server, settings: Settings) -> Failure | None:
    """Return why a server is not there; None: it is."""
    soon = replace(_timeouts(settings), reply=settings.delivery.connect_timeout)
    return await reach(server, settings.effective_hostname, soon)


async def _say_goodbye(upstream: Upstream) -> None:
    """Say QUIT to all servers; one that does not answer is not waited for."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await upstream.aclose()


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(connect=settings.delivery.connect_timeout, reply=settings.delivery.reply_timeout)
