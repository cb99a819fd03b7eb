"""What accounts have used up of what they may send, so that a restart forgets none of it.

A row is a stretch of time and how many messages or recipients an account sent in it. Whoever sends adds to a row, so
that several may; how long a stretch is, and how long it counts, the caller knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from relay.store.tables import budgets


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """So many messages or recipients (`kind`) in the stretch that begins at `since`. To be added, or given back."""

    server: str
    username: str
    kind: str
    since: datetime
    count: int


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
        key = {"server": each.server, "username": each.username, "kind": each.kind, "since": each.since}
        same = (budgets.c[name] == value for name, value in key.items())
        added = update(budgets).where(*same).values(number=budgets.c.number + each.count)
        if not connection.execute(added).rowcount:
            connection.execute(insert(budgets).values(**key, number=each.count))
