"""Which process has leased how much of what accounts allow: their connections, and their rate for an outage.

A lease ends by itself. What a rule says is written in the transaction in which it has looked: so what all have together
is never more than what the rules allow, whatever happens between two looks. The rules are those of `relay.limits`.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from relay.limits.shares import Grant, Rule, Share
from relay.store.db.tables import is_lacking, shares
from relay.store.queue.claims import Lease, Living, is_dead

# The rate of a scope for an outage of the store has this name. No account or server has a blank in its own.
_OUTAGE_PREFIX = "pace "
_is_outage = shares.c.scope.startswith(_OUTAGE_PREFIX, autoescape=True)


# What has expired is somebody's until it is forgotten (`renew`): not everybody may say that it is.


def adjust(connection: Connection, rules: Mapping[str, Rule], lease: Lease, now: datetime) -> dict[str, Grant]:
    """Write for each scope what its rule makes of what others have now, and return it.

    The rules change nothing: a transaction that is undone is run again.
    """
    mine: dict[str, Share] = {}
    others: dict[str, list[Share]] = {}
    for row in connection.execute(select(shares).where(shares.c.scope.in_(rules)).order_by(shares.c.owner)):
        share = Share(owner=row.owner, held=row.held, wanted=row.wanted)
        if row.owner == lease.owner:
            mine[row.scope] = share
        else:
            others.setdefault(row.scope, []).append(share)
    grants = {scope: rule(others.get(scope, ()), now) for scope, rule in rules.items()}
    for scope, grant in grants.items():
        share = Share(owner=lease.owner, held=grant.held, wanted=grant.wanted)
        if mine.get(scope) != share:
            _put(connection, scope, share, lease)
    return grants


def adjust_outage(connection: Connection, rules: Mapping[str, Rule], lease: Lease, now: datetime) -> dict[str, Grant]:
    """Do that for what each may use in an outage, and note that its owner was heard of.

    Who is heard of asks the store for each message, so its share is anybody's. What the owner has of other scopes is
    given back.
    """
    scopes = {_OUTAGE_PREFIX + scope: rule for scope, rule in rules.items()}
    own = (_is_outage, shares.c.owner == lease.owner)
    connection.execute(delete(shares).where(*own, shares.c.scope.not_in(scopes)))
    connection.execute(update(shares).where(*own).values(until=lease.until))
    grants = adjust(connection, scopes, lease, now)
    return {scope.removeprefix(_OUTAGE_PREFIX): grant for scope, grant in grants.items()}


def kept_back(connection: Connection, scope: str, owner: str, quiet: datetime) -> int:
    """Return what others may use of a scope without the store: their leases end before `quiet`, they are not heard."""
    theirs = (shares.c.scope == _OUTAGE_PREFIX + scope, shares.c.owner != owner, shares.c.until < quiet)
    return int(connection.execute(select(func.coalesce(func.sum(shares.c.held), 0)).where(*theirs)).scalar_one())


def lacking(connection: Connection) -> frozenset[str]:
    """Return the scopes of which somebody has less than it wants."""
    found = select(shares.c.scope).where(is_lacking).distinct()
    return frozenset(connection.execute(found).scalars())


def renew(connection: Connection, lease: Lease, expired: datetime | None) -> int:
    """Hold all connections of an owner for longer, and return of how many scopes that is.

    `expired`: forget what others had until then at the latest.
    """
    if expired is not None:
        connection.execute(delete(shares).where(shares.c.until <= expired, shares.c.owner != lease.owner))
    mine = (shares.c.owner == lease.owner, ~_is_outage)  # that is held on to when what it was used for is written
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
