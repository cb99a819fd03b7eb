"""Lifts what holds an account: in memory, in the store, and over the mail that waits for it."""

from datetime import datetime

from relay import log
from relay.delivery.accounts import Accounts
from relay.delivery.lifecycle import State
from relay.directory.model import Account
from relay.store.queue import Queue


async def lift(queue: Queue, accounts: Accounts, account: Account, now: datetime, *, with_pairs: bool) -> bool:
    """Forget the hold and pause of an account and make its mail due; False where nothing held it.

    `with_pairs`: also what holds single addresses of it, which only a person can know to be over.
    """
    was_slow = accounts.slowness_of(account, now) is not None
    lifted = accounts.release(account.server, account.username, with_pairs=with_pairs)
    for row in lifted:
        await queue.drop_hold(row.server, row.username, row.address)
    freed = await queue.free(str(account), state=str(State.QUEUED), now=now)
    if lifted or freed:
        log.released(account=str(account), messages=freed)
    return bool(lifted or freed or was_slow)
