"""A relay that is watched from inside by `watched_relay.py`, and the longest steps that its event loop made."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers.relay import Relay
from tests.peers.system import wait_until

_PROGRAM = Path(__file__).with_name("watched_relay.py")
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A relay that runs, and what is written down of it."""

    relay: Relay
    record: Path

    def longest_step(self, do: Callable[[], Any], afterwards: float) -> float:
        """Return the seconds of the longest step while something is done, and for so many seconds behind it."""
        begun = time.monotonic()
        do()
        time.sleep(afterwards)
        steps = [0.0]
        for line in self.record.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                at, late, used = map(float, line.split())
                if at >= begun:
                    steps.append(min(late, used))
        return max(steps)

    def seconds(self, do: Callable[[], Any]) -> float:
        """Return how long the relay takes for something: what its client waits, or its processor time where that is
        less, for a machine that is busy with others makes everybody wait."""
        used, begun = self.relay.cpu_seconds, time.monotonic()
        do()
        return min(time.monotonic() - begun, self.relay.cpu_seconds - used)


def watched(relay: Relay) -> Watched:
    """Start a relay."""
    record = relay.folder / "record"
    relay.launch(sys.executable, str(_PROGRAM), str(record), *relay.serving)
    wait_until(relay.greets, "the relay's greeting", _START_SECONDS)
    return Watched(relay, record)
