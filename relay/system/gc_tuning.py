"""Python's garbage collector while a directory is made: a full collection looks at every object there is, in one step.

With ten thousand agents that step is some 50 to 100 ms, in which no message moves, and a new directory brings on
several. So the collector rests meanwhile, and what is alive then is set aside: a directory holds no cycles, and goes
when nobody has it any more. Garbage that happens to be set aside with it is looked for when much more is set aside
than before: that look is such a step itself, so it is not taken for nothing.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.system.import_tuning import loading

_TIMES = 100  # counting what is set aside takes a moment, too: some 5 to 15 ms
_GROWTH = 1.25


class Collector:
    """The process's garbage collector, for one who makes many objects again and again."""

    def __init__(self) -> None:
        self._times = 0
        self._most = 0.0  # objects set aside without a reason to look through them

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Let it rest, then set aside what is alive, and now and then look through what was set aside before."""
        with loading():  # whoever is cancelled meanwhile must not leave it at rest for ever
            try:
                yield
            finally:
                self._times += 1
                if self._times % _TIMES == 0 and gc.get_freeze_count() > self._most:
                    await asyncio.to_thread(_look_everywhere)
                    self._most = 0.0
        self._most = self._most or gc.get_freeze_count() * _GROWTH


def _look_everywhere() -> None:
    gc.unfreeze()
    gc.collect()
