"""The machine that figures come from: without it they say nothing."""

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

from tests.peers.packages import find_program
from tests.peers.system import run

_SYNCS = 30
_BUSY = 0.5  # processes that want to run, besides ours


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures depend on. `sync`: milliseconds for 2 KB to be on disk; `load`: others that want to run."""

    processor: str
    cores: int
    kernel: str
    python: str
    libraries: str
    postfix: str
    sync: float
    load: float

    @property
    def is_busy(self) -> bool:
        """Whether others use it, so that the figures are rough."""
        return self.load > _BUSY

    def text(self) -> str:
        """Return it as one paragraph."""
        return (
            f"{self.cores} cores ({self.processor}), Linux {self.kernel}, Python {self.python}, {self.libraries}, "
            f"Postfix {self.postfix}; 2 KB are on disk after {self.sync:.2f} ms; load of others {self.load:.1f}"
        )


def look() -> Machine:
    """Look at this machine."""
    names = ("aiosmtpd", "aiosmtplib", "uvloop")
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=_python(),
        libraries=", ".join(f"{name} {version(name)}" for name in names),
        postfix=_postfix(),
        sync=_sync(),
        load=os.getloadavg()[0],
    )


def _python() -> str:
    """Return its version, and whether all of it is in one program: calls into a library of its own take longer."""
    is_apart = "/libpython" in Path("/proc/self/maps").read_text()
    return f"{platform.python_version()} ({'libpython apart' if is_apart else 'in one piece'})"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.machine()


def _postfix() -> str:
    path = find_program("postconf")
    return run([path, "-hd", "mail_version"]).out.strip() if path else "is not installed"


def _sync() -> float:
    """Return how long 2 KB at the end of a file take to be on the disk where the relays' queues are."""
    seconds = []
    with TemporaryFile() as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 2048)
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - start)
    return median(seconds) * 1000
