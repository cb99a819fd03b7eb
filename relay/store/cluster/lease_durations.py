"""For how long what an owner has in the store is its own after it was last heard of."""

from dataclasses import dataclass

from relay.limits.constants import SHARE_LEASE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Seconds, each renewed long before they are over.

    `messages`: a message under way. `shares`: the connections of accounts. `nodes`: a node that says nothing for so
    long is silent, and another may have its name.
    """

    messages: float
    shares: float = SHARE_LEASE_SECONDS
    nodes: float = 20.0


# On one machine a restart knows who is dead, and takes over at once; a lease is the net below that.
ALONE = Terms(messages=900.0)
# From other machines messages are taken over by their leases alone.
TOGETHER = Terms(messages=60.0)


def terms_of(is_shared: bool) -> Terms:
    """Return the terms of a store that several machines may use, or one."""
    return TOGETHER if is_shared else ALONE
