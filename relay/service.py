"""The service: the one place where everything is put together, started and stopped.

It reads from top to bottom as the house is built: store, vault, directory, upstream, desk, listeners, control socket.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from relay import __version__, log
from relay.control.actor import Role
from relay.control.administrators import has_administrator
from relay.control.admission import Admission
from relay.control.links import invite
from relay.control.operations import Operations
from relay.control.parts import Parts, People
from relay.control.queue_desk import StoreQueueDesk
from relay.control.socket import ControlSocket, ControlSocketError
from relay.control.trail import Trail
from relay.delivery.accounts import Accounts
from relay.delivery.bookkeeper import Bookkeeper
from relay.delivery.desk import Desk
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.history import History
from relay.delivery.housekeeping import Housekeeping
from relay.delivery.journey import Journey
from relay.delivery.office import Office
from relay.delivery.pacing import Pacing
from relay.delivery.postman import Postman
from relay.delivery.reporter import Reporter
from relay.delivery.schedule import Schedule
from relay.delivery.shared_pacing import SharedPacing
from relay.delivery.shares import Shares
from relay.delivery.spending import Spending
from relay.delivery.telling import Telling
from relay.delivery.turn import Turns
from relay.directory.file import DirectoryFile, Snapshot
from relay.directory.live import LiveDirectory
from relay.directory.model import Directory
from relay.endpoint import TcpAddress, parse_endpoint
from relay.faults import Fault, Faults
from relay.incoming.watch import ReturnedMail
from relay.lag import LoopLag
from relay.listener.elsewhere import Together
from relay.listener.own_socket import own_socket, places_of
from relay.listener.passed import PassedSockets
from relay.listener.server import ListenError, Listeners
from relay.listener.telling import DoorTelling
from relay.listener.tls import LiveCertificate
from relay.listener.tolerance import Tolerance
from relay.mail.identity import Mismatch
from relay.metrics import Metrics, Now
from relay.reloading import Reloading
from relay.secrets.keeper import SecretKeeper
from relay.secrets.key_source import key_source
from relay.secrets.logins import Logins
from relay.secrets.master_key import MasterKeyError
from relay.secrets.oauth import Tokens
from relay.secrets.secret import SecretRef, token_refs
from relay.secrets.vault import Vault
from relay.settings import Listener, Settings, Web, check_modes
from relay.short_turns import in_short_turns
from relay.store.audit import AuditTable
from relay.store.claims import Living
from relay.store.database import Database
from relay.store.errors import StoreError
from relay.store.opening import open_store
from relay.store.outdated import forget_outdated
from relay.store.queue import Queue
from relay.store.secrets import SecretTable
from relay.store.space import free_space
from relay.store.spool import Spool, SpooledGathering
from relay.systemd import Systemd
from relay.upstream.allowance import unshared
from relay.upstream.transfer import Timeouts
from relay.upstream.upstream import Upstream
from relay.workers.census import Census, Open
from relay.workers.following import Following, share_pauses, share_reach, shared_failures
from relay.workers.renewal import ByTheFirst, renew_for_all
from relay.workers.siblings import LOOK, Siblings

if TYPE_CHECKING:
    from relay.web.pulse import Pulse
    from relay.web.server import WebServer

# Of the time in which we stop, how much is kept for what comes last: history, good-byes, the store.
_LAST_SECONDS = 6.0
_GOODBYE_SECONDS = 4.0
# Of a worker's messages on their way in: some that are as large as one may be in memory.
_LEAST_MEMORY = 64 * 1024 * 1024
_METRICS = "metrics"  # what one worker asks the others for
# What may be wrong at the start; each is one sentence for whoever started us, or several of them.
START_ERRORS = (Faults, StoreError, MasterKeyError, ListenError, ControlSocketError)


class Service:
    """One relay. `start` opens everything or raises one of START_ERRORS; `stop` ends it in order."""

    def __init__(
        self,
        settings: Settings,
        settings_file: Path | None,
        watch: Callable[[Journey], None] = lambda _: None,
        *,
        stop_seconds: float = 30.0,
        systemd: Systemd | None = None,
        read_directory: Callable[[DirectoryFile], Snapshot] = DirectoryFile.read,
        siblings: Siblings | None = None,
    ) -> None:
        self.siblings = siblings or Siblings()
        self._census = Census(self.siblings, self._open)
        self._reloading = Reloading(settings, settings_file, is_telling=self.siblings.is_first)
        self._watch = watch
        self.metrics = Metrics()
        self._lag = LoopLag()
        self._telling = Telling(self.metrics)
        self._stop_seconds = stop_seconds
        self._systemd = systemd or Systemd()
        self._read_directory = read_directory
        self._is_serving = False
        self._is_reload_due = False
        self._stop_at = 0.0  # when work must have ended, by the loop's clock
        self._since = datetime.now(UTC)
        self._closing = AsyncExitStack()
        self._jobs: set[asyncio.Task[None]] = set()
        self._following = asyncio.Lock()
        self.directory: LiveDirectory
        self.listeners: Listeners
        self.operations: Operations
        self.admission: Admission
        self._web: WebServer | None = None
        self._parts: Parts
        self.dispatcher: Dispatcher
        self.returned_mail: ReturnedMail
        self._upstream: Upstream
        self.tokens: Tokens

    @property
    def settings(self) -> Settings:
        """The settings in effect."""
        return self._reloading.settings

    async def start(self) -> None:
        """Open everything, the listeners and the control socket last."""
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise
        log.started(listeners=self.listeners.addresses, state_dir=str(self.settings.state_dir), version=__version__)
        self._is_serving = True
        self._follow_directory()  # it may have changed meanwhile
        await self._systemd.ready(self._summary())
        if self._is_reload_due:
            self.reload()

    async def stop(self) -> None:
        """Take no more mail, end or store what is under way, and close everything; all of it within `stop_seconds`."""
        self._is_serving = False
        work = max(self._stop_seconds - _LAST_SECONDS, self._stop_seconds / 2)
        self._stop_at = asyncio.get_running_loop().time() + work
        await self._systemd.stopping("ending what is under way")
        await self._closing.aclose()
        log.stopped()

    async def first_link(self) -> str | None:
        """Return a one-time link for the first administrator, new at every start; None where it needs none."""
        try:
            if not (self.settings.web.address and self.siblings.is_first) or await has_administrator(self._parts):
                return None
            url, _ = await invite(self._parts, "admin", "", Role.ADMINISTRATOR, datetime.now(UTC))
        except StoreError as error:
            log.broken(f"there is no link for the first administrator: {error}")
            return None
        return url

    def reload(self) -> None:
        """Read settings and directory now (SIGHUP), or as soon as we serve; who ends has no need of it."""
        self._is_reload_due = not self._is_serving
        if self._is_serving:
            self._later(self._reload())

    def status(self) -> dict[str, Any]:
        """Return the status as DESIGN section 4 lists it."""
        return {
            "running": True,
            "pid": os.getppid() if self.siblings.are_there else os.getpid(),  # to which signals are for the relay
            "version": __version__,
            "since": self._since.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "state_dir": str(self.settings.state_dir),
            "listeners": list(self.listeners.addresses),
            "connections": self.listeners.connections + self._census.connections,
            "workers": self._workers(),
            "settings": {**_state_of(self._reloading.faults), "needs_restart": list(self._reloading.waiting)},
            "directory": _state_of(self.directory.faults),
            "web": self._web.status() if self._web else {"address": None, "trouble": ""},
            "mailboxes": self.returned_mail.status(),
        }

    def _workers(self) -> list[dict[str, Any]]:
        """Return the processes that hand over mail, this one first."""
        own = {"index": self.siblings.index, "pid": os.getpid(), "connections": self.listeners.connections}
        others = self._census.others.items()
        return [
            own,
            *({"index": index, "pid": one.pid, "connections": one.connections} for index, one in others),
        ]

    def _open(self) -> Open:
        """Return what this worker has open, for the others."""
        return Open(
            pid=os.getpid(),
            connections=self.listeners.connections,
            peers=self.listeners.per_peer,
            accounts={str(account): number for account, number in self._upstream.connections().items()},
        )

    async def _reload(self) -> None:
        await self._systemd.reloading()
        await self._reloading.reload(self.directory)
        if self._is_serving:
            await self._systemd.ready(self._summary())

    def _summary(self) -> str:
        """Return one line for `systemctl status`."""
        trouble = ""
        if faults := len(self._reloading.faults):
            trouble += f"; the settings have faults ({faults}), and the ones before stay in effect"
        if faults := len(self.directory.faults):
            trouble += f"; the directory has faults ({faults}), and the one before stays in effect"
        return f"takes mail at {', '.join(self.listeners.addresses)}{trouble}"

    def _trouble(self) -> str:
        """Return which part of a relay that serves is dead, in a sentence; "" where none is."""
        if not self._is_serving:
            return ""
        if self.dispatcher.silent_seconds > self._systemd.watchdog_seconds:
            return f"the dispatcher has done nothing for {self.dispatcher.silent_seconds:.0f} s"
        stuck = self.listeners.stuck()
        return f"nobody is let in at listener {', '.join(stuck)}" if stuck else ""

    def _tell(self, journey: Journey) -> None:
        self._telling.submitted(journey)
        self._watch(journey)

    async def _metrics_text(self, queue: Mapping[str, int], oldest: Mapping[str, datetime], accounts_held: int) -> str:
        others = await self.siblings.ask(_METRICS)
        return self.metrics.text(self._now(queue, oldest, accounts_held), others)

    def _now(
        self,
        queue: Mapping[str, int] = MappingProxyType({}),
        oldest: Mapping[str, datetime] = MappingProxyType({}),
        accounts_held: int = 0,
    ) -> Now:
        now, certificate = datetime.now(UTC), self._reloading.certificate
        return Now(
            queue=queue,
            oldest={state: (now - created).total_seconds() for state, created in oldest.items()},
            accounts_held=accounts_held,
            unreached=len(self._parts.desk.unreached()),
            connections=self.listeners.connections,
            connections_limit=self.settings.limits.connections,
            loop_lag=self._lag.seconds,
            settings_ok=not self._reloading.faults,
            directory_ok=not self.directory.faults,
            certificate_expires=certificate.expires.timestamp() if certificate else None,
            free=free_space(self.settings.state_dir),
            free_floor=self.settings.delivery.free_space,
        )

    def _adopt(self, settings: Settings) -> None:
        """Let operations and pages work by these settings from now on."""
        self._parts.settings = settings

    def _state_of_things(self) -> object:
        """Return what is another value when the pages may have something new to show."""
        return self._parts.queue.written, self.directory.routing(), self.directory.faults

    def _queue_changed(self) -> None:
        self.dispatcher.wake()
        self.siblings.look()

    def _directory_changed(self, directory: LiveDirectory) -> None:
        if self.siblings.is_first:
            _tell_directory(directory)
            self.siblings.look()
        if not directory.faults and self._is_serving:
            self._follow_directory()
        if self._is_serving:
            self._later(self._systemd.status(self._summary()))

    def _follow_directory(self) -> None:
        self.dispatcher.directory_changed()
        self._later(self._follow_accounts())

    async def _follow_accounts(self) -> None:
        """Watch the mailboxes and tokens of the directory in effect: very many agents are looked at in a thread."""
        if not self.siblings.is_first:
            return
        async with self._following:  # the last change is followed last
            await self.returned_mail.follow()
            refs = await in_short_turns(_token_refs, self.directory.routing().directory)
            if self._is_serving:
                self.tokens.watch(refs)

    def _later(self, job: Coroutine[Any, Any, None]) -> None:
        """Let a job go on by itself; it is kept from being forgotten while it does."""
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _end_sessions(self) -> None:
        """Let clients end the message that they are in."""
        await self.listeners.stop(max(self._stop_at - asyncio.get_running_loop().time(), 0.0))

    async def _end_deliveries(self, postman: Postman) -> None:
        """Let what is under way end; what does not in time is on disk, and the next start goes on with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._stop_at):
                await self.dispatcher.stop()
                await postman.stop()

    def _office(self, secrets: SecretKeeper, upstream: Upstream, pacing: Turns) -> Office:
        office = Office(
            routing=self.directory.routing,
            secrets=secrets,
            upstream=upstream,
            tell=self._tell,
            telling=self._telling,
            pacing=pacing,
            mismatch=Mismatch(self.settings.policy.from_mismatch),
        )
        office.adopt(self.settings)
        return office

    def _body_in(self) -> SpooledGathering:
        """Begin the body of a message that comes in."""
        # Only that minds the floor: what waits would otherwise never leave a disk that it has filled.
        least_free = self.settings.delivery.free_space
        return Spool(self.settings.state_dir, self.settings.limits.memory_per_message, least_free).new_body()

    def _body_out(self) -> SpooledGathering:
        """Begin the body of a message that leaves the queue."""
        return Spool(self.settings.state_dir, self.settings.limits.memory_per_message).new_body()

    async def _start(self) -> None:
        settings, closing = self.settings, self._closing
        if faults := check_modes(settings):
            raise Faults(faults)
        certificate = self._reloading.open_certificate()
        _start_task(closing, self._systemd.feed_watchdog(self._trouble))
        passed = PassedSockets(self._systemd.descriptors)
        closing.callback(passed.close)

        siblings = self.siblings
        database = await open_store(settings, os.environ, has_siblings=siblings.are_there)
        closing.push_async_callback(database.close)
        await database.check()
        vault, secrets = await self._open_secrets(database)
        self.directory = await LiveDirectory.open(
            settings, self._reloading.file, self._directory_changed, self._read_directory
        )
        if siblings.is_first:
            _warn(self.directory)
        _start_task(closing, self.directory.watch())
        queue = Queue(database, siblings.owner, new_body=self._body_out, living=Living(*siblings.living))
        queue.on_hold = siblings.look
        closing.push_async_callback(queue.aclose)
        shares = await self._open_shares(queue)
        upstream = self._upstream = Upstream(
            settings.effective_hostname, _timeouts(settings), shares.allowance if shares else unshared
        )
        self._reloading.subscribe(lambda now: upstream.adopt(_timeouts(now)))
        closing.push_async_callback(_say_goodbye, upstream)

        postman, desk = await self._open_delivery(database, queue, secrets, upstream, shares)
        self.returned_mail = ReturnedMail(queue, secrets, lambda: self.directory.routing().directory)
        closing.push_async_callback(self.returned_mail.aclose)
        if siblings.is_first:
            self.returned_mail.refresh()
            self.tokens.watch(token_refs(self.directory.routing().directory))
        logins = Logins(vault, self.directory.routing)
        closing.callback(logins.close)
        self.listeners = self._make_listeners(desk, logins, certificate, passed)
        self._parts = self._make_parts(database, vault, secrets, queue, postman)
        if siblings.is_first:
            self.operations = Operations(self._parts)
            self.admission = Admission(self._parts, logins)
            await self._open_control()
        self._reloading.subscribe(self._adopt)
        if siblings.is_replacement:
            await self._reloading.reload(self.directory)  # the others may have settings that are newer than ours
        await self.listeners.open(passed)
        closing.push_async_callback(self._end_sessions)
        if settings.web.address and siblings.is_first:
            await self._open_web(settings.web)
        _start_task(closing, self._lag.watch())
        self._join_siblings(queue, vault, postman)

    async def _open_shares(self, queue: Queue) -> Shares | None:
        """Return what this worker has of the connections of accounts; None where it has them all."""
        siblings = self.siblings
        if not siblings.are_there:
            return None
        await queue.drop_dead_shares()
        shares = Shares(queue, siblings.owner, siblings.total, tell=siblings.look)
        siblings.on(LOOK, lambda *_: shares.look())
        self._closing.push_async_callback(shares.aclose)
        _start_task(self._closing, shares.run())
        return shares

    async def _open_pacing(self, queue: Queue) -> Turns:
        """Return who gives turns; its tasks end after all that is under way."""
        if self.siblings.are_there:
            shared = SharedPacing(queue)
            self._closing.push_async_callback(shared.aclose)
            _start_task(self._closing, shared.run())
            return shared
        spending = Spending(queue)
        self._closing.push_async_callback(spending.flush)
        _start_task(self._closing, spending.run())
        return Pacing(spending, await queue.spent())

    def _join_siblings(self, queue: Queue, vault: Vault, postman: Postman) -> None:
        """Follow what the other workers do, and let them know."""

        async def follow_holds() -> None:
            postman.accounts.follow(await queue.holds())

        async def follow_mail() -> None:
            self.dispatcher.wake()

        share_pauses(self.siblings, postman.accounts)
        share_reach(self.siblings, postman.accounts.reach)
        if self.siblings.is_first:
            renew_for_all(self.siblings, self.tokens, lambda: token_refs(self.directory.routing().directory))
        self.siblings.answer(_METRICS, lambda _: self.metrics.counts(self._now()))
        following = Following(self.siblings, (self.directory.refresh, vault.follow, follow_holds, follow_mail))
        for job in (following.run, self._census.run):
            _start_task(self._closing, job())

    async def _open_web(self, web: Web) -> None:
        from relay.web.pulse import Pulse  # noqa: PLC0415
        from relay.web.server import WebServer  # noqa: PLC0415

        address = parse_endpoint(web.address)
        assert isinstance(address, TcpAddress)
        pulse = Pulse(self._state_of_things)
        self._web = WebServer(address, partial(self._make_pages, pulse))
        await self._web.start()
        self._closing.push_async_callback(self._web.stop)
        self._closing.push_async_callback(pulse.aclose)  # before that: a server waits for the streams that are open

    def _make_pages(self, pulse: "Pulse", address: TcpAddress) -> Any:
        """Return the application. Takes the better part of a second, so it is called in a thread, while mail flows."""
        from relay.web.app import make_app  # noqa: PLC0415
        from relay.web.site import Site, make_templates  # noqa: PLC0415

        templates = make_templates(self.settings.effective_hostname)
        site = Site(self.operations, self.admission, lambda: self.settings.web.public_url, templates, pulse)
        return make_app(site, address)

    async def _open_secrets(self, database: Database) -> tuple[Vault, SecretKeeper]:
        settings = self.settings
        source = key_source(settings.secrets.master_key, settings.state_dir, os.environ)
        vault = await Vault.open(SecretTable(database), source)
        is_first = self.siblings.is_first
        self.tokens = Tokens(vault, renews_ahead=is_first, elsewhere=None if is_first else ByTheFirst(self.siblings))
        self._closing.push_async_callback(self.tokens.aclose)
        return vault, SecretKeeper(vault, os.environ, settings.state_dir, tokens=self.tokens)

    async def _open_delivery(
        self, database: Database, queue: Queue, secrets: SecretKeeper, upstream: Upstream, shares: Shares | None
    ) -> tuple[Postman, Desk]:
        settings, closing = self.settings, self._closing
        history = History(queue)
        closing.push_async_callback(history.flush)
        housekeeping = Housekeeping(
            queue,
            settings.state_dir,
            free_floor=settings.delivery.free_space,
            keep_seconds=settings.log.keep_messages,
            forget=lambda now: forget_outdated(database, now),
            is_first=self.siblings.is_first,
        )
        self._reloading.subscribe(housekeeping.adopt)
        office = self._office(secrets, upstream, await self._open_pacing(queue))
        schedule = Schedule.of(settings.delivery)
        accounts = Accounts(schedule, await queue.holds())
        hostname = settings.effective_hostname
        books = Bookkeeper(office, queue, schedule, Reporter(hostname, schedule))
        postman = Postman(office, accounts, books)
        self._reloading.subscribe(postman.adopt)
        self.dispatcher = Dispatcher(postman, shares, is_first=self.siblings.is_first)
        closing.push_async_callback(self._end_deliveries, postman)
        for job in (history.run, housekeeping.run, self.dispatcher.run):
            _start_task(closing, job())
        return postman, Desk(hostname, office, postman, history, lambda: housekeeping.has_room)

    def _make_listeners(
        self, desk: Desk, logins: Logins, certificate: LiveCertificate | None, passed: PassedSockets
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
            desk,
            logins=logins,
            tolerance=_tolerance(self.siblings.total),
            telling=DoorTelling(self.metrics),
            certificate=certificate,
            new_body=self._body_in,
            together=Together(self._census, shared_failures(self.siblings, self.settings.limits.login_failures)),
        )
        self._reloading.subscribe(adopt)
        return listeners

    def _make_parts(
        self,
        database: Database,
        vault: Vault,
        secrets: SecretKeeper,
        queue: Queue,
        postman: Postman,
    ) -> Parts:
        queue_desk = StoreQueueDesk(
            queue,
            self.directory.routing,
            postman.accounts,
            changed=self._queue_changed,
            connections=self._census.accounts,
            pacing=postman.office.pacing,
        )
        audit = AuditTable(database)
        trail = Trail(audit)
        self._closing.push_async_callback(trail.aclose)
        return Parts(
            settings=self.settings,
            directory=self.directory,
            vault=vault,
            secrets=secrets,
            queue=queue,
            desk=queue_desk,
            people=People.of(database),
            audit=audit,
            trail=trail,
            status=self.status,
            metrics=self._metrics_text,
        )

    async def _open_control(self) -> None:
        control = ControlSocket(self.settings.control_socket, self.operations, self.settings.state_dir)
        await control.start()
        self._closing.push_async_callback(control.stop)


