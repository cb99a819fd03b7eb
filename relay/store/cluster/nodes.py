"""The nodes: the relays that use this store, what each of them does, and which are to be drained.

A node says what it does again and again; one that is silent for `LeaseDurations.nodes` may have ended, and its name
is free for another. Times are those of the store's clock where machines share it.

`OwnNode` is the node of this process. Where it is the only one at its store, its row is written when something changes
and read when somebody asks. Where others use the store it is a member among them (`relay.cluster.membership`).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from relay import __version__, log
from relay.store.cluster.leases import LEAD, LeaseDurations, lease_durations
from relay.store.db.database import Database
from relay.store.db.errors import StoreError
from relay.store.db.tables import duties, nodes
from relay.system.clock import utc_now

# One that ended without a word is listed for so long.
_FORGET_AFTER = timedelta(days=7)


class NodeTaken(StoreError):
    """Another live node has this name, or the id of this one."""


class NodeState(StrEnum):
    """What a node does with mail: takes and sends it, ends what it has, or ends itself."""

    SERVING = "serving"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node: the name that people call it by, and its own id, which no other node has."""

    name: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What a node does now: in how many processes, for how many connected clients, with how many messages under way."""

    state: NodeState = NodeState.SERVING
    workers: int = 1
    clients: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """What is known of a node. `silent_seconds`: how long ago it was `seen`; `is_live`: that is not for too long.

    `may_hold`: connections of accounts may be its own, and open, as where it was stopped; `leads`: whether it does what
    one of all does.
    """

    node: Node
    version: str
    since: datetime
    seen: datetime
    silent_seconds: float
    is_live: bool
    may_hold: bool
    doing: Doing
    drain: bool
    leads: bool


class NodeTable:
    """The table `nodes`, one transaction a method. Raises StoreError."""

    def __init__(
        self, database: Database, durations: LeaseDurations | None = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._durations = durations or lease_durations(database.is_shared)
        self._clock = clock

    async def enter(self, node: Node, version: str, doing: Doing) -> None:
        """Say that a node begins; nobody wants it drained. Raises NodeTaken.

        In a store that no machines share there is no other, whatever another had written into it before.
        """

        def job(connection: Connection) -> None:
            now = self._database.now(connection, self._clock())
            same = or_(nodes.c.name == node.name, nodes.c.id == node.id)
            found = [self._row(row, now) for row in connection.execute(select(nodes).where(same))]
            other = next((row for row in found if row.is_live and row.node != node), None)
            if other is not None and self._database.is_shared:
                raise NodeTaken(_taken(node, other))
            old = nodes.c.seen <= now - _FORGET_AFTER
            others = or_(same, old) if self._database.is_shared else nodes.c.name.is_not(None)
            connection.execute(delete(nodes).where(others))
            connection.execute(insert(nodes).values(**_values(node, version, doing, now), since=now, drain=False))

        await self._database.write(job)

    async def say(self, node: Node, version: str, doing: Doing) -> None:
        """Say what a node does now. One that is listed no more is listed again."""

        def job(connection: Connection) -> None:
            now = self._database.now(connection, self._clock())
            values = _values(node, version, doing, now)
            mine = (nodes.c.name == node.name, nodes.c.id == node.id)
            if connection.execute(update(nodes).where(*mine).values(values)).rowcount:
                return
            if connection.execute(select(nodes.c.id).where(nodes.c.name == node.name)).first() is None:
                connection.execute(insert(nodes).values(**values, since=now, drain=False))

        await self._database.write_beside(job)

    async def leave(self, node: Node) -> None:
        """Say that a node has ended."""

        def job(connection: Connection) -> None:
            connection.execute(delete(nodes).where(nodes.c.name == node.name, nodes.c.id == node.id))

        await self._database.write(job)

    async def rows(self) -> tuple[NodeRow, ...]:
        """Return the nodes, by name."""

        def job(connection: Connection) -> tuple[NodeRow, ...]:
            now, leader = self._database.now(connection, self._clock()), self._leader(connection)
            found = connection.execute(select(nodes).order_by(nodes.c.name))
            return tuple(self._row(row, now, leader) for row in found)

        return await self._database.read(job)

    async def drain(self, name: str, *, is_wanted: bool) -> bool:
        """Say whether a node is to be drained; False where there is none of this name."""

        def job(connection: Connection) -> bool:
            wanted = update(nodes).where(nodes.c.name == name).values(drain=is_wanted)
            return bool(connection.execute(wanted).rowcount)

        return await self._database.write(job)

    def _leader(self, connection: Connection) -> str:
        """Return the process that leads, as the store names it; "" where none does."""
        now = self._database.after(timedelta(), self._clock())
        leading = select(duties.c.owner).where(duties.c.name == LEAD, duties.c.until > now)
        return connection.execute(leading).scalar_one_or_none() or ""

    def _row(self, row: Any, now: datetime, leader: str = "") -> NodeRow:
        silent = max(0.0, (now - row.seen).total_seconds())
        is_live = silent < self._durations.nodes
        return NodeRow(
            node=Node(name=row.name, id=row.id),
            version=row.version,
            since=row.since,
            seen=row.seen,
            silent_seconds=silent,
            is_live=is_live,
            may_hold=is_live or silent < self._durations.shares,
            doing=Doing(state=NodeState(row.state), workers=row.workers, clients=row.clients, messages=row.messages),
            drain=row.drain,
            # Where no machines share the store nobody has to agree on it.
            leads=leader.startswith(f"{row.id}/") if self._database.is_shared else is_live,
        )


def _values(node: Node, version: str, doing: Doing, now: datetime) -> dict[str, Any]:
    return {**asdict(node), **asdict(doing), "state": str(doing.state), "version": version, "seen": now}


def _taken(node: Node, other: NodeRow) -> str:
    ago = f"last heard of {other.silent_seconds:.0f} s ago"
    if other.node.name == node.name:
        return (
            f"another relay uses this store as the node '{node.name}' ({ago}); "
            'give each a name of its own in relay.toml: node = "NAME"'
        )
    return (
        f"the node '{other.node.name}' ({ago}) has the id of this one, '{node.name}': its state_dir was copied; "
        "remove the file node.id from the state_dir of this one, and start it again"
    )


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
