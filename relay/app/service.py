"""The service: the one place where everything is put together, started and stopped.

It reads from top to bottom as the house is built: store, vault, directory, upstream, desk, listeners, control socket.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from relay import __version__, log
from relay.app.admin_server import AdminServer
from relay.app.reload import LiveSettings
from relay.app.status import RelayStatus
from relay.store.cluster.identity import keep_out_others, living_of, own_node, owner_of
from relay.cluster.joining import join, open_lead, open_membership, open_pacing, open_shares
from relay.cluster.leader_election import Lead
from relay.cluster.login_failure_sync import LISTENERS, PAGES, LoginFailureSync
from relay.cluster.membership import Membership
from relay.cluster.peer_counts import PeerCounts
from relay.cluster.peers import Peers
from relay.cluster.token_renewal import ByLease
from relay.config.faults import Faults
from relay.config.settings import Listener, Settings, check_modes, left_out, load_settings
from relay.control.audit_log import AuditLog
from relay.control.context import Parts, People
from relay.control.messages.queue_actions import StoreQueueActions
from relay.control.people.first_link import first_link
from relay.control.transport.socket import ControlSocketError
from relay.delivery import replies
from relay.delivery.acceptance import Acceptance
from relay.delivery.attempt import Attempts
from relay.delivery.dsn import Reporter
from relay.delivery.events import Ending, Journey, MessageEvents
from relay.delivery.history import History
from relay.delivery.holds import Accounts
from relay.delivery.maintenance import Leases, Maintenance
from relay.delivery.queue_runner import QueueRunner
from relay.delivery.recorder import Recorder
from relay.delivery.schedule import Schedule
from relay.delivery.shares import Shares
from relay.directory.file import DirectoryFile
from relay.directory.file_storage import ReadFile
from relay.directory.live import LiveDirectory
from relay.directory.model import Directory, Meaning
from relay.incoming.watch import ReturnedMail
from relay.listener.events import ListenerEvents
from relay.listener.login_failures import LoginFailures
from relay.listener.server import Listeners
from relay.listener.session_limits import SessionLimits
from relay.listener.session_registry import Together
from relay.listener.sockets import ListenError, PassedSockets, own_socket, places_of
from relay.mail.reply import Reply
from relay.metrics import Metrics
from relay.secrets.binding import bind_unbound
from relay.secrets.key_source import key_source
from relay.secrets.logins import Logins
from relay.secrets.master_key import MasterKeyError
from relay.secrets.oauth.access_tokens import Tokens
from relay.secrets.resolver import SecretResolver
from relay.secrets.secret import SecretRef, token_refs
from relay.secrets.vault import Vault
from relay.store.cluster.change_notifications import ChangeNotifications
from relay.store.cluster.leader_lease import LeaseTable
from relay.store.cluster.login_failures import FailureTable
from relay.store.cluster.topics import Topic
from relay.store.db.database import Database
from relay.store.db.errors import StoreError
from relay.store.db.health import StoreHealth
from relay.store.db.open import open_store
from relay.store.db.steady_clock import ClockWatch, SteadyClock
from relay.store.people.audit import AuditTable
from relay.store.people.directory import DirectoryTable, kept_by
from relay.store.people.expiry import forget_outdated
from relay.store.people.secrets import SecretTable
from relay.store.queue.queue import Queue
from relay.store.queue.spool import Spool, SpooledGathering
from relay.system.exit_stack import TaskExitStack
from relay.system.switch_interval import in_short_turns
from relay.system.systemd import Systemd
from relay.upstream.connections import unshared
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Timeouts

if TYPE_CHECKING:
    from relay.listener.tls import LiveCertificate

# In how much time we stop, and how much of it is kept for what comes last: history, good-byes, the store.
_STOP_SECONDS = 30.0
_LAST_SECONDS = 6.0
_GOODBYE_SECONDS = 4.0
_GONE_SECONDS = 2.0
# Of a worker's messages on their way in: some that are as large as one may be in memory.
_LEAST_MEMORY = 64 * 1024 * 1024
# What may be wrong at the start; each is one sentence for whoever started us, or several of them.
START_ERRORS = (Faults, StoreError, MasterKeyError, ListenError, ControlSocketError)


class Service:
    """One relay. `start` opens everything or raises one of START_ERRORS; `stop` ends it in order."""

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
        peers: Peers | None = None,
    ) -> None:
        self.peers = peers or Peers()
        self._peer_counts = PeerCounts(self.peers, lambda: self._standing.open())  # noqa: PLW0108 - it is not there yet
        self._reloading = LiveSettings(settings, settings_file, read_settings, is_telling=self.peers.is_first)
        self._watch = watch
        self.metrics = Metrics()
        self._telling = MessageEvents(self.metrics)
        self._stop_seconds = _STOP_SECONDS if stop_seconds is None else stop_seconds
        self._systemd = systemd or Systemd()
        self._read_directory = read_directory
        self._is_serving = False
        self._is_reload_due = False
        self._stop_at = 0.0  # when work must have ended, by the loop's clock
        self._closing = TaskExitStack()
        self._jobs: set[asyncio.Task[None]] = set()
        self._following = asyncio.Lock()
        self.directory: LiveDirectory
        self.listeners: Listeners
        self._logins: Logins
        self._standing: RelayStatus
        self._membership: Membership
        self._clock: ClockWatch
        self._health: StoreHealth
        self._maintenance: Maintenance
        self._parts: Parts
        self.queue_runner: QueueRunner
        self.returned_mail: ReturnedMail
        self.tokens: Tokens
        self.lead: Lead
        self._failure_sync: LoginFailureSync | None = None
        self._spool_in: Spool
        self._spool_out: Spool

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
        self._is_serving = True
        self._follow_directory()  # it may have changed meanwhile
        await self._systemd.ready(self._standing.summary())
        if self._is_reload_due:
            self.reload()

    async def stop(self) -> None:
        """Take no more mail, end or store what is under way, and close everything; all of it within `stop_seconds`."""
        self._is_serving = False
        await self._membership.stopping()
        work = max(self._stop_seconds - _LAST_SECONDS, self._stop_seconds / 2)
        if self._health.is_gone:  # what is under way can be written down nowhere
            work = min(work, _GONE_SECONDS)
        self._stop_at = asyncio.get_running_loop().time() + work
        await self._systemd.stopping("ending what is under way")
        self._later(self.lead.resign())  # no client waits for a store that may be away
        await self._closing.aclose()
        log.stopped()

    async def greet_administrator(self, terminal: TextIO) -> None:
        """Show whoever started us at a terminal a link for the first administrator, new at every start.

        It lets anybody in who reads it, and so is in no log: without a terminal `relay admin link` gives one.
        """
        if not (self.settings.web.address and self.peers.is_first):
            return
        try:
            link = await first_link(self._parts, datetime.now(UTC))
        except StoreError as error:
            log.broken(f"there is no link for the first administrator: {error}")
            return
        if link is not None:
            sentence = "there is no administrator yet; this link, good once and for 24 hours, makes one"
            print(f"{sentence}: {link}", file=terminal)

    def reload(self) -> None:
        """Read settings and directory now (SIGHUP), or as soon as we serve; who ends has no need of it."""
        self._is_reload_due = not self._is_serving
        if self._is_serving:
            self._later(self._reload())

    async def _reload(self) -> None:
        await self._systemd.reloading()
        await self._reloading.reload(self.directory)
        if self._is_serving:
            await self._systemd.ready(self._standing.summary())

    def _trouble(self) -> str:
        """Return which part of a relay that serves is dead, in a sentence; "" where none is."""
        if not self._is_serving:
            return ""
        if self.queue_runner.silent_seconds > self._systemd.watchdog_seconds:
            return f"the queue runner has done nothing for {self.queue_runner.silent_seconds:.0f} s"
        stuck = self.listeners.stuck()
        return f"nobody is let in at listener {', '.join(stuck)}" if stuck else ""

    def _tell(self, journey: Journey) -> None:
        self._telling.submitted(journey)
        if self._watch is not None:
            self._watch(journey)

    def _adopt(self, settings: Settings) -> None:
        """Let operations and pages work by these settings from now on."""
        self._parts.settings = settings

    def _state_of_things(self) -> object:
        """Return what is another value when the pages may have something new to show."""
        return self._parts.queue.written, self.directory.routing(), self.directory.faults

    async def _look(self) -> None:
        self.queue_runner.wake()

    def _rest(self) -> None:
        """Take no clients and no mail from the queue while this node is drained."""
        is_wanted = self._membership.is_draining
        self.listeners.rest(is_wanted=is_wanted)
        self.queue_runner.rest(is_wanted=is_wanted)
        self.lead.rest(is_wanted=is_wanted)
        self._status_changed()

    def _status_changed(self) -> None:
        """Let `systemctl status` show how we are."""
        if self._is_serving:
            self._later(self._systemd.status(self._standing.summary()))

    def _queue_changed(self) -> None:
        self.queue_runner.wake()
        self.peers.look()

    def _directory_changed(self, directory: LiveDirectory) -> None:
        if self.peers.is_first:
            _tell_directory(directory)
            self.peers.look()
        if not directory.faults and self._is_serving:
            self._follow_directory()
        self._status_changed()

    def _begin_counters(self) -> None:
        self.metrics.begin(Ending, Meaning, self.directory.routing().directory.servers)

    def _follow_directory(self) -> None:
        self._begin_counters()
        self._later(self._bind_secrets())
        self.queue_runner.directory_changed()
        self._later(self._follow_accounts())

    async def _lead_changed(self) -> None:
        """Begin what one of all relays does, or end it: when this returns, nothing of it is under way any more."""
        self.queue_runner.lead_changed()
        if self.lead.is_ours:
            self._later(self._follow_accounts())
        else:
            await self._follow_accounts()

    async def _follow_accounts(self) -> None:
        """Watch the mailboxes and tokens of the directory in effect: very many agents are looked at in a thread."""
        async with self._following:  # the last change is followed last
            if not self.lead.is_ours:
                await self.returned_mail.rest()
                self.tokens.watch(())
                return
            await self.returned_mail.follow()
            refs = await in_short_turns(_token_refs, self.directory.routing().directory)
            if self._is_serving and self.lead.is_ours:
                self.tokens.watch(refs)

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

    def _login_failures(self, door: str) -> LoginFailures:
        """Return the bad logins of a door, which all processes at the store count together."""
        limit = self.settings.limits.login_failures
        return self._failure_sync.failures(door, limit) if self._failure_sync is not None else LoginFailures(limit)

    def _adopt_spools(self, settings: Settings) -> None:
        """Keep bodies by these settings: of messages that come in, and of those that leave the queue."""
        folder, in_memory = settings.state_dir, settings.limits.memory_per_message
        # Only what comes in minds the floor: what waits would otherwise never leave a disk that it has filled.
        self._spool_in = Spool(folder, in_memory, settings.delivery.free_space)
        self._spool_out = Spool(folder, in_memory)

    async def _start(self) -> None:
        settings, closing = self.settings, self._closing
        if faults := check_modes(settings):
            raise Faults(faults)
        self._adopt_spools(settings)
        self._reloading.subscribe(self._adopt_spools)
        certificate = self._reloading.open_certificate()
        closing.run(self._systemd.feed_watchdog(self._trouble))
        passed = PassedSockets(self._systemd.descriptors)
        closing.callback(passed.close)

        peers = self.peers
        database = await self._open_store()
        vault, secrets = await self._open_secrets(database)
        self.directory = await LiveDirectory.open(
            settings, self._reloading.file, self._directory_changed, kept_by(settings, database, self._read_directory)
        )
        self._begin_counters()
        await bind_unbound(vault, self.directory.routing().directory)
        if peers.is_first:
            _warn(self.directory)
        if not (settings.is_directory_stored and database.is_shared):  # the bulletin tells of that one
            closing.run(self.directory.watch())
        queue = self._open_queue(database)
        shares = await open_shares(peers, self._membership, queue, closing)
        upstream = Upstream(settings.effective_hostname, _timeouts(settings), shares.allowance if shares else unshared)
        self._reloading.subscribe(lambda now: upstream.adopt(_timeouts(now)))
        closing.push_async_callback(_say_goodbye, upstream)

        attempts, acceptance = await self._open_delivery(database, queue, secrets, upstream, shares)
        self.returned_mail = ReturnedMail(queue, secrets, lambda: self.directory.routing().directory, self.lead)
        closing.push_async_callback(self.returned_mail.aclose)
        self._logins = Logins(vault, self.directory.routing)
        closing.callback(self._logins.close)
        self.listeners = self._make_listeners(acceptance, self._logins, certificate, passed)
        self._parts = self._make_parts(database, vault, secrets, queue, attempts, upstream)
        answering = AdminServer(self._parts, closing)
        if peers.is_first:
            await answering.open_commands()
        self._reloading.subscribe(self._adopt)
        self._membership.doing, self._membership.on_change = self._standing.doing, self._rest
        if peers.is_replacement:
            await self._reloading.reload(self.directory)  # the others may have settings that are newer than ours
        await self.listeners.open(passed)
        self._rest()
        closing.push_async_callback(self._end_sessions)
        if settings.web.address and peers.is_first:
            failures = self._login_failures(PAGES)
            self._standing.web = await answering.open_pages(self._logins, failures, self._state_of_things)
        closing.run(self._standing.lag.watch())
        self._join(database, vault, queue, attempts.accounts)
        await self.listeners.serve()

    def _join(self, database: Database, vault: Vault, queue: Queue, accounts: Accounts) -> None:
        """Follow what all other processes at the same store change."""
        peers = self.peers
        if not (peers.are_there or database.is_shared):
            return
        changes = ChangeNotifications(database, is_called=peers.is_first)
        changes.on(Topic.SECRETS, partial(self._follow_secrets, vault))
        if self._failure_sync is not None:
            changes.on(Topic.FAILURES, self._failure_sync.look)
        if self.settings.is_directory_stored:
            changes.on(Topic.DIRECTORY, self.directory.follow)
        elif peers.are_there:
            changes.each_time(self.directory.refresh)
        if peers.are_there:
            changes.each_time(self._look)
        changes.tell(self.queue_runner.wake)
        loop = asyncio.get_running_loop()

        def announced() -> None:
            loop.call_soon_threadsafe(peers.look)

        database.on_announced = announced
        join(peers, self._peer_counts, accounts, queue, self._closing, changes)
        self._closing.run(self.lead.run())

    async def _open_store(self) -> Database:
        """Open the store, and take our place among the nodes that use it."""
        peers = self.peers
        database = await open_store(self.settings, os.environ, has_peers=peers.are_there, is_file=peers.store)
        self._closing.push_async_callback(database.close)
        self._health = StoreHealth(database)
        await database.check()
        node = own_node(self.settings)
        if self.peers.is_first:
            self._closing.callback(os.close, keep_out_others(self.settings))
        self._membership = await open_membership(self.peers, node, database, self._closing)
        node, peers, is_shared = self._membership.node, self.peers, database.is_shared
        self._clock = ClockWatch(database, SteadyClock())
        if not is_shared and (seconds := await self._clock.resume(Schedule.of(self.settings.delivery).longest)):
            log.clock_set(seconds=round(seconds))
        living = living_of(node, peers, is_shared=is_shared)
        self._duties = LeaseTable(database, owner_of(node, peers), living, self._clock.steady.now)
        self.lead = open_lead(peers, self._duties, is_shared=is_shared)
        self.lead.on_change = self._lead_changed
        self._closing.push_async_callback(self.lead.resign)  # at the latest
        if is_shared or peers.are_there:
            self._failure_sync = LoginFailureSync(FailureTable(database, owner_of(node, peers)))
            self._closing.run(self._failure_sync.run())
        return database

    def _open_queue(self, database: Database) -> Queue:
        node, peers = self._membership.node, self.peers
        living = living_of(node, peers, is_shared=database.is_shared)
        queue = Queue(
            database,
            owner_of(node, peers),
            new_body=lambda: SpooledGathering(self._spool_out),
            living=living,
            steady=self._clock.steady,
        )
        self._closing.push_async_callback(queue.aclose)
        return queue

    async def _bind_secrets(self) -> None:
        """Bind the secrets that have only now a server to go to."""
        with suppress(StoreError):  # every look does it again
            await bind_unbound(self._parts.vault, self.directory.routing().directory)

    async def _follow_secrets(self, vault: Vault) -> None:
        await vault.follow()
        await bind_unbound(vault, self.directory.routing().directory)

    async def _open_secrets(self, database: Database) -> tuple[Vault, SecretResolver]:
        settings = self.settings
        source = key_source(settings.secrets.master_key, settings.state_dir, os.environ)
        vault = await Vault.open(SecretTable(database), source, keeps_copies=database.is_shared)
        self.tokens = Tokens(
            vault,
            renews_ahead=lambda: self.lead.is_ours,
            guard=ByLease(self._duties) if database.is_shared or self.peers.are_there else None,
        )
        self._closing.push_async_callback(self.tokens.aclose)
        return vault, SecretResolver(vault, os.environ, settings.state_dir, tokens=self.tokens)

    async def _open_delivery(
        self, database: Database, queue: Queue, secrets: SecretResolver, upstream: Upstream, shares: Shares | None
    ) -> tuple[Attempts, Acceptance]:
        settings, closing = self.settings, self._closing
        history = History(queue, self.metrics.history_lost)
        closing.push_async_callback(history.flush)
        maintenance = self._maintenance = Maintenance(
            queue,
            settings.state_dir,
            free_floor=settings.delivery.free_space,
            keep_seconds=settings.log.keep_messages,
            forget=lambda now: forget_outdated(database, now),
            lead=self.lead,
            may_purge=lambda: self._clock.is_settled,
        )
        self._reloading.subscribe(maintenance.adopt)
        schedule = Schedule.of(settings.delivery)
        hostname = settings.effective_hostname
        routing, telling = self.directory.routing, self._telling
        recorder = Recorder(queue, routing, schedule, Reporter(hostname, schedule), telling, clock=queue.now)
        attempts = Attempts(
            routing=routing,
            secrets=secrets,
            upstream=upstream,
            limits=await open_pacing(self.peers, queue, closing),
            accounts=Accounts(schedule, await queue.holds()),
            recorder=recorder,
            telling=telling,
            lead=self.lead,
        )
        self.queue_runner = QueueRunner(attempts, shares, None if database.is_shared else self._clock)
        acceptance = Acceptance(
            hostname=hostname,
            routing=routing,
            secrets=secrets,
            attempts=attempts,
            history=history,
            tell=self._telling.submitted if self._watch is None else self._tell,
            why_not=self._why_not,
            is_behind=self.queue_runner.is_behind,
        )
        for part in (attempts, acceptance):
            part.adopt(settings)
            self._reloading.subscribe(part.adopt)
        closing.push_async_callback(self._end_deliveries, attempts)
        self._health.room = maintenance.trouble
        for job in (history.run, maintenance.run, self._health.run, Leases(queue).run, self.queue_runner.run):
            closing.run(job())
        return attempts, acceptance

    def _why_not(self) -> Reply | None:
        """Return why no mail is taken just now; None where it is."""
        if self._health.is_gone:
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

        listeners = Listeners(
            doors(self.settings),
            self.settings.limits,
            acceptance,
            logins=logins,
            tolerance=_tolerance(self.peers.total),
            telling=ListenerEvents(self.metrics),
            certificate=certificate,
            new_body=lambda: SpooledGathering(self._spool_in),
            together=Together(self._peer_counts, self._login_failures(LISTENERS)),
        )
        self._reloading.subscribe(adopt)
        return listeners

    def _make_parts(
        self,
        database: Database,
        vault: Vault,
        secrets: SecretResolver,
        queue: Queue,
        attempts: Attempts,
        upstream: Upstream,
    ) -> Parts:
        queue_desk = StoreQueueActions(
            queue,
            self.directory.routing,
            attempts.accounts,
            changed=self._queue_changed,
            connections=self._peer_counts.accounts,
            pacing=attempts.limits,
        )
        self._standing = RelayStatus(
            reloading=self._reloading,
            metrics=self.metrics,
            peers=self.peers,
            peer_counts=self._peer_counts,
            directory=self.directory,
            listeners=self.listeners,
            upstream=upstream,
            desk=queue_desk,
            returned_mail=self.returned_mail,
            lead=self.lead,
            membership=self._membership,
            health=self._health,
        )
        self._health.on_change = self._status_changed
        audit = AuditTable(database)
        trail = AuditLog(audit)
        self._closing.push_async_callback(trail.aclose)
        return Parts(
            settings=self.settings,
            directory=self.directory,
            entries=DirectoryTable(database),
            vault=vault,
            secrets=secrets,
            queue=queue,
            desk=queue_desk,
            people=People.of(database),
            audit=audit,
            trail=trail,
            nodes=self._membership,
            status=self._standing.status,
            health=self._health,
            metrics=self._standing.metrics_text,
        )


async def _say_goodbye(upstream: Upstream) -> None:
    """Say QUIT to all servers; one that does not answer is not waited for."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await upstream.aclose()


def _tolerance(workers: int) -> SessionLimits:
    """Return what one of so many workers puts up with: what all messages may take of the memory is for all of them."""
    whole = SessionLimits()
    return replace(whole, memory=max(whole.memory // workers, _LEAST_MEMORY))


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(connect=settings.delivery.connect_timeout, reply=settings.delivery.reply_timeout)


def _tell_directory(directory: LiveDirectory) -> None:
    if directory.faults:
        faults = [str(fault) for fault in directory.faults]
        log.broken("the directory has faults; the one before stays in effect", faults=faults)
        return
    _warn(directory)
    now = directory.routing().directory
    log.changed(what="directory", profiles=len(now.channels) + len(now.agents))


def _token_refs(directory: Directory) -> list[SecretRef]:
    return list(token_refs(directory))


def _warn(directory: LiveDirectory) -> None:
    for warning in directory.warnings:
        log.warned(str(warning))
