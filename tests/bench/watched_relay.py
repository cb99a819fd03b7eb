"""A relay that writes down how long its event loop was kept: `python watched_relay.py FILE serve --config FILE`.

The whole program runs as it is, with one more task in its loop, that wants to run every millisecond. Each time that
it comes later than that, it writes when (by the clock that all processes share), how late, and how much processor
time this process used meanwhile, in seconds. Only what is in both is a step of ours: a loop that waits while the
machine is busy with others uses none, and threads that use some and let the loop run make nobody late.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import TextIO

from relay.app import process

_EVERY = 0.001
_WORTH_A_LINE = 0.004


async def _watch(file: TextIO) -> None:
    last, used = time.monotonic(), time.process_time()
    while True:
        await asyncio.sleep(_EVERY)
        now, used_now = time.monotonic(), time.process_time()
        late = now - last - _EVERY
        if late > _WORTH_A_LINE:
            file.write(f"{now} {late} {used_now - used}\n")
            file.flush()
        last, used = now, used_now


def main(record: str, *arguments: str) -> int:
    """Run `relay` with these arguments; the record is a file."""
    make_loop = process.new_event_loop
    file = Path(record).open("w")  # noqa: SIM115 - for as long as the process lives
    watchers = []

    def watched_loop() -> asyncio.AbstractEventLoop:
        loop = make_loop()
        watchers.append(loop.create_task(_watch(file)))
        return loop

    process.new_event_loop = watched_loop
    from relay.cli.app import run  # noqa: PLC0415

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
