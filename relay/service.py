"""The service: the one place where everything is put together, started and stopped.

It reads from top to bottom as the house is built: store, vault, directory, upstream, desk, listeners, control socket.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relay import __version__, log
from relay.control.operations import Operations
from relay.control.parts import Parts
from relay.control.queue_desk import StoreQueueDesk
from relay.control.socket import ControlSocket, ControlSocketError
from relay.delivery.accounts import Accounts
from relay.delivery.desk import Desk
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.history import History
from relay.delivery.housekeeping import Housekeeping
from relay.delivery.journey import Journey
from relay.delivery.office import Office
from relay.delivery.postman import Postman
from relay.delivery.reporter import Reporter
from relay.delivery.schedule import Schedule
from relay.delivery.telling import tell_log
from relay.directory.live import LiveDirectory
from relay.directory.model import Mode
from relay.faults import Faults
from relay.listener.server import ListenError, Listeners
from relay.mail.identity import Mismatch
from relay.secrets.keeper import SecretKeeper
from relay.secrets.key_source import key_source
from relay.secrets.master_key import MasterKeyError
from relay.secrets.vault import Vault
from relay.settings import Settings, check_modes
from relay.store.database import open_database
from relay.store.errors import StoreError
from relay.store.queue import Queue
from relay.store.secrets import SecretTable
from relay.upstream.transfer import Timeouts
from relay.upstream.upstream import Upstream

# What may be wrong at the start; each is one sentence for whoever started us, or several of them.
START_ERRORS = (Faults, StoreError, MasterKeyError, ListenError, ControlSocketError)


class Service:
    """One relay. `start` opens everything or raises one of START_ERRORS; `stop` ends it in order."""

    def __init__(
        self,
        settings: Settings,
        settings_file: Path | None,
        tell: Callable[[Journey], None] = tell_log,
        *,
        stop_seconds: float = 30.0,
    ) -> None:
        self.settings = settings
        self._settings_file = str(settings_file or "relay.toml")
        self._tell = tell
        self._stop_seconds = stop_seconds
        self._since = datetime.now(UTC)
        self._closing = AsyncExitStack()
        self._jobs: set[asyncio.Task[None]] = set()
        self.directory: LiveDirectory
        self.listeners: Listeners
        self.dispatcher: Dispatcher

    async def start(self) -> None:
        """Open everything, the listeners and the control socket last."""
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise
        log.started(listeners=self.listeners.addresses, state_dir=str(self.settings.state_dir), version=__version__)

    async def stop(self) -> None:
        """Take no more mail, end what is under way within `stop_seconds`, and close everything."""
        await self._closing.aclose()
        log.stopped()

    def reload(self) -> None:
        """Read the directory now (SIGHUP)."""
        self._later(self.directory.reload())

    def status(self) -> dict[str, Any]:
        """Return the status as DESIGN section 4 lists it."""
        return {
            "running": True,
            "pid": os.getpid(),
            "version": __version__,
            "since": self._since.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "state_dir": str(self.settings.state_dir),
            "listeners": list(self.listeners.addresses),
            "connections": self.listeners.connections,
            "directory": {
                "ok": not self.directory.faults,
                "faults": [
                    {"file": fault.file, "key": fault.key, "message": fault.message} for fault in self.directory.faults
                ],
            },
        }

    def _directory_changed(self, directory: LiveDirectory) -> None:
        _tell_directory(directory)
        if not directory.faults:
            self._later(self.dispatcher.directory_changed())

    def _later(self, job: Coroutine[Any, Any, None]) -> None:
        """Let a job go on by itself; it is kept from being forgotten while it does."""
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _end_deliveries(self, postman: Postman) -> None:
        """Let what is under way end; what does not in time is on disk, and the next start goes on with it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._stop_seconds):
                await self.dispatcher.stop()
                await postman.stop()

    def _office(self, secrets: SecretKeeper, upstream: Upstream) -> Office:
        settings = self.settings
        return Office(
            routing=self.directory.routing,
            secrets=secrets,
            upstream=upstream,
            tell=self._tell,
            mismatch=Mismatch(settings.policy.from_mismatch),
            profile_url=settings.web.public_url if settings.web.address else "",
            mode=Mode(settings.delivery.mode),
            patience=settings.delivery.patience,
        )

    async def _start(self) -> None:
        settings, closing = self.settings, self._closing
        if faults := check_modes(settings):
            raise Faults(faults)
        database = await open_database(settings.database_path)
        closing.push_async_callback(database.close)
        vault = await Vault.open(
            SecretTable(database), key_source(settings.secrets.master_key, settings.state_dir, os.environ)
        )
        secrets = SecretKeeper(vault, os.environ, settings.state_dir)

        self.directory = await LiveDirectory.open(settings, self._settings_file, self._directory_changed)
        _warn(self.directory)
        _start_task(closing, self.directory.watch())

        hostname = settings.effective_hostname
        upstream = Upstream(hostname, _timeouts(settings))
        closing.push_async_callback(upstream.aclose)

        queue = Queue(database, owner=f"{hostname}/{os.getpid()}/{self._since.timestamp()}")
        closing.push_async_callback(queue.aclose)
        history = History(queue)
        closing.push_async_callback(history.flush)
        housekeeping = Housekeeping(
            queue,
            settings.state_dir,
            free_floor=settings.delivery.free_space,
            keep_seconds=settings.log.keep_messages,
        )
        office = self._office(secrets, upstream)
        schedule = Schedule.of(settings.delivery)
        accounts = Accounts(schedule, await queue.holds())
        postman = Postman(office, queue, accounts, schedule, Reporter(hostname, schedule))
        self.dispatcher = Dispatcher(postman)
        closing.push_async_callback(self._end_deliveries, postman)
        for job in (history.run, housekeeping.run, self.dispatcher.run):
            _start_task(closing, job())

        desk = Desk(hostname, office, postman, history, lambda: housekeeping.has_room)
        self.listeners = Listeners(settings.listeners, settings.limits, desk)
        queue_desk = StoreQueueDesk(
            queue, self.directory.routing, accounts, changed=self.dispatcher.wake, connections=upstream.connections
        )
        parts = Parts(
            settings=settings,
            directory=self.directory,
            vault=vault,
            secrets=secrets,
            queue=queue,
            desk=queue_desk,
            status=self.status,
        )
        control = ControlSocket(settings.control_socket, Operations(parts), settings.state_dir)
        await control.start()
        closing.push_async_callback(control.stop)
        await self.listeners.open()
        closing.push_async_callback(self.listeners.stop, self._stop_seconds)


def run(settings: Settings, settings_file: Path | None) -> int:
    """Run a relay until SIGTERM or SIGINT, and return its exit code; SIGHUP reloads. What is wrong goes to stderr."""
    log.configure(settings.log.format, settings.log.level)
    os.umask(0o077)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(Service(settings, settings_file)))
    except START_ERRORS as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where that is installed (it takes a third to three quarters off the CPU per message)."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await service.start()
    loop.add_signal_handler(signal.SIGHUP, service.reload)
    await stop.wait()
    await service.stop()


def _start_task(closing: AsyncExitStack, coroutine: Any) -> None:
    task = asyncio.get_running_loop().create_task(coroutine)
    closing.callback(task.cancel)


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(connect=settings.delivery.connect_timeout, reply=settings.delivery.reply_timeout)


def _tell_directory(directory: LiveDirectory) -> None:
    if directory.faults:
        faults = [str(fault) for fault in directory.faults]
        log.broken("the directory has faults; the one before stays in effect", faults=faults)
        return
    _warn(directory)
    log.changed(what="directory", profiles=sum(1 for _ in directory.routing().directory.profiles()))


def _warn(directory: LiveDirectory) -> None:
    for warning in directory.warnings:
        log.warned(str(warning))
