"""This process as one of several: workers of one relay, nodes at one database, or both.

The one place that puts `relay.cluster` together. A process that is alone has `relay.app.alone` instead, and loads
nothing of this.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import datetime

from relay import log
from relay.cluster.leader_election import Elected
from relay.cluster.login_failure_sync import LoginFailureSync
from relay.cluster.membership import Membership
from relay.cluster.peers import LOOK, Open, PeerCounts, PeerMetrics, Peers, share_pauses, share_server_health
from relay.cluster.token_renewal import ByLease
from relay.control.context import ControlContext
from relay.delivery.holds import Accounts
from relay.limits.connection_leases import ConnectionLeases
from relay.limits.shared_ledger import SharedLedger
from relay.listener.login_failures import LoginFailures
from relay.listener.server import Listeners
from relay.metrics import Counts
from relay.store.cluster.change_notifications import ChangeNotifications
from relay.store.cluster.identity import Place, living_of, owner_of
from relay.store.cluster.leases import Lead, LeaseTable, Unrivalled, lease_durations
from relay.store.cluster.login_failures import FailureTable
from relay.store.cluster.nodes import Doing, Node, NodeTable
from relay.store.db.database import Database, Topic
from relay.store.queue.queue import Queue
from relay.system.event_loop import TaskExitStack
from relay.upstream.pool import Upstream


class Clustered:
    """One for a process. `peers` are the other workers; without them this is the only process of its node.

    `lead` and `token_guard` are there when `enter` has returned: who does what one process of all does, and what keeps
    others from renewing the same access token. `elsewhere` is what the other workers have open.
    """

    node: Membership
    lead: Lead
    token_guard: ByLease

    def __init__(self, peers: Peers | None = None) -> None:
        self._peers = peers or Peers()
        self.place = self._peers.place
        self.store_file = self._peers.store
        self.elsewhere = PeerCounts(self._peers)
        self._metrics = PeerMetrics(self._peers)
        self._elected: Elected | None = None
        self._database: Database
        self._failures: LoginFailureSync
        self._closing: TaskExitStack

    async def enter(
        self,
        database: Database,
        node: Node,
        closing: TaskExitStack,
        clock: Callable[[], datetime],
        lead_changed: Callable[[], Awaitable[None]],
    ) -> None:
        """Take our place at the store, and look at the others until `closing` ends. Raises NodeTaken, StoreError."""
        place, is_shared = self.place, database.is_shared
        self._database, self._closing = database, closing
        self.node = await open_membership(place, node, database, closing)
        owner = owner_of(node, place)
        leases = LeaseTable(database, owner, living_of(node, place, is_shared=is_shared), clock)
        self.token_guard = ByLease(leases)
        # Of all machines one leads; of the workers of one machine, at a file, always the first.
        self.lead = Unrivalled(is_ours=place.is_first)
        if is_shared and place.is_first:
            self.lead = self._elected = Elected(leases)
            self._elected.on_change = lead_changed
            closing.push_async_callback(self._elected.resign)  # at the latest
        self._failures = LoginFailureSync(FailureTable(database, owner))
        closing.run(self._failures.run())

    def failures(self, door: str, limit: int) -> LoginFailures:
        """Return the bad logins of a door, which all processes at the store count together."""
        return self._failures.failures(door, limit)

    async def open_shares(self, queue: Queue) -> ConnectionLeases | None:
        """Return what this process has of the connections of accounts."""
        return await open_shares(self._peers, self.node, queue, self._closing)

    async def ledger(self, queue: Queue) -> SharedLedger:
        """Return where is counted what accounts use up of their limits."""
        return SharedLedger(queue, self.node, wall=queue.wall)

    def report(self, listeners: Listeners, upstream: Upstream, counted: Callable[[], Counts]) -> None:
        """Tell the other workers from now on what this one has open, and what it has `counted` when they ask."""

        def own() -> Open:
            return Open(
                pid=os.getpid(),
                connections=listeners.connections,
                clients=listeners.per_peer,
                accounts={str(account): number for account, number in upstream.connections().items()},
                under_way=upstream.under_way,
                log_dropped=log.dropped_lines(),
            )

        self._metrics.tell(counted)
        self._closing.run(self.elsewhere.run(own))

    async def metrics(self) -> list[Counts]:
        """Return what the other workers have counted."""
        return await self._metrics.ask()

    async def follow(
        self,
        parts: ControlContext,
        accounts: Accounts,
        secrets_changed: Callable[[], Awaitable[object]],
        wake: Callable[[], None],
    ) -> None:
        """Follow what all other processes at the store change. `wake` is called when there may be something to do."""
        changes = ChangeNotifications(self._database, is_called=self.place.is_first)
        queue, peers = parts.queue, self._peers

        async def follow_holds() -> None:
            accounts.follow(await queue.holds())

        async def look() -> None:
            wake()

        changes.on(Topic.HOLDS, follow_holds)
        changes.on(Topic.SECRETS, secrets_changed)
        changes.on(Topic.FAILURES, self._failures.look)
        if parts.settings.is_directory_stored:
            changes.on(Topic.DIRECTORY, parts.directory.follow)
        elif self.place.has_others:
            changes.each_time(parts.directory.refresh)
        if self.place.has_others:
            changes.each_time(look)
        changes.tell(wake)
        changes.on_call = peers.look
        peers.on(LOOK, lambda *_: changes.wake())
        share_pauses(peers, accounts)
        share_server_health(peers, accounts.servers)
        self._tell_of_writes()
        peers.begin()
        self._closing.run(changes.run())
        if self._elected is not None:
            self._closing.run(self._elected.run())

    def look(self) -> None:
        """Let the other workers look at the store and the directory now."""
        self._peers.look()

    def rest(self, *, is_wanted: bool) -> None:
        """Let others lead for as long as this node is drained."""
        if self._elected is not None:
            self._elected.rest(is_wanted=is_wanted)

    async def resign(self) -> None:
        """End what is done by the lead, then let others have it."""
        if self._elected is not None:
            await self._elected.resign()

    def _tell_of_writes(self) -> None:
        """Let the other workers look when a transaction is committed that changes what they have in memory."""
        loop = asyncio.get_running_loop()

        def announced() -> None:
            loop.call_soon_threadsafe(self._peers.look)

        self._database.on_announced = announced


async def open_membership(place: Place, node: Node, database: Database, closing: TaskExitStack) -> Membership:
    """Take our place among the nodes, and look at them until the end. Raises NodeTaken, StoreError."""
    durations = lease_durations(database.is_shared)
    membership = Membership(
        table=NodeTable(database, durations),
        node=node,
        is_first=place.is_first,
        say_seconds=durations.nodes / 4 if database.is_shared else None,
        doing=lambda: Doing(workers=place.total),
    )
    if place.is_first and not place.is_replacement:
        await membership.enter()
    if place.is_first:
        closing.push_async_callback(membership.leave)
    closing.run(membership.run())
    return membership


async def open_shares(peers: Peers, membership: Membership, queue: Queue, closing: TaskExitStack) -> ConnectionLeases:
    """Return what this process has of the connections of accounts."""
    await queue.drop_dead_shares()
    shares = ConnectionLeases(queue, queue.owner, membership, lease=queue.durations.shares, tell=peers.look)
    peers.on(LOOK, lambda *_: shares.look())
    closing.push_async_callback(shares.aclose)
    closing.run(shares.run())
    return shares
