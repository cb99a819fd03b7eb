"""The node that this process is of, as the store lists it: what it does, and whether people want it drained.

Here it is the only one at its store, so that its row is written when something changes and read when somebody asks.
Where others use the store it is a member among them (`relay.cluster.membership`).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from relay import __version__, log
from relay.store.cluster.nodes import Doing, Node, NodeRow, NodeState, NodeTable
from relay.store.db.errors import StoreError

_PATIENCE_SECONDS = 2.0  # with a store that does not answer, when we end


def _nothing() -> None:
    pass


@dataclass(kw_only=True)
class OwnNode:
    """One for a process. `enter` and `leave` are for the first process of a node.

    `doing` returns what all processes of the node do, as far as that is known; the state is added here. `on_change` is
    called when `is_draining` is another.
    """

    table: NodeTable
    node: Node
    doing: Callable[[], Doing] = Doing
    on_change: Callable[[], None] = _nothing
    is_draining: bool = False
    _is_stopping: bool = False

    @property
    def state(self) -> NodeState:
        """What this node does with mail."""
        if self._is_stopping:
            return NodeState.STOPPING
        return NodeState.DRAINING if self.is_draining else NodeState.SERVING

    async def enter(self) -> None:
        """Be listed. Raises NodeTaken, StoreError."""
        await self.table.enter(self.node, __version__, self._doing())

    async def leave(self) -> None:
        """Be listed no more."""
        with suppress(StoreError, TimeoutError):  # then it is silent, as everybody sees
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.table.leave(self.node)

    async def stopping(self) -> None:
        """Say that this node ends; it is no matter where that cannot be said."""
        self._is_stopping = True
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.say()

    async def drain(self, name: str, *, is_wanted: bool) -> bool:
        """Say whether a node is to be drained; False where there is none of this name. Raises StoreError."""
        is_known = await self.table.drain(name, is_wanted=is_wanted)
        await self.look()
        return is_known

    async def look(self) -> None:
        """Look whether people want this node drained, and say what that changes. Raises StoreError."""
        if self._heed(await self.table.rows()):
            await self.say()

    async def say(self) -> None:
        """Say what this node does. Raises StoreError."""
        await self.table.say(self.node, __version__, self._doing())

    async def rows(self) -> tuple[NodeRow, ...]:
        """Return all nodes; of this one what it does now. Raises StoreError."""
        return tuple(self._fresh(row) if row.node == self.node else row for row in await self.table.rows())

    def _fresh(self, row: NodeRow) -> NodeRow:
        seen = row.seen + timedelta(seconds=row.silent_seconds)
        return replace(row, doing=self._doing(), silent_seconds=0.0, is_live=True, seen=seen)

    def _doing(self) -> Doing:
        return replace(self.doing(), state=self.state)

    def _heed(self, rows: tuple[NodeRow, ...]) -> bool:
        """Drain, or serve again, as the rows say; return whether that is another than before."""
        is_wanted = any(row.drain for row in rows if row.node == self.node)
        if is_wanted == self.is_draining:
            return False
        self.is_draining = is_wanted
        log.changed(what="node", node=self.node.name, state=str(self.state))
        self.on_change()
        return True
