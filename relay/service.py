"""The service: the one place where everything is put together, started and stopped.

It reads from top to bottom as the house is built: store, vault, directory, upstream, desk, listeners, control socket.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relay import __version__, log
from relay.control.operations import Operations
from relay.control.parts import Parts
from relay.control.socket import ControlSocket, ControlSocketError
from relay.delivery.desk import Desk
from relay.delivery.journey import Journey
from relay.delivery.office import Office
from relay.delivery.telling import tell_log
from relay.directory.live import LiveDirectory
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
        self.directory: LiveDirectory
        self.listeners: Listeners

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

    async def reload(self) -> None:
        """Read the directory now (SIGHUP)."""
        await self.directory.reload()

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
            "queue": {},
            "oldest": None,
            "accounts_held": [],
        }

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

        self.directory = await LiveDirectory.open(settings, self._settings_file, _tell_directory)
        _warn(self.directory)
        _start_task(closing, self.directory.watch())

        hostname = settings.effective_hostname
        upstream = Upstream(hostname, _timeouts(settings))
        closing.push_async_callback(upstream.aclose)

        office = Office(
            routing=self.directory.routing,
            secrets=secrets,
            upstream=upstream,
            tell=self._tell,
            mismatch=Mismatch(settings.policy.from_mismatch),
            profile_url=settings.web.public_url if settings.web.address else "",
        )
        self.listeners = Listeners(settings.listeners, settings.limits, Desk(hostname, office))
        parts = Parts(settings=settings, directory=self.directory, vault=vault, secrets=secrets, status=self.status)
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
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
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
