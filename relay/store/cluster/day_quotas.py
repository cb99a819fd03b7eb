"""What accounts have used up of what they may send, so that a restart forgets none of it.

A row is a stretch of time and how many messages or recipients an account sent in it. Whoever sends adds to a row, so
that several may; how long a stretch is, and how long it counts, the caller knows.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from relay.limits.ledger import Purpose, Spent
from relay.limits.rows import Row, T, TakeRule
from relay.store.db.tables import budgets


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
