"""The process of `relay serve`: its event loop, its signals, and what it says to whoever started it.

With `workers` above 1 that is the supervisor (`relay/cluster/supervisor.py`), and each worker (`relay/app/worker.py`)
runs its service by what is here.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path

from relay import log
from relay.app.service import START_ERRORS, Service
from relay.config.settings import Settings
from relay.directory.reader_process import ReaderProcess
from relay.system import descriptors
from relay.system.interpreter import loading
from relay.system.systemd import from_environment
from relay.system.terminal import is_terminal

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
    descriptors.keep_standard()
    descriptors.keep_to_ourselves()
    log.configure(settings.log.format, settings.log.level)
    log.print_behind()
    os.umask(0o077)
    descriptors.allow(settings.limits.connections)


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
