"""What accounts allow, among the processes at one store: what they have used up, and which process has leased how much.

A row of what is used up is a stretch of time and how many messages or recipients an account sent in it. Whoever sends
adds to a row, so that several may; how long a stretch is, and how long it counts, the caller knows.

Leased are connections, and the rate for an outage. A lease ends by itself. What a rule says is written in the
transaction in which it has looked: so what all have together is never more than what the rules allow, whatever happens
between two looks. The rules are those of `relay.limits`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from relay.limits.ledger import Purpose, Spent
from relay.limits.rows import Row, T, TakeRule
from relay.limits.shares import Grant, Rule, Share
from relay.store.db.tables import budgets, is_lacking, shares
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


def all_spent(connection: Connection) -> tuple[Spent, ...]:
    """Return all that is kept."""
    found = select(budgets).order_by(budgets.c.since)
    return tuple(
        Spent(server=row.server, username=row.username, kind=row.kind, since=row.since, count=row.number)
        for row in connection.execute(found)
    )


def add_spent(connection: Connection, spent: Sequence[Spent], forget: Mapping[str, datetime]) -> None:
    """Add to what is kept, and drop of each kind in `forget` what began before that moment."""
    for kind, before in forget.items():
        connection.execute(delete(budgets).where(budgets.c.kind == kind, budgets.c.since < before))
    for each in spent:
        _add(connection, each)


def spent_for(connection: Connection, purpose: Purpose) -> list[Row]:
    """Return what counts: when, and how many; in the order of time."""
    same = [budgets.c.server == purpose.server, budgets.c.kind == purpose.kind, budgets.c.since > purpose.after]
    if not purpose.is_shared:
        same.append(budgets.c.username == purpose.username)
    found = select(budgets.c.since, budgets.c.number).where(*same, budgets.c.number > 0).order_by(budgets.c.since)
    return [(row.since, row.number) for row in connection.execute(found)]


def take(connection: Connection, purpose: Purpose, rule: TakeRule[T], now: datetime) -> T:
    """Take as many as a rule makes of what all have spent, and return what it says. The rule changes nothing."""
    taken = rule(spent_for(connection, purpose), now)
    if taken.count:
        server, username, kind, _, _ = purpose
        spent = Spent(server=server, username=username, kind=kind, since=taken.since, count=taken.count)
        _add(connection, spent)
    return taken


def _add(connection: Connection, spent: Spent) -> None:
    key = {"server": spent.server, "username": spent.username, "kind": spent.kind, "since": spent.since}
    same = [budgets.c[name] == value for name, value in key.items()]
    added = update(budgets).where(*same).values(number=budgets.c.number + spent.count)
    if not connection.execute(added).rowcount:
        connection.execute(insert(budgets).values(**key, number=spent.count))
    elif spent.count < 0:
        connection.execute(delete(budgets).where(*same, budgets.c.number == 0))
