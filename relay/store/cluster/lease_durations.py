"""For how long what an owner has in the store is its own after it was last heard of."""

from dataclasses import dataclass

# A process uses its shares for 9.5 minutes after it was last heard of, as while it sees no database. It may be stopped,
# or lost with its machine, at any moment of them, and then its connections stay open at their provider: RFC 5321
# section 4.5.3.2.7 lets a server give up a silent client after 5 minutes at the earliest. Those that we know of do so
# after 5 (Postfix, Exim, Exchange Online), or after 10, which is covered where the database was there until then.
_SHARES_SECONDS = 900.0
# So much of the lease of its shares a process uses them.
USED_PART = 19 / 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Seconds, each renewed long before they are over.

    `messages`: a message under way. `shares`: the connections of accounts. `nodes`: a node that says nothing for so
    long is silent, and another may have its name.
    """

    messages: float
    shares: float = _SHARES_SECONDS
    nodes: float = 20.0


# On one machine a restart knows who is dead, and takes over at once; a lease is the net below that.
ALONE = Terms(messages=900.0)
# From other machines messages are taken over by their leases alone.
TOGETHER = Terms(messages=60.0)


def terms_of(is_shared: bool) -> Terms:
    """Return the terms of a store that several machines may use, or one."""
    return TOGETHER if is_shared else ALONE
