"""One open listening socket or more, and whether those who wait there are let in."""

import asyncio
import os
import select
import socket
from contextlib import suppress

from relay.listener.sockets import BACKLOG, Factory, bound_addresses, close


class Doorway:
    """Gives each connection its session, and counts them. `name` is for people; `server` listens, once it is there."""

    def __init__(self, name: str, factory: Factory) -> None:
        self.name = name
        self._factory = factory
        self._let_in = 0
        self._let_in_before: int | None = None
        self.server: asyncio.Server | None = None

    def __call__(self) -> asyncio.BaseProtocol:
        """Let somebody in."""
        self._let_in += 1
        return self._factory()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens now."""
        return bound_addresses(self.server) if self.server else ()

    def is_stuck(self) -> bool:
        """Whether nobody is let in though somebody waits: now and at the last call, and nobody came in between.

        The kernel takes connections for us whether we look or not, so only who waits for long tells that we do not.
        """
        if self.server is None or not self.server.is_serving():
            return True
        is_waiting = any(_is_waited_at(sock) for sock in self.server.sockets)
        was_waiting, self._let_in_before = self._let_in_before, self._let_in if is_waiting else None
        return is_waiting and was_waiting == self._let_in

    def close(self) -> None:
        """Let nobody in any more."""
        if self.server is not None:
            # Server.wait_closed() is not awaited: from Python 3.12 on it waits for every session.
            self.server.close()

    async def close_behind_the_last(self) -> None:
        """Let in who waits to be accepted, whom the kernel would cut off, and nobody else."""
        if self.server is None:
            return
        ours = [_same(sock) for sock in self.server.sockets]
        await close(self.server)
        last = [connection for sock in ours for connection in _accept_all(sock)]
        for connection in last:
            with suppress(OSError):  # the client has left
                await asyncio.get_running_loop().connect_accepted_socket(self, connection)


def _is_waited_at(sock: socket.socket) -> bool:
    """Whether a connection waits to be accepted, or can no longer be."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _same(sock: socket.socket) -> socket.socket:
    """Return the same listening socket, which lives on when the server's is closed; what a server has cannot accept."""
    return socket.socket(fileno=os.dup(sock.fileno()))


def _accept_all(sock: socket.socket) -> list[socket.socket]:
    """Accept everybody who waits at a listening socket, and close it at once: meanwhile nobody else is to come."""
    accepted: list[socket.socket] = []
    with sock, suppress(OSError):  # BlockingIOError: that was the last one
        sock.setblocking(False)
        while len(accepted) < BACKLOG:
            accepted.append(sock.accept()[0])
            accepted[-1].setblocking(False)
    return accepted
