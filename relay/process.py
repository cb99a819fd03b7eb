"""The process of `relay serve`: its event loop, its signals, and what it says to whoever started it."""

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path

from relay import descriptors, log
from relay.directory.apart import Apart
from relay.loading import loading
from relay.service import START_ERRORS, Service
from relay.settings import Settings
from relay.systemd import from_environment

# More objects than before: the youngest, and looks of the younger generations. A message leaves next to no cycles
# behind, so that most looks find nothing.
_COLLECT_AFTER = (10_000, 20, 20)


def run(settings: Settings, settings_file: Path | None, apart: Apart) -> int:
    """Run a relay until SIGTERM or SIGINT, and return its exit code; SIGHUP reloads. What is wrong goes to stderr."""
    log.configure(settings.log.format, settings.log.level)
    os.umask(0o077)
    descriptors.allow(settings.limits.connections)
    systemd = from_environment(os.environ, os.getpid())
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(Service(settings, settings_file, systemd=systemd, read_directory=apart.read)))
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
    loop.add_signal_handler(signal.SIGHUP, service.reload)
    with loading():
        await service.start()
    gc.set_threshold(*_COLLECT_AFTER)
    if (link := await service.first_link()) is not None:
        print(
            f"there is no administrator yet; this link, good once and for 24 hours, makes one: {link}", file=sys.stderr
        )
    await stop.wait()
    await service.stop()
