"""How a worker takes its place among the others: its part of what accounts may have, and what it follows and tells.

Where there is one process in all, at a store of one machine, it has everything, and nobody to tell.
"""

from collections.abc import Awaitable, Callable, Sequence

from relay.delivery.holds import Accounts
from relay.delivery.ledger import LocalLedger
from relay.delivery.pacing import Pacing
from relay.delivery.shared_pacing import SharedPacing
from relay.delivery.shares import Shares
from relay.delivery.turn import Turns
from relay.store.cluster.change_notifications import Bulletin
from relay.store.cluster.leader_lease import DutyTable
from relay.store.cluster.lease_durations import terms_of
from relay.store.cluster.nodes import Doing, Node, NodeTable
from relay.store.cluster.topics import Topic
from relay.store.db.database import Database
from relay.store.queue.queue import Queue
from relay.system.exit_stack import Closing
from relay.workers.catching_up import CatchingUp, share_pauses, share_server_health
from relay.workers.census import Census
from relay.workers.lead import Elected, Lead
from relay.workers.presence import Presence
from relay.workers.siblings import LOOK, Siblings


def open_lead(siblings: Siblings, duties: DutyTable, *, is_shared: bool) -> Lead:
    """Return the lead, as this process has it: of all machines one, of the workers of a machine only the first."""
    return Elected(duties) if is_shared and siblings.is_first else Lead(is_ours=siblings.is_first)


async def open_presence(siblings: Siblings, node: Node, database: Database, closing: Closing) -> Presence:
    """Take our place among the nodes, and look at them until the end. Raises NodeTaken, StoreError."""
    terms = terms_of(database.is_shared)
    presence = Presence(
        table=NodeTable(database, terms),
        node=node,
        is_first=siblings.is_first,
        say_seconds=terms.nodes / 4 if database.is_shared else None,
        doing=lambda: Doing(workers=siblings.total),
    )
    if siblings.is_first and not siblings.is_replacement:
        await presence.enter()
    if siblings.is_first:
        closing.push_async_callback(presence.leave)
    closing.run(presence.run())
    return presence


async def open_shares(siblings: Siblings, presence: Presence, queue: Queue, closing: Closing) -> Shares | None:
    """Return what this process has of the connections of accounts; None where it has them all."""
    if not (siblings.are_there or queue.is_shared):
        return None
    await queue.drop_dead_shares()
    shares = Shares(queue, queue.owner, presence, lease=queue.terms.shares, tell=siblings.look)
    siblings.on(LOOK, lambda *_: shares.look())
    closing.push_async_callback(shares.aclose)
    closing.run(shares.run())
    return shares


async def open_pacing(siblings: Siblings, queue: Queue, closing: Closing) -> Turns:
    """Return who gives turns; its tasks end after all that is under way."""

    def shown() -> float:
        return queue.now().timestamp()

    if siblings.are_there or queue.is_shared:
        shared = SharedPacing(queue, wall=queue.wall, shown=shown)
        closing.push_async_callback(shared.aclose)
        closing.run(shared.run())
        return shared
    ledger = LocalLedger(queue, wall=queue.wall)
    closing.push_async_callback(ledger.aclose)
    closing.run(ledger.run())
    return Pacing(ledger, await queue.spent(), wall=queue.wall, shown=shown)


def join(
    siblings: Siblings,
    census: Census,
    accounts: Accounts,
    queue: Queue,
    closing: Closing,
    bulletin: Bulletin,
    *,
    looks: Sequence[Callable[[], Awaitable[object]]],
) -> None:
    """Follow what the other workers do, and let them know. `looks`: what else there is to be looked at.

    What other relays at the same database change, the first worker follows, and lets the others look.
    """

    async def follow_holds() -> None:
        accounts.follow(await queue.holds())

    queue.on_hold = siblings.look
    bulletin.on(Topic.HOLDS, follow_holds)
    bulletin.tell(siblings.look)
    share_pauses(siblings, accounts)
    share_server_health(siblings, accounts.servers)
    if siblings.is_first:
        closing.run(bulletin.run())
    for job in (CatchingUp(siblings, (follow_holds, *looks)).run, census.run):
        closing.run(job())
