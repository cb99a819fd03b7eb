"""Who has how many of the connections that some accounts may have together, by leases that end by themselves.

What a rule says is written in the transaction in which it has looked: so what all have together is never more than
what the rules allow, whatever happens between two looks. Rules are given, since they are not the store's.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection, delete, insert, select, update

from relay.limits.max_min import Share
from relay.store.cluster.rate_shares import is_pace
from relay.store.db.tables import is_lacking, shares
from relay.store.queue.claims import Lease, Living, is_dead


class Decided(Protocol):
    """What a rule says of an owner's own share; nothing is kept of one that has none and wants none."""

    @property
    def held(self) -> int:
        """How many it has from now on."""

    @property
    def wanted(self) -> int:
        """How many it would use."""


D = TypeVar("D", bound=Decided)
Rule = Callable[[Sequence[Share], datetime], D]


# What has expired is somebody's until it is forgotten (`renew`): not everybody may say that it is.


def adjust(connection: Connection, rules: Mapping[str, Rule[D]], lease: Lease, now: datetime) -> dict[str, D]:
    """Write for each scope what its rule makes of what others have now, and return it.

    The rules change nothing: a transaction that is undone is run again.
    """
    found = select(shares).where(shares.c.scope.in_(rules)).order_by(shares.c.owner)
    mine: dict[str, Share] = {}
    others: dict[str, list[Share]] = {}
    for row in connection.execute(found):
        share = Share(owner=row.owner, held=row.held, wanted=row.wanted)
        if row.owner == lease.owner:
            mine[row.scope] = share
        else:
            others.setdefault(row.scope, []).append(share)
    decided = {scope: rule(others.get(scope, ()), now) for scope, rule in rules.items()}
    for scope, one in decided.items():
        share = Share(owner=lease.owner, held=one.held, wanted=one.wanted)
        if mine.get(scope) != share:
            _put(connection, scope, share, lease)
    return decided


def lacking(connection: Connection) -> frozenset[str]:
    """Return the scopes of which somebody has less than it wants."""
    found = select(shares.c.scope).where(is_lacking).distinct()
    return frozenset(connection.execute(found).scalars())


def renew(connection: Connection, lease: Lease, expired: datetime | None) -> int:
    """Hold all that an owner has for longer, and return of how many scopes that is.

    `expired`: forget what others had until then at the latest.
    """
    if expired is not None:
        connection.execute(delete(shares).where(shares.c.until <= expired, shares.c.owner != lease.owner))
    mine = (shares.c.owner == lease.owner, ~is_pace)  # a pace is held on to when what it was used for is written
    return connection.execute(update(shares).where(*mine).values(until=lease.until)).rowcount


def drop(connection: Connection, owner: str) -> None:
    """Free what an owner has."""
    connection.execute(delete(shares).where(shares.c.owner == owner))


def drop_dead(connection: Connection, owner: str, living: Living) -> None:
    """Free what those have who cannot be alive beside this owner."""
    connection.execute(delete(shares).where(shares.c.owner != owner, is_dead(shares.c.owner, living)))


def _put(connection: Connection, scope: str, share: Share, lease: Lease) -> None:
    same = (shares.c.scope == scope, shares.c.owner == lease.owner)
    if not (share.held or share.wanted):
        connection.execute(delete(shares).where(*same))
        return
    new = {"held": share.held, "wanted": share.wanted, "until": lease.until}
    if not connection.execute(update(shares).where(*same).values(new)).rowcount:
        connection.execute(insert(shares).values(scope=scope, owner=lease.owner, **new))
