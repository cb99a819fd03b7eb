"""The connections that a provider counts together: those of one account, or of all accounts of a server.

A slot is the right to use a connection. Slots are given in the order in which they were asked for. What is open is
counted apart, because a provider counts also what nobody uses just now, and what is being opened or closed.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from relay.upstream.connection import Connection


class Slots:
    """See above. The limit is the one that was named last; `scope` is who shares them."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self._limit = 0
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open: set[Connection] = set()
        self._wants_room = 0
        self._has_closed = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether nobody has a slot or waits for one, and nothing is open."""
        return not (self._in_use or self._waiting or self._open)

    @property
    def is_short(self) -> bool:
        """Whether somebody waits for room to open a connection."""
        return self._wants_room > 0

    async def take(self, limit: int) -> None:
        """Wait until fewer than `limit` slots are in use, and take one. Whoever has one gives it back."""
        self._limit = limit
        if not self._waiting and self._in_use < limit:
            self._in_use += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def take_spare(self, limit: int) -> bool:
        """Take a slot where nobody waits for one and half of them are free, this one included; tell whether it was."""
        is_spare = not self._waiting and 2 * (self._in_use + 1) <= limit
        self._in_use += is_spare
        return is_spare

    def give_back(self) -> None:
        """Let the next one have the slot."""
        self._in_use -= 1
        self._admit()

    async def open(self, connection: Connection, let_one_go: Callable[[], None]) -> None:
        """Count a connection that will be opened, when there is room for it; only where a slot goes with it.

        `let_one_go` closes one that nobody uses, where there is one.
        """
        self._wants_room += 1
        try:
            while len(self._open) >= self._limit:
                self._has_closed.clear()
                let_one_go()
                if len(self._open) >= self._limit:
                    await self._has_closed.wait()
        finally:
            self._wants_room -= 1
        self._open.add(connection)

    def closed(self, connection: Connection) -> None:
        """Count it no more."""
        self._open.discard(connection)
        self._has_closed.set()

    def _admit(self) -> None:
        while self._waiting and self._in_use < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():  # done: cancelled just now
                self._in_use += 1
                turn.set_result(None)
