"""Lifts what holds an account: in memory, in the store, and over the mail that waits for it."""

from datetime import datetime
from types import EllipsisType

from relay import log
from relay.delivery.accounts import Accounts
from relay.delivery.lifecycle import State
from relay.directory.model import Account, Meaning
from relay.store.queue import Queue


async def lift(
    queue: Queue, accounts: Accounts, account: Account, now: datetime, *, with_pairs: bool, why: str = ""
) -> bool:
    """Forget the hold and pause of an account and make its mail due; False where nothing held it.

    `with_pairs`: also what holds single addresses of it, which only a person can know to be over. `why` is for the log.
    """
    was_slow = accounts.slowness_of(account, now) is not None
    lifted = accounts.release(account.server, account.username, with_pairs=with_pairs)
    for row in lifted:
        await queue.drop_hold(row.server, row.username, row.address)
    freed = await free(queue, str(account), now)
    if lifted or freed:
        log.released(account=str(account), messages=freed, reason=why or None)
    return bool(lifted or freed or was_slow)


async def free(
    queue: Queue, held_by: str, now: datetime, *, profile: str | EllipsisType | None = ..., limit: int | None = None
) -> int:
    """Make the mail due that waits for an account, of one profile (None is nobody's) or all; return how many messages.

    A copy that a server may have twice waits for a person, whatever becomes of the account.
    """
    state, keeping = str(State.QUEUED), str(Meaning.UNKNOWN)
    return await queue.free(held_by, profile=profile, state=state, now=now, keeping=keeping, limit=limit)
