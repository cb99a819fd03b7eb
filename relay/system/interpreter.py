"""Python itself: when its garbage collector looks at everything, and when a thread lets others on.

A full collection looks at every object there is, in one step. While modules are loaded the collector rests: what is
loaded stays, so that every look is for nothing; a start of the service has a hundred of them, some through all there
is, and they are a tenth of it.

So it does while a directory is made. With ten thousand agents that step is some 50 to 100 ms, in which no message
moves, and a new directory brings on several. What is alive then is set aside: a directory holds no cycles, and goes
when nobody has it any more. Garbage that happens to be set aside with it is looked for when much more is set aside
than before: that look is such a step itself, so it is not taken for nothing.

A thread that works lets others on after 5 ms, and the event loop asks some thirty times for a message, so that it takes
150 ms while a thread works. With shorter turns it takes a tenth.

Commands load this first of all: it imports asyncio only where it is used.
"""

import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_ORDINARY = 0.005  # Python's own
_SHORT = 0.0005  # each change of turns costs some microseconds
_TIMES = 100  # counting what is set aside takes a moment, too: some 5 to 15 ms
_GROWTH = 1.25


@contextmanager
def loading() -> Iterator[None]:
    """Let the collector rest within, and afterwards never look at what is there by then."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


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
                    import asyncio  # noqa: PLC0415

                    await asyncio.to_thread(_look_everywhere)
                    self._most = 0.0
        self._most = self._most or gc.get_freeze_count() * _GROWTH


def _look_everywhere() -> None:
    gc.unfreeze()
    gc.collect()


async def in_short_turns(job: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Run a long job in a thread, and let the event loop on every half millisecond.

    Where several go on at once, the first that ends ends the short turns for all.
    """
    import asyncio  # noqa: PLC0415

    sys.setswitchinterval(_SHORT)
    try:
        return await asyncio.to_thread(job, *args, **named)
    finally:
        sys.setswitchinterval(_ORDINARY)
