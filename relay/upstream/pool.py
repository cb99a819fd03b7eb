"""The connections of one account and one version of its secret: kept, counted and reused.

How many may be in use at once, its slots say (`relay.upstream.slots`). The connection that was used last is used next,
so that the others grow old and close. Nothing here does I/O: a connection that has to go is handed to `dismiss`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from relay.upstream.connection import Connection
from relay.upstream.first_login import FirstLogin
from relay.upstream.slots import Slots


class Pool:
    """See above. `idle_seconds` is how long an unused connection is kept."""

    def __init__(self, slots: Slots, *, idle_seconds: float, dismiss: Callable[[Connection], None]) -> None:
        self.slots = slots
        self._idle_seconds = idle_seconds
        self._dismiss = dismiss
        self._idle: dict[Connection, asyncio.TimerHandle] = {}  # in the order of their last use
        self._users = 0
        self._in_use = 0
        self.is_retired = False
        self.first_login = FirstLogin()

    @property
    def is_empty(self) -> bool:
        """Whether nobody uses it, waits for it or has left a connection in it."""
        return not (self._idle or self._users)

    @property
    def connections(self) -> int:
        """How many connections there are, in use (or being opened) and idle."""
        return self._in_use + len(self._idle)

    @asynccontextmanager
    async def slot(self, limit: int) -> AsyncIterator[None]:
        """Wait until fewer than `limit` connections are in use, and count as one while inside. The last limit holds."""
        self._users += 1
        try:
            async with self.slots.slot(limit):
                self._in_use += 1
                try:
                    yield
                finally:
                    self._in_use -= 1
        finally:
            self._users -= 1

    def take(self) -> Connection | None:
        """Return the idle connection that was used last and still works, or None."""
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.is_usable:
                return connection
            self._dismiss(connection)
        return None

    def let_one_go(self) -> bool:
        """Let the idle connection go that was unused for longest; False where there is none."""
        if not self._idle:
            return False
        oldest = next(iter(self._idle))
        self._idle.pop(oldest).cancel()
        self._dismiss(oldest)
        return True

    def put(self, connection: Connection) -> None:
        """Keep a connection for the next user, or let it go where it has done its share or the pool is retired."""
        most = connection.server.max_messages_per_connection
        if self.is_retired or not connection.is_usable or connection.messages >= most:
            self._dismiss(connection)
            return
        loop = asyncio.get_running_loop()
        self._idle[connection] = loop.call_later(self._idle_seconds, self._expire, connection)

    def retire(self) -> None:
        """Let all idle connections go, and those in use when they come back."""
        self.is_retired = True
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            self._dismiss(connection)

    def _expire(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._dismiss(connection)