async def _say_goodbye(upstream: Upstream) -> None:
    """Say QUIT to all servers; one that does not answer is not waited for."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await upstream.aclose()


def _tolerance(workers: int) -> Tolerance:
    """Return what one of so many workers puts up with: what all messages may take of the memory is for all of them."""
    whole = Tolerance()
    return replace(whole, memory=max(whole.memory // workers, _LEAST_MEMORY))


def _start_task(closing: AsyncExitStack, coroutine: Any) -> None:
    task = asyncio.get_running_loop().create_task(coroutine)
    task.add_done_callback(_tell_end)
    closing.callback(task.cancel)


def _tell_end(task: "asyncio.Task[Any]") -> None:
    """Tell of a part that should go on for ever and has ended."""
    if not task.cancelled() and task.exception() is not None:
        log.broken("a part of the relay ended by a fault of ours; start it anew", exc_info=task.exception())


def _state_of(faults: Sequence[Fault]) -> dict[str, Any]:
    return {
        "ok": not faults,
        "faults": [{"file": fault.file, "key": fault.key, "message": fault.message} for fault in faults],
    }


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(connect=settings.delivery.connect_timeout, reply=settings.delivery.reply_timeout)


def _tell_directory(directory: LiveDirectory) -> None:
    if directory.faults:
        faults = [str(fault) for fault in directory.faults]
        log.broken("the directory has faults; the one before stays in effect", faults=faults)
        return
    _warn(directory)
    log.changed(what="directory", profiles=sum(1 for _ in directory.routing().directory.profiles()))


def _token_refs(directory: Directory) -> list[SecretRef]:
    return list(token_refs(directory))


def _warn(directory: LiveDirectory) -> None:
    for warning in directory.warnings:
        log.warned(str(warning))
