"""A relay one part of which is dead once a file is there: the part, the file, and then the arguments of `relay`."""

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from relay.delivery.queue_runner import QueueRunner
from relay.listener.server import Acceptor


def main(part: str, file: str, *arguments: str) -> int:
    """Run `relay` with these arguments."""
    {"queue runner": _hang_runner, "listener": _deafen_listener}[part](file)
    from relay.cli.app import run  # noqa: PLC0415 - after the change

    return run(arguments)


def _hang_runner(file: str) -> None:
    look = QueueRunner._look

    async def look_or_hang(self: QueueRunner) -> None:
        if Path(file).exists():
            await asyncio.Event().wait()
        await look(self)

    setattr(QueueRunner, look.__name__, look_or_hang)


def _deafen_listener(file: str) -> None:
    """Shut the sockets down behind the back of whoever listens at them."""
    is_stuck = Acceptor.is_stuck

    def shut_and_ask(self: Acceptor) -> bool:
        if Path(file).exists():
            # At the second look it is shut already.
            with suppress(OSError), socket.socket(fileno=os.dup(self._sock.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)
        return is_stuck(self)

    setattr(Acceptor, is_stuck.__name__, shut_and_ask)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
