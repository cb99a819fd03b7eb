"""What part of an account's pace each process may use while the store is away, by leases like those of connections.

Rows of `relay.store.cluster.connection_shares` under names of their own. Who is heard of asks the store for each
message, so its part is anybody's. The part of who is quiet may be in use without the store, and is kept back for as
long as its lease lasts.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from relay.store.db.tables import shares
from relay.store.queue.claims import Lease

# No account or server has a blank in its name.
_PREFIX = "pace "
is_pace = shares.c.scope.startswith(_PREFIX, autoescape=True)

PartRule = Callable[[Sequence[int]], int]


def adjust(connection: Connection, rules: Mapping[str, PartRule], lease: Lease) -> dict[str, int]:
    """Write for each scope what its rule makes of the parts of others, and that its owner was heard of; return that.

    What the owner has of other scopes is given back.
    """
    rows = {_PREFIX + scope: rule for scope, rule in rules.items()}
    others: dict[str, list[int]] = {}
    mine: dict[str, int] = {}
    for row in connection.execute(select(shares).where(is_pace, shares.c.scope.in_(rows))):
        if row.owner == lease.owner:
            mine[row.scope] = row.held
        else:
            others.setdefault(row.scope, []).append(row.held)
    decided = {scope: rule(others.get(scope, ())) for scope, rule in rows.items()}
    own = (is_pace, shares.c.owner == lease.owner)
    connection.execute(delete(shares).where(*own, shares.c.scope.not_in(rows)))
    connection.execute(update(shares).where(*own).values(until=lease.until))
    for scope, held in decided.items():
        values = {"held": held, "wanted": held, "until": lease.until}
        if scope not in mine:
            connection.execute(insert(shares).values(scope=scope, owner=lease.owner, **values))
        elif mine[scope] != held:
            connection.execute(update(shares).where(*own, shares.c.scope == scope).values(values))
    return {scope.removeprefix(_PREFIX): held for scope, held in decided.items()}


def kept_back(connection: Connection, scope: str, owner: str, quiet: datetime) -> int:
    """Return what others have of a scope whose leases end before `quiet`: they were not heard of for some time."""
    theirs = (shares.c.scope == _PREFIX + scope, shares.c.owner != owner, shares.c.until < quiet)
    return int(connection.execute(select(func.coalesce(func.sum(shares.c.held), 0)).where(*theirs)).scalar_one())
