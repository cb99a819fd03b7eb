"""The event loop: tasks that end with what was opened for them, and how late the loop is.

How late it is, every client has to wait while the loop does something else. A timer rings again and again; how much too
late it rings is a sample. The least that matters is told by many samples: one finds of a step only what was left of it
when the timer was due.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from relay import log

_PERIOD = 0.05  # seconds between two samples; each costs some ten microseconds
_WINDOW = 60.0  # seconds that the greatest is remembered


class Lag:
    """The greatest lag within the last minute. All times are in seconds, and `now` never goes back."""

    def __init__(self) -> None:
        # The newest sample, and before it only greater ones: whatever is older and less can never be the greatest.
        self._samples: deque[tuple[float, float]] = deque()

    def note(self, late: float, now: float) -> None:
        """Take a sample."""
        while self._samples and self._samples[-1][1] <= late:
            self._samples.pop()
        self._samples.append((now, late))
        self._forget(now)

    def greatest(self, now: float) -> float:
        """Return the greatest sample of the last minute; 0 where there is none."""
        self._forget(now)
        return self._samples[0][1] if self._samples else 0.0

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0][0] < now - _WINDOW:
            self._samples.popleft()


class LoopLag:
    """The lag of the running event loop, once `watch` runs as a task of it."""

    def __init__(self) -> None:
        self._lag = Lag()

    @property
    def seconds(self) -> float:
        """The greatest of the last minute."""
        return self._lag.greatest(time.monotonic())

    async def watch(self) -> None:
        """Measure for ever."""
        while True:
            due = time.monotonic() + _PERIOD
            await asyncio.sleep(_PERIOD)
            now = time.monotonic()
            self._lag.note(max(0.0, now - due), now)


class TaskExitStack(AsyncExitStack):
    """An exit stack that runs tasks, too: each ends when its turn comes."""

    def run(self, job: Coroutine[Any, Any, None]) -> None:
        """Let a job go on until everything that was opened after this is closed."""
        task = asyncio.get_running_loop().create_task(job)
        task.add_done_callback(_tell_end)
        self.callback(task.cancel)


def _tell_end(task: "asyncio.Task[None]") -> None:
    """Tell of a part that should go on for ever and has ended."""
    if not task.cancelled() and task.exception() is not None:
        log.broken("a part of the relay ended by a fault in Relay; restart it", exc_info=task.exception())
