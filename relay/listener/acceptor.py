"""One listening socket, and whether those who wait there are let in."""

import asyncio
import os
import select
import socket
from contextlib import suppress

from relay.listener.sockets import BACKLOG, Factory, address_of, close, serve


class Acceptor:
    """Gives each connection its session, and counts them. `name` is for people.

    Whoever connects waits until `serve`. The socket is closed with this.
    """

    def __init__(self, name: str, sock: socket.socket, factory: Factory) -> None:
        self.name = name
        self._sock = sock
        self._factory = factory
        self._let_in = 0
        self._let_in_before: int | None = None
        self._server: asyncio.Server | None = None

    def __call__(self) -> asyncio.BaseProtocol:
        """Let somebody in."""
        self._let_in += 1
        return self._factory()

    @property
    def address(self) -> str:
        """Where it listens, with the port that the system chose."""
        return address_of(self._sock)

    async def serve(self) -> None:
        """Let in who waits, and who comes from now on. Raises ListenError."""
        self._server = await serve(self._sock, self)

    def is_stuck(self) -> bool:
        """Whether nobody is let in though somebody waits: now and at the last call, and nobody came in between.

        The kernel takes connections for us whether we look or not, so only who waits for long tells that we do not.
        """
        if self._server is None or not self._server.is_serving():
            return True
        is_waiting = _is_waited_at(self._sock)
        was_waiting, self._let_in_before = self._let_in_before, self._let_in if is_waiting else None
        return is_waiting and was_waiting == self._let_in

    def close(self) -> None:
        """Let nobody in any more."""
        if self._server is None:
            self._sock.close()
        else:
            # Server.wait_closed() is not awaited: from Python 3.12 on it waits for every session.
            self._server.close()

    async def close_behind_the_last(self) -> None:
        """Let in who waits to be accepted, whom the kernel would cut off, and nobody else."""
        if self._server is None:
            return
        same = _same(self._sock)
        await close(self._server)
        for connection in _accept_all(same):
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
