"""Turns clients away whose worker cannot begin, as while the store is away: they try again, and may meet another.

Without it they would wait in the queue of its socket for as long as that takes.
"""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

from relay.listener.replies import NOT_READY

_GREETING = f"{NOT_READY}\r\n".encode()
_AT_ONCE = 100


class TurningAway:
    """The sockets of one worker, of which nobody else takes clients. `begin` and `end` may be called at any time."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        self._is_on = False

    def begin(self) -> None:
        """Turn away who waits and who comes, until `end`."""
        if not self._is_on:
            self._is_on = True
            for sock in self._sockets:
                sock.setblocking(False)
                asyncio.get_running_loop().add_reader(sock, _turn_away, sock)

    def end(self) -> None:
        """Leave clients to the worker."""
        if self._is_on:
            self._is_on = False
            for sock in self._sockets:
                asyncio.get_running_loop().remove_reader(sock)


def _turn_away(sock: socket.socket) -> None:
    for _ in range(_AT_ONCE):
        try:
            client, _ = sock.accept()
        except OSError:  # nobody is there any more
            return
        with client, suppress(OSError):
            client.setblocking(False)
            client.send(_GREETING)
