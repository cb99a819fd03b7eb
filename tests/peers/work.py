"""How much work something is, counted and not timed: the same on every machine, however busy it is."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Work:
    """The calls of functions, of Python and of C, that one thread made; `most`: within one turn of its loop."""

    calls: int = 0
    most: int = 0


@contextmanager
def counted() -> Iterator[Work]:
    """Count the calls that this thread makes meanwhile."""
    work = Work()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event in {"call", "c_call"}:
            work.calls += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield work
    finally:
        sys.setprofile(before)


@asynccontextmanager
async def counted_turns() -> AsyncIterator[Work]:
    """Count the calls of the loop's thread, and the most of them between two turns of somebody who always wants one."""
    with counted() as work:

        async def watch() -> None:
            last = work.calls
            while True:
                await asyncio.sleep(0)
                work.most, last = max(work.most, work.calls - last), work.calls

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        yield work
        await asyncio.sleep(0)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def calls(do: Callable[[], object]) -> int:
    """Return how many calls something makes."""
    with counted() as work:
        do()
    return work.calls


def growth(make: Callable[[int], Callable[[], object]], size: int) -> float:
    """Return how many times as many calls four times as much is: 4 where each of a kind costs the same, 16 where it
    costs as much as there are others. `make` prepares what is done with so many."""
    for one in (make(1), make(size)):
        one()  # what is made once, and kept
    return calls(make(4 * size)) / calls(make(size))
