"""A relay that counts its calls: what a message costs, and which files it enters.

Calls are what a profiler of the loop's thread counts (https://docs.python.org/3/library/profile.html), built-in
functions too. They do not depend on how fast or busy a machine is, as the processor's time does.
"""

import cProfile
import pstats
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.relay import Relay
from tests.peers.system import wait_until

_BEGIN, _END = signal.SIGUSR1, signal.SIGUSR2
_PACKAGE = "/relay/"


def install(record: str) -> None:
    """Count from one signal to the next in this process, and write what was counted; what a relay calls first."""
    profile, file = cProfile.Profile(), Path(record)

    def begin(*_: Any) -> None:
        file.with_suffix(".begun").touch()
        profile.enable()

    def end(*_: Any) -> None:
        profile.disable()
        profile.dump_stats(file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)

    signal.signal(_BEGIN, begin)
    signal.signal(_END, end)


@dataclass(frozen=True, slots=True)
class Calls:
    """How often each function was called: by its file below `relay/` ("" for all others)."""

    by_file: Counter[str]

    @property
    def total(self) -> int:
        """All of them."""
        return self.by_file.total()

    def entered(self, least: int) -> set[str]:
        """The files of `relay/` with at least so many calls."""
        return {file for file, calls in self.by_file.items() if file and calls >= least}


class Counting:
    """Counts the calls of a relay that was begun with `install` and this record."""

    def __init__(self, relay: Relay, record: Path) -> None:
        self._relay = relay
        self._record = record

    def begin(self) -> None:
        """Count from now on."""
        self._tell(_BEGIN, self._record.with_suffix(".begun"))

    def end(self) -> Calls:
        """Count no more, and return what was counted."""
        self._tell(_END, self._record)
        found: Counter[str] = Counter()
        stats: Any = pstats.Stats(str(self._record))
        for (file, _, _), (_, calls, *_) in stats.stats.items():
            found[file.rpartition(_PACKAGE)[2] if _PACKAGE in file and "site-packages" not in file else ""] += calls
        return Calls(found)

    def _tell(self, number: signal.Signals, file: Path) -> None:
        self._relay.signal(number)

        def is_done() -> bool:
            # A handler runs when the loop has something to do.
            self._relay.greets()
            return file.exists()

        wait_until(is_done, f"the relay after {number.name}")
