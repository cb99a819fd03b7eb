"""A relay whose `relay_loop_lag_seconds` is the most processor time that one round of its event loop took.

How late a loop is depends on who else works on the machine; what it does between two looks at the network does not.
`install` runs in its process, before the program begins.
"""

import asyncio
import time

from relay.system.event_loop import LoopLag


def install() -> None:
    """Let the loop measure each of its rounds."""

    async def watch(self: LoopLag) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self._lag.note(now - last, time.monotonic())
            last = now

    setattr(LoopLag, watch.__name__, watch)
