"""What a worker has to know when it begins: the supervisor writes it to its stdin.

SECURITY: what is unpickled here was written by a process of our own program, into a pipe that nobody else can reach.
"""

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.config.settings import Settings
from relay.store.cluster.identity import Place

_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """A worker's place and its means.

    `supervisor` is the process that starts it. `descriptors` are those of its listening sockets, by address, and
    `line` that of the line to the supervisor. `beat_seconds`: how long it may be silent before it counts as dead.
    `store`: which file the others have open as their store (device and number), None for the first worker, or where it
    is no file.
    """

    supervisor: int
    settings: Settings
    settings_file: Path | None
    place: Place
    line: int
    descriptors: Mapping[str, tuple[int, ...]]
    beat_seconds: float
    store: tuple[int, int] | None = None

    @property
    def as_octets(self) -> bytes:
        """What `read_bootstrap` reads."""
        return pickle.dumps(self)

    @property
    def inherited(self) -> tuple[int, ...]:
        """All descriptors that go with it."""
        return (self.line, *sorted({number for numbers in self.descriptors.values() for number in numbers}))


def end_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, and end where that is over already.

    A relay that is started right after a kill finds its addresses free, and nobody else at its store. What is under way
    is what a kill of the whole relay leaves: it would be the same with one process. The signal comes when the thread
    that started us ends: the supervisor's main thread. Only Linux has this; elsewhere the lost line to the supervisor
    ends a worker a moment later.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before it was asked for
        sys.exit(1)


def read_bootstrap() -> Bootstrap:
    """Return what the supervisor wrote."""
    bootstrap = pickle.loads(sys.stdin.buffer.read())  # noqa: S301  see the top
    assert isinstance(bootstrap, Bootstrap)
    return bootstrap
