"""How many connections a provider allows, counted together: those of one account, or of all accounts of a server.

A slot is the right to use a connection. Slots are given in the order in which they were asked for. What is open is
counted apart, because a provider counts also what nobody uses just now, and what is being opened or closed. How many
there may be, the server's limit says, and where several processes share it, what this one is granted of it.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Protocol

from relay.upstream.connection import Connection


class Allowance(Protocol):
    """What one scope may have now."""

    @property
    def granted(self) -> int:
        """How many connections may be open now. Where it falls, those in use go on, and none is opened instead."""

    def report(self, limit: int, wanted: int, is_open: int) -> None:
        """Tell how many the server allows, how many would be used, and how many the provider counts now."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Have this called, and nothing else any more, whenever `granted` is another; never within `report`."""


class Unshared:
    """There is nobody else: all that the server allows."""

    granted = sys.maxsize

    def report(self, limit: int, wanted: int, is_open: int) -> None:
        """Nobody needs to know."""

    def watch(self, changed: Callable[[], None]) -> None:
        """It never is another."""


def unshared(scope: str) -> Allowance:  # noqa: ARG001
    """Return the allowance of a scope that no other process uses."""
    return Unshared()


class Slots:
    """See above. The limit is the one that was named last; `scope` is who shares them.

    `let_one_go` closes a connection that nobody uses, where there is one.
    """

    def __init__(self, scope: str, allowance: Allowance, let_one_go: Callable[["Slots"], None]) -> None:
        self.scope = scope
        self._limit = 0
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open: set[Connection] = set()
        self._closing: set[Connection] = set()
        self._wants_room = 0
        self._has_changed = asyncio.Event()
        self._let_one_go = let_one_go
        self._allowance = allowance
        self._is_shared = not isinstance(allowance, Unshared)  # else nobody needs to be told
        allowance.watch(self._adjust)

    @property
    def is_empty(self) -> bool:
        """Whether nobody has a slot or waits for one, and nothing is open."""
        return not (self._in_use or self._waiting or self._open)

    @property
    def is_short(self) -> bool:
        """Whether somebody waits for room to open a connection, here or in another process."""
        return self._wants_room > 0 or self._surplus > 0

    def take_now(self, limit: int) -> bool:
        """Take a slot where fewer than `limit` are in use and nobody waits for one; tell whether it was."""
        if self._waiting or self._in_use >= limit or self._in_use >= self._allowance.granted:
            return False
        self._limit = limit
        self._in_use += 1
        if self._is_shared:
            self._report()
        return True

    async def take(self, limit: int) -> None:
        """Wait until fewer than `limit` slots are in use, and take one. Whoever has one gives it back."""
        if self.take_now(limit):
            return
        self._limit = limit
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        self._report()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back()
            elif turn in self._waiting:
                self._waiting.remove(turn)
                self._report()
            raise

    def take_spare(self, limit: int) -> bool:
        """Take a slot where nobody waits for one and half of them are free, this one included; tell whether it was."""
        is_spare = not self._waiting and 2 * (self._in_use + 1) <= min(limit, self._allowance.granted)
        self._in_use += is_spare
        return is_spare

    def give_back(self) -> None:
        """Let the next one have the slot."""
        self._in_use -= 1
        if self._waiting:
            self._admit()
        if self._is_shared:
            self._report()

    async def open(self, connection: Connection) -> None:
        """Count a connection that will be opened, when there is room for it; only where a slot goes with it."""
        self._wants_room += 1
        try:
            while len(self._open) >= self._room:
                self._has_changed.clear()
                self._let_one_go(self)
                if len(self._open) >= self._room:
                    await self._has_changed.wait()
        finally:
            self._wants_room -= 1
        self._open.add(connection)
        self._report()

    def closing(self, connection: Connection) -> None:
        """It says good-bye, and counts until that is over."""
        self._closing.add(connection)

    def closed(self, connection: Connection) -> None:
        """Count it no more."""
        self._open.discard(connection)
        self._closing.discard(connection)
        self._has_changed.set()
        self._report()

    @property
    def _room(self) -> int:
        return min(self._limit, self._allowance.granted)

    @property
    def _surplus(self) -> int:
        """How many are open beyond what may be, without those that go."""
        return len(self._open) - len(self._closing) - self._room

    def _report(self) -> None:
        self._allowance.report(self._limit, self._in_use + len(self._waiting), len(self._open))

    def _adjust(self) -> None:
        """What is granted is more or less: let those go on who may, and those go whom nobody uses."""
        for _ in range(self._surplus):
            self._let_one_go(self)
        self._admit()
        self._has_changed.set()

    def _admit(self) -> None:
        while self._waiting and self._in_use < self._room:
            turn = self._waiting.popleft()
            if not turn.done():  # done: cancelled just now
                self._in_use += 1
                turn.set_result(None)
