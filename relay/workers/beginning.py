"""What a worker has to know when it begins: the supervisor writes it to its stdin.

SECURITY: what is unpickled here was written by a process of our own program, into a pipe that nobody else can reach.
"""

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A worker's place and its means.

    `run` names this start of the relay, and `life` counts the workers that had this `index`, out of `total`.
    `descriptors` are those of its listening sockets, by address, and `line` that of the line to the supervisor.
    `beat_seconds`: how long it may be silent before it counts as dead. `store`: which file the others have open as
    their store (device and number), None for the first worker, or where it is no file.
    """

    settings: Settings
    settings_file: Path | None
    run: str
    index: int
    total: int
    life: int
    line: int
    descriptors: Mapping[str, tuple[int, ...]]
    beat_seconds: float
    store: tuple[int, int] | None = None

    @property
    def as_octets(self) -> bytes:
        """What `read_beginning` reads."""
        return pickle.dumps(self)

    @property
    def inherited(self) -> tuple[int, ...]:
        """All descriptors that go with it."""
        return (self.line, *sorted({number for numbers in self.descriptors.values() for number in numbers}))


def read_beginning() -> Beginning:
    """Return what the supervisor wrote."""
    beginning = pickle.loads(sys.stdin.buffer.read())  # noqa: S301  see the top
    assert isinstance(beginning, Beginning)
    return beginning
