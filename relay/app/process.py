"""The process of `relay serve`: its event loop, its signals, and what it says to whoever started it.

With `workers` above 1 that is the supervisor (`relay/cluster/supervisor.py`), and this is the process of each worker.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path

from relay import log
from relay.app.service import START_ERRORS, Service
from relay.cluster.bootstrap import Bootstrap
from relay.cluster.ipc import IpcConnection
from relay.cluster.peers import Peers
from relay.config.settings import Settings
from relay.directory.reader_process import ReaderProcess
from relay.system import descriptors
from relay.system.interpreter import loading
from relay.system.systemd import Systemd, from_environment
from relay.system.terminal import is_terminal

# More objects than before: the youngest, and looks of the younger generations. A message leaves next to no cycles
# behind, so that most looks find nothing.
_COLLECT_AFTER = (10_000, 20, 20)


def run(settings: Settings, settings_file: Path | None, apart: ReaderProcess) -> int:
    """Run a relay until SIGTERM or SIGINT, and return its exit code; SIGHUP reloads. What is wrong goes to stderr."""
    _prepare(settings)
    systemd = from_environment(os.environ, os.getpid())
    service = Service(settings, settings_file, systemd=systemd, read_settings=apart.settings, read_directory=apart.read)
    return _run(_serve(service))


def work(bootstrap: Bootstrap, apart: ReaderProcess) -> int:
    """Run one worker of a relay until SIGTERM, or until the supervisor is gone."""
    _prepare(bootstrap.settings)
    return _run(_work(bootstrap, apart))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where that is installed (it takes a third to three quarters off the CPU per message)."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _prepare(settings: Settings) -> None:
    descriptors.keep_standard()
    descriptors.keep_to_ourselves()
    log.configure(settings.log.format, settings.log.level)
    log.print_behind()
    os.umask(0o077)
    descriptors.allow(settings.limits.connections)


def _run(serving: Coroutine[None, None, None]) -> int:
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serving)
    except START_ERRORS as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _work(bootstrap: Bootstrap, apart: ReaderProcess) -> None:
    line = await IpcConnection.over(socket.socket(fileno=bootstrap.line))
    peers = Peers(
        line,
        index=bootstrap.index,
        total=bootstrap.total,
        run=bootstrap.run,
        life=bootstrap.life,
        store=bootstrap.store,
    )
    # The supervisor is told what a service tells systemd.
    systemd = Systemd(
        watchdog_seconds=bootstrap.beat_seconds,
        descriptors=bootstrap.descriptors,
        tell_instead=lambda lines: line.tell({"to": "supervisor", "lines": lines}),
    )
    try:
        await _serve(
            Service(
                bootstrap.settings,
                bootstrap.settings_file,
                systemd=systemd,
                read_settings=apart.settings,
                read_directory=apart.read,
                peers=peers,
            )
        )
    finally:
        line.close()


async def _serve(service: Service) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Ctrl-C reaches all processes of a relay: where there are several, the supervisor says when a worker ends.
    loop.add_signal_handler(signal.SIGINT, stop.set if not service.peers.are_there else lambda: None)
    loop.add_signal_handler(signal.SIGHUP, service.reload)
    alone = loop.create_task(service.peers.listen(stop.set))
    with loading():
        await service.start()
    gc.set_threshold(*_COLLECT_AFTER)
    if is_terminal(sys.stderr):
        await service.greet_administrator(sys.stderr)
    await stop.wait()
    alone.cancel()
    await service.stop()
