"""This node among all that use the store: what it says of itself, and what it hears of the others and of people.

Each process looks once a second; the first one says what the node does. Where no machines share the store nothing is
written but at the start, at the end and when the state changes.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from relay import __version__, log
from relay.store.cluster.nodes import Doing, Node, NodeRow, NodeState, NodeTable
from relay.store.db.errors import StoreError

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 2.0  # with a store that does not answer, when we end


def _nothing() -> None:
    pass


@dataclass(slots=True, kw_only=True)
class Membership:
    """One for a process. `run` goes on for ever; `enter` and `leave` are for the first process of a node.

    `doing` returns what all processes of this node do, as far as that is known; the state is added here. `say_seconds`:
    how often that is said, None for only when the state changes. `on_change` is called when `is_draining` is another.
    """

    table: NodeTable
    node: Node
    is_first: bool
    say_seconds: float | None
    doing: Callable[[], Doing]
    on_change: Callable[[], None] = _nothing
    is_draining: bool = False
    _is_stopping: bool = False
    _rows: tuple[NodeRow, ...] = ()
    _said: NodeState | None = None
    _said_at: float = 0.0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _is_well: bool = True

    @property
    def state(self) -> NodeState:
        """What this node does with mail."""
        if self._is_stopping:
            return NodeState.STOPPING
        return NodeState.DRAINING if self.is_draining else NodeState.SERVING

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
        await self.table.enter(self.node, __version__, self._doing())
        await self._look()

    async def run(self) -> None:
        """Look and say, for ever."""
        while True:
            self._wake.clear()
            try:
                await self._look()
                if self._is_due():
                    await self._say()
                self._is_well = True
            except StoreError as error:
                if self._is_well:
                    log.broken(f"what other nodes do is not known: {error}")
                self._is_well = False
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()

    def look(self) -> None:
        """Look now."""
        self._wake.set()

    async def stopping(self) -> None:
        """Say that this node ends; it is no matter where that cannot be said."""
        self._is_stopping = True
        if self.is_first:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._say()

    async def leave(self) -> None:
        """Be listed no more."""
        with suppress(StoreError, TimeoutError):  # then it is silent, as everybody sees
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.table.leave(self.node)

    async def drain(self, name: str, *, is_wanted: bool) -> bool:
        """Say whether a node is to be drained; False where there is none of this name. Raises StoreError."""
        is_known = await self.table.drain(name, is_wanted=is_wanted)
        self.look()
        return is_known

    async def rows(self) -> tuple[NodeRow, ...]:
        """Return all nodes; of this one what it does now. Raises StoreError."""
        return tuple(self._fresh(row) if row.node == self.node else row for row in await self.table.rows())

    @property
    def _others(self) -> list[NodeRow]:
        return [row for row in self._rows if row.is_live and row.node != self.node]

    def _fresh(self, row: NodeRow) -> NodeRow:
        seen = row.seen + timedelta(seconds=row.silent_seconds)
        return replace(row, doing=self._doing(), silent_seconds=0.0, is_live=True, seen=seen)

    def _doing(self) -> Doing:
        return replace(self.doing(), state=self.state)

    async def _look(self) -> None:
        self._rows = await self.table.rows()
        is_wanted = any(row.drain for row in self._rows if row.node == self.node)
        if is_wanted != self.is_draining:
            self.is_draining = is_wanted
            log.changed(what="node", node=self.node.name, state=str(self.state))
            self.on_change()

    def _is_due(self) -> bool:
        if not self.is_first:
            return False
        is_time = self.say_seconds is not None and time.monotonic() - self._said_at >= self.say_seconds
        return is_time or self.state is not self._said

    async def _say(self) -> None:
        state = self.state
        await self.table.say(self.node, __version__, self._doing())
        self._said, self._said_at = state, time.monotonic()
