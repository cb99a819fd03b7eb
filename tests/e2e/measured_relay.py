"""A relay whose `relay_loop_lag_seconds` is the most processor time that one round of its event loop took.

How late a loop is depends on who else works on the machine; what it does between two looks at the network does not.
"""

import asyncio
import sys
import time

from relay.lag import LoopLag


def main(*arguments: str) -> int:
    """Run `relay` with these arguments."""

    async def watch(self: LoopLag) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self._lag.note(now - last, time.monotonic())
            last = now

    setattr(LoopLag, watch.__name__, watch)
    from relay.cli.app import run  # noqa: PLC0415 - after the change

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
