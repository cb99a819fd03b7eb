"""The process of `relay serve`: its event loop, its signals, and what it says to whoever started it.

With `workers` above 1 that is the supervisor (`relay/cluster/supervisor.py`), and each worker (`relay/app/worker.py`)
runs its service by what is here: the service is one of several, and the supervisor stands for it before systemd.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from relay import log
from relay.app.service import START_ERRORS, Service
from relay.config.settings import Settings
from relay.directory.reader_process import ReaderProcess
from relay.system.process import fill_standard_streams, loading, make_uninheritable, raise_descriptor_limit
from relay.system.systemd import Systemd, from_environment
from relay.system.terminal import is_terminal

if TYPE_CHECKING:
    from relay.cluster.bootstrap import Bootstrap

# More objects than before: the youngest, and looks of the younger generations. A message leaves next to no cycles
# behind, so that most looks find nothing.
_COLLECT_AFTER = (10_000, 20, 20)


def run(settings: Settings, settings_file: Path | None, apart: ReaderProcess) -> int:
    """Run a relay until SIGTERM or SIGINT, and return its exit code; SIGHUP reloads. What is wrong goes to stderr."""
    prepare(settings)
    systemd = from_environment(os.environ, os.getpid())
    service = Service(settings, settings_file, systemd=systemd, read_settings=apart.settings, read_directory=apart.read)
    return run_to_end(serve(service, asyncio.Event()))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where that is installed (it takes a third to three quarters off the CPU per message)."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def prepare(settings: Settings) -> None:
    """Set up this process before anything is opened: its descriptors, its log, the mode of its files."""
    fill_standard_streams()
    make_uninheritable()
    log.configure(settings.log.format, settings.log.level)
    log.print_behind()
    os.umask(0o077)
    raise_descriptor_limit(settings.limits.connections)


def run_to_end(serving: Coroutine[None, None, None]) -> int:
    """Run to the end, and return the exit code. What is wrong at the start goes to stderr."""
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serving)
    except START_ERRORS as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def serve(service: Service, stop: asyncio.Event, *, minds_interrupt: bool = True) -> None:
    """Run a relay until SIGTERM, or until `stop` is set. Without `minds_interrupt` Ctrl-C is for somebody else."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set if minds_interrupt else lambda: None)
    loop.add_signal_handler(signal.SIGHUP, service.reload)
    with loading():
        await service.start()
    gc.set_threshold(*_COLLECT_AFTER)
    if is_terminal(sys.stderr):
        await service.greet_administrator(sys.stderr)
    await stop.wait()
    await service.stop()


def work(bootstrap: "Bootstrap", apart: ReaderProcess) -> int:
    """Run one worker of a relay until SIGTERM, or until the supervisor is gone; return the exit status."""
    prepare(bootstrap.settings)
    return run_to_end(_work(bootstrap, apart))


async def _work(bootstrap: "Bootstrap", apart: ReaderProcess) -> None:
    # Most relays have one process, which needs nothing of these.
    from relay.app.clustered import Clustered  # noqa: PLC0415
    from relay.cluster.ipc import IpcConnection  # noqa: PLC0415
    from relay.cluster.peers import Peers  # noqa: PLC0415

    line = await IpcConnection.over(socket.socket(fileno=bootstrap.line))
    peers = Peers(line, bootstrap.place, bootstrap.store)
    # The supervisor is told what a service tells systemd.
    systemd = Systemd(
        watchdog_seconds=bootstrap.beat_seconds,
        descriptors=bootstrap.descriptors,
        tell_instead=lambda lines: line.tell({"to": "supervisor", "lines": lines}),
    )
    service = Service(
        bootstrap.settings,
        bootstrap.settings_file,
        systemd=systemd,
        read_settings=apart.settings,
        read_directory=apart.read,
        cluster=Clustered(peers),
    )
    stop = asyncio.Event()
    hearing = asyncio.create_task(peers.listen(stop.set))
    try:
        # Ctrl-C reaches all processes of a relay: the supervisor says when a worker ends.
        await serve(service, stop, minds_interrupt=False)
    finally:
        hearing.cancel()
        line.close()
