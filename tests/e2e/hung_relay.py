"""A relay whose dispatcher hangs for ever once a file is there: the file, and then the arguments of `relay`."""

import asyncio
import sys
from pathlib import Path

from relay.delivery.dispatcher import Dispatcher


def main(file: str, *arguments: str) -> int:
    """Run `relay` with these arguments."""
    look = Dispatcher._look

    async def look_or_hang(self: Dispatcher) -> None:
        if Path(file).exists():
            await asyncio.Event().wait()
        await look(self)

    setattr(Dispatcher, look.__name__, look_or_hang)
    from relay.cli.app import run  # noqa: PLC0415 - after the change

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
