"""One open listening socket or more, and whether those who wait there are let in."""

import asyncio
import select
import socket

from relay.listener.sockets import Factory, bound_addresses


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


def _is_waited_at(sock: socket.socket) -> bool:
    """Whether a connection waits to be accepted, or can no longer be."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
