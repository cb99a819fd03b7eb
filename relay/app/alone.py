"""The only process of a relay whose store is a file: it has everything, and nobody to tell, to ask or to follow.

It answers what `relay.app.clustered` does where there are several processes or nodes.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from relay.limits.local_ledger import LocalLedger
from relay.listener.login_failures import LoginFailures
from relay.listener.session_registry import Nowhere
from relay.metrics import Counts
from relay.store.cluster.identity import Place
from relay.store.cluster.leases import Unrivalled
from relay.store.cluster.nodes import Node, NodeTable, OwnNode
from relay.store.db.database import Database
from relay.store.queue.queue import Queue
from relay.system.event_loop import TaskExitStack


class NoPeers(Nowhere):
    """What other workers have open: nothing."""

    under_way = log_dropped = of_supervisor = 0
    others: Mapping[int, Any] = MappingProxyType({})
    accounts: Mapping[str, int] = MappingProxyType({})


class Alone:
    """One for a process. `node` is there when `enter` has returned: a file has one node, which is listed as any."""

    node: OwnNode
    elsewhere = NoPeers()
    store_file = None
    token_guard = None

    def __init__(self) -> None:
        self.place = Place()
        self.lead = Unrivalled()
        self._closing: TaskExitStack

    async def enter(self, database: Database, node: Node, closing: TaskExitStack, *_: object) -> None:
        """Be listed at the store until `closing` ends. Raises StoreError."""
        self._closing = closing
        self.node = OwnNode(table=NodeTable(database), node=node)
        await self.node.enter()
        closing.push_async_callback(self.node.leave)

    def failures(self, _: str, limit: int) -> LoginFailures:
        """Return the bad logins of a door."""
        return LoginFailures(limit)

    async def open_shares(self, _: Queue) -> None:
        """Nobody shares the connections of accounts with us."""

    async def ledger(self, queue: Queue) -> LocalLedger:
        """Return where is counted what accounts use up of their limits."""
        return LocalLedger(queue, await queue.spent(), wall=queue.wall)

    def report(self, *_: object) -> None:
        """Nobody asks what we have open."""

    async def metrics(self) -> list[Counts]:
        """Return what other workers have counted."""
        return []

    async def follow(self, *_: object) -> None:
        """Look at what a command wrote before control.sock was there; from now on commands come by that."""
        await self.node.look()

    def look(self) -> None:
        """Nobody else has to look."""

    def rest(self, *, is_wanted: bool) -> None:
        """Nobody else would lead meanwhile."""

    async def resign(self) -> None:
        """Nobody else would lead."""
