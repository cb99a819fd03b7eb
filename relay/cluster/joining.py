"""How a worker takes its place among the others: its part of what accounts may have, and what it follows and tells.

Where there is one process in all, at a store of one machine, it has everything, and nobody to tell.
"""

from relay.cluster.hints import share_pauses, share_server_health
from relay.cluster.leader_election import Elected, Lead
from relay.cluster.membership import Membership
from relay.cluster.peer_counts import PeerCounts
from relay.cluster.peers import LOOK, Peers
from relay.delivery.holds import Accounts
from relay.delivery.ledger import LocalLedger
from relay.delivery.pacing import Pacing
from relay.delivery.shared_pacing import SharedPacing
from relay.delivery.shares import Shares
from relay.delivery.turn import Turns
from relay.store.cluster.change_notifications import ChangeNotifications
from relay.store.cluster.leader_lease import LeaseTable
from relay.store.cluster.lease_durations import terms_of
from relay.store.cluster.nodes import Doing, Node, NodeTable
from relay.store.cluster.topics import Topic
from relay.store.db.database import Database
from relay.store.queue.queue import Queue
from relay.system.event_loop import TaskExitStack


def open_lead(peers: Peers, duties: LeaseTable, *, is_shared: bool) -> Lead:
    """Return the lead, as this process has it: of all machines one, of the workers of a machine only the first."""
    return Elected(duties) if is_shared and peers.is_first else Lead(is_ours=peers.is_first)


async def open_membership(peers: Peers, node: Node, database: Database, closing: TaskExitStack) -> Membership:
    """Take our place among the nodes, and look at them until the end. Raises NodeTaken, StoreError."""
    terms = terms_of(database.is_shared)
    membership = Membership(
        table=NodeTable(database, terms),
        node=node,
        is_first=peers.is_first,
        say_seconds=terms.nodes / 4 if database.is_shared else None,
        doing=lambda: Doing(workers=peers.total),
    )
    if peers.is_first and not peers.is_replacement:
        await membership.enter()
    if peers.is_first:
        closing.push_async_callback(membership.leave)
    closing.run(membership.run())
    return membership


async def open_shares(peers: Peers, membership: Membership, queue: Queue, closing: TaskExitStack) -> Shares | None:
    """Return what this process has of the connections of accounts; None where it has them all."""
    if not (peers.are_there or queue.is_shared):
        return None
    await queue.drop_dead_shares()
    shares = Shares(queue, queue.owner, membership, lease=queue.terms.shares, tell=peers.look)
    peers.on(LOOK, lambda *_: shares.look())
    closing.push_async_callback(shares.aclose)
    closing.run(shares.run())
    return shares


async def open_pacing(peers: Peers, queue: Queue, closing: TaskExitStack) -> Turns:
    """Return who gives turns; its tasks end after all that is under way."""

    def shown() -> float:
        return queue.now().timestamp()

    if peers.are_there or queue.is_shared:
        shared = SharedPacing(queue, wall=queue.wall, shown=shown)
        closing.push_async_callback(shared.aclose)
        closing.run(shared.run())
        return shared
    ledger = LocalLedger(queue, wall=queue.wall)
    closing.push_async_callback(ledger.aclose)
    closing.run(ledger.run())
    return Pacing(ledger, await queue.spent(), wall=queue.wall, shown=shown)


def join(
    peers: Peers,
    peer_counts: PeerCounts,
    accounts: Accounts,
    queue: Queue,
    closing: TaskExitStack,
    changes: ChangeNotifications,
) -> None:
    """Follow what all other processes at the store change, and let them know what we do."""

    async def follow_holds() -> None:
        accounts.follow(await queue.holds())

    changes.on(Topic.HOLDS, follow_holds)
    changes.on_call = peers.look
    peers.on(LOOK, lambda *_: changes.wake())
    share_pauses(peers, accounts)
    share_server_health(peers, accounts.servers)
    for job in (changes.run, peer_counts.run):
        closing.run(job())
