"""A library of our own before the C library of a relay (LD_PRELOAD): calls fail by a seed, and writes are recorded.

The library is `interposed.c`. It sees what goes through the C library, and so what SQLite, uvloop and Python do alike;
not what is written through a mapping: the index of the WAL, which nobody needs after a restart.
"""

import atexit
import ctypes
import functools
import mmap
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.peers.packages import program
from tests.peers.system import run

# For the mark `needs`.
NEEDS = ("gcc", "stdio.h")
# As the enumerations of interposed.c.
KINDS = ("unknown", "other", "store", "spool", "files", "folder", "log", "client", "upstream", "control", "pages")
CALLS = ("write", "read", "sync", "open", "rename", "unlink", "link", "truncate", "accept", "connect")
# What can be told to fail.
FILES = KINDS[2:7]
SOCKETS = KINDS[7:]
_MOST_FAULTS = 8
_MILLION = 1_000_000
_SOURCE = Path(__file__).with_name("interposed.c")


class _Control(ctypes.Structure):
    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("smtp_port", ctypes.c_uint64),
        ("pages_port", ctypes.c_uint64),
        ("upstream_port", ctypes.c_uint64),
        ("lies", ctypes.c_uint64),
        ("log_size", ctypes.c_uint64),
        ("log_used", ctypes.c_uint64),
        ("rates", ctypes.c_uint64 * len(KINDS)),
        ("calls", ctypes.c_uint64 * len(CALLS) * len(KINDS)),
        ("faults", ctypes.c_uint64 * _MOST_FAULTS * len(CALLS) * len(KINDS)),
        ("is_ready", ctypes.c_uint32),
        ("lock", ctypes.c_byte * 128),
    )


class Interposed:
    """What stands before the calls of a relay whose state is in `state_dir`; its own files are in `folder`.

    `record`: how many octets the record of writes may take; 0 for none. A file takes only the room that is used.
    """

    def __init__(
        self,
        folder: Path,
        state_dir: Path,
        *,
        seed: int = 0,
        smtp: int = 0,
        pages: int = 0,
        upstream: int = 0,
        record: int = 0,
    ) -> None:
        self._record_file = folder / "record" if record else None
        control_file = folder / "control"
        control = _mapped(control_file, ctypes.sizeof(_Control))
        self._control = _Control.from_buffer(control)
        self._control.seed, self._control.log_size = seed, record
        self._control.smtp_port, self._control.pages_port, self._control.upstream_port = smtp, pages, upstream
        self._environment = {
            "LD_PRELOAD": str(_library()),
            "INTERPOSED_CONTROL": str(control_file),
            "INTERPOSED_STATE": str(state_dir),
        }
        if self._record_file:
            with self._record_file.open("wb") as file:
                file.truncate(record)
            self._environment["INTERPOSED_RECORD"] = str(self._record_file)

    @property
    def before(self) -> tuple[str, ...]:
        """The command line of what runs a relay behind it, and becomes it (`Relay.start`)."""
        return ("env", *(f"{name}={value}" for name, value in self._environment.items()))

    def seed(self, seed: int) -> None:
        """Let other calls fail from now on."""
        self._control.seed = seed

    def fail(self, rates: Mapping[str, float]) -> None:
        """Let this share of the reads and writes of each kind fail from now on, and none of the others.

        Of the other calls, which are few, five times as many fail.
        """
        for index, kind in enumerate(KINDS):
            self._control.rates[index] = int(rates.get(kind, 0) * _MILLION)

    def lie(self) -> None:
        """Let every sync do nothing from now on, and say that it has."""
        self._control.lies = 1

    def faults(self) -> Counter[str]:
        """How many calls have failed, by names such as "store sync"."""
        found = self._control.faults
        return Counter(
            {
                f"{kind} {call}": count
                for row, kind in enumerate(KINDS)
                for column, call in enumerate(CALLS)
                if (count := sum(found[row][column]))
            }
        )

    def calls(self) -> Counter[str]:
        """How many calls there were, by the same names, of those that can be told to fail."""
        found = self._control.calls
        return Counter(
            {
                f"{kind} {call}": found[row][column]
                for row, kind in enumerate(KINDS)
                for column, call in enumerate(CALLS)
                if found[row][column]
            }
        )

    def record(self) -> bytes:
        """Everything that was recorded up to now."""
        assert self._record_file is not None
        with self._record_file.open("rb") as file:
            return file.read(self._control.log_used)


def _mapped(path: Path, size: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)


@functools.cache
def _library() -> Path:
    """Compile it, once in a process of the run."""
    folder = Path(tempfile.mkdtemp(prefix="interposed-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = folder / "interposed.so"
    flags = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror")
    done = run([program("gcc"), *flags, "-o", str(built), str(_SOURCE)])
    assert done.status == 0, done.text
    return built
