"""This node among all that use the store: what it says of itself, and what it hears of the others and of people.

Each process looks once a second; the first one says what the node does. Where no machines share the store nothing is
written but at the start, at the end and when the state changes.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

from relay import log
from relay.store.cluster.nodes import NodeRow, NodeState, OwnNode
from relay.store.db.errors import StoreError

_LOOK_SECONDS = 1.0


@dataclass(kw_only=True)
class Membership(OwnNode):
    """One for a process. `run` goes on for ever.

    `say_seconds`: how often what this node does is said, None for only when the state changes.
    """

    is_first: bool
    say_seconds: float | None
    _rows: tuple[NodeRow, ...] = ()
    _said: NodeState | None = None
    _said_at: float = 0.0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _is_well: bool = True

    @property
    def processes(self) -> int:
        """How many processes of all live nodes hand over mail, as of the last look."""
        return self.doing().workers + sum(row.doing.workers for row in self._others)

    @property
    def is_alone(self) -> bool:
        """Whether nothing could be another node's at the last look: of one that is silent, connections may be open."""
        return not any(row.may_hold for row in self._rows if row.node != self.node)

    async def enter(self) -> None:
        """Take our place. Raises NodeTaken, StoreError."""
        await super().enter()
        await self.look()

    async def run(self) -> None:
        """Look and say, for ever."""
        while True:
            self._wake.clear()
            try:
                await self.look()
                if self._is_due():
                    await self.say()
                self._is_well = True
            except StoreError as error:
                if self._is_well:
                    log.broken(f"what other nodes do is not known: {error}")
                self._is_well = False
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()

    async def stopping(self) -> None:
        """Say that this node ends; its first process does."""
        if self.is_first:
            await super().stopping()
        else:
            self._is_stopping = True

    async def drain(self, name: str, *, is_wanted: bool) -> bool:
        """Say whether a node is to be drained; False where there is none of this name. Raises StoreError."""
        is_known = await self.table.drain(name, is_wanted=is_wanted)
        self._wake.set()
        return is_known

    async def look(self) -> None:
        """Look what the others do, and what people want of this node. Raises StoreError."""
        self._rows = await self.table.rows()
        self._heed(self._rows)

    async def say(self) -> None:
        """Say what this node does. Raises StoreError."""
        state = self.state
        await super().say()
        self._said, self._said_at = state, time.monotonic()

    @property
    def _others(self) -> list[NodeRow]:
        return [row for row in self._rows if row.is_live and row.node != self.node]

    def _is_due(self) -> bool:
        if not self.is_first:
            return False
        is_time = self.say_seconds is not None and time.monotonic() - self._said_at >= self.say_seconds
        return is_time or self.state is not self._said
