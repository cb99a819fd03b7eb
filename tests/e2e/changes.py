"""Changes to the directory that some nodes share, made by chance at one of them or another, in the middle of a bad day.

A command that a node or the database cannot carry out just now is said again at another node.
"""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.in_threads import InThreads
from tests.peers.relay import Relay

_PAUSE = 0.3  # before it is said again


@dataclass(frozen=True, slots=True)
class Change:
    """A command, and how many seconds after the start it is said first.

    `is_made` are the words, if any, by which it is refused where it was made already: its answer was lost.
    """

    at: float
    words: tuple[str, ...]
    is_made: str | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return " ".join(self.words[:3])


class Changes(InThreads):
    """Makes them one after the other; the block ends when all are made.

    `made` is when each was (`time.monotonic`), by its name; `refusals` are what was said of those that could not be
    made just then.
    """

    def __init__(self, relays: Sequence[Relay], changes: Sequence[Change], seed: int) -> None:
        super().__init__()
        self.made: dict[str, float] = {}
        self.refusals: list[str] = []
        self._relays = relays
        self._changes = changes
        self._chance = random.Random(seed)
        self._threads = [threading.Thread(target=self._make_all, daemon=True)]

    def _make_all(self) -> None:
        start = time.monotonic()
        for change in self._changes:
            time.sleep(max(0.0, start + change.at - time.monotonic()))  # the plan of the day
            while not self._is_made(change):
                time.sleep(_PAUSE)
            self.made[change.name] = time.monotonic()

    def _is_made(self, change: Change) -> bool:
        done = self._chance.choice(self._relays).command(*change.words)
        if done.status == 0 or (change.is_made and change.is_made in done.err):
            return True
        self.refusals.append(done.err)
        return False
