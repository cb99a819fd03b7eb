"""How many messages there are: over time, by state, and behind each hold. Everything is read from an index alone."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, func, literal, select, type_coerce

from relay.store.db.tables import is_held, is_open, messages
from relay.store.queue.history import whose

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Counted(NamedTuple):
    """How many messages in a state came in one step of time, which begins `at` a moment."""

    at: datetime
    state: str
    number: int


def counts_over_time(
    connection: Connection, states: Collection[str], since: datetime, until: datetime, step: timedelta
) -> list[Counted]:
    """Return the messages that came from `since` on and before `until`, by state and step; steps without any lack.

    Steps begin at whole multiples since 1970 (UTC). With the states named, one index has all that is asked.
    """
    width = step // timedelta(microseconds=1)
    number = (type_coerce(messages.c.created, BigInteger) // literal(width, BigInteger)).label("step")
    statement = (
        select(messages.c.state, number, func.count().label("number"))
        .where(messages.c.state.in_(states), messages.c.created >= since, messages.c.created < until)
        .group_by(messages.c.state, number)
    )
    found = connection.execute(statement)
    return [Counted(_EPOCH + timedelta(microseconds=row.step * width), row.state, row.number) for row in found]


def oldest(connection: Connection, states: Collection[str]) -> dict[str, datetime]:
    """Return when the oldest message in each of these states came; a state without any lacks. One index answers it."""
    found = {}
    for state in states:
        first = select(func.min(messages.c.created)).where(messages.c.state == state)
        if (created := connection.execute(first).scalar_one()) is not None:
            found[state] = created
    return found


def has_any(connection: Connection, state: str) -> bool:
    """Tell whether there is a message in a state, the history included."""
    found = connection.execute(select(messages.c.id).where(messages.c.state == state).limit(1))
    return found.first() is not None


def held_counts(connection: Connection) -> dict[str, int]:
    """Return how many messages wait for each hold, by what `held_by` says."""
    statement = select(messages.c.held_by, func.count().label("number")).where(is_held).group_by(messages.c.held_by)
    return {row.held_by: row.number for row in connection.execute(statement)}


def waiting_profiles(connection: Connection) -> frozenset[str]:
    """Return whose messages are in the queue; "" is nobody's."""
    found = connection.execute(select(whose).where(is_open).distinct())
    return frozenset(found.scalars())
