"""Reading messages: one with its attempts, how many there are, and what changed. Nothing here writes.

Nothing says when a message last changed: that would cost each of them a write to an index. What waits is therefore
looked at as a whole, up to a number, from an index alone; what is over has its time. Counts are read from an index
alone, too.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Select,
    func,
    literal,
    select,
    type_coerce,
)

from relay.store.db.queue_tables import attempts, is_finished, is_held, is_open, messages, recipients
from relay.store.queue.messages import Attempt, StoredMessage
from relay.store.queue.rows import attempt_of, message_of, recipient_of

# How many ids one statement names; the databases have limits.
MOST_IDS = 500


def messages_of(connection: Connection, rows: Sequence[Row[Any]]) -> list[StoredMessage]:
    """Return the messages of rows of `messages`, in their order, with their recipients."""
    found = []
    for start in range(0, len(rows), MOST_IDS):
        some = rows[start : start + MOST_IDS]
        mine = recipients.c.message.in_([row.id for row in some])
        ordered = select(recipients).where(mine).order_by(recipients.c.message, recipients.c.number)
        by_message = {
            message: [recipient_of(row) for row in group]
            for message, group in groupby(connection.execute(ordered), key=lambda row: row.message)
        }
        found += [message_of(row, by_message.get(row.id, [])) for row in some]
    return found


def message(connection: Connection, id_: str) -> StoredMessage | None:
    """Return one message."""
    found = select_messages(connection, select(messages).where(messages.c.id == id_))
    return found[0] if found else None


def attempts_of(connection: Connection, id_: str) -> tuple[Attempt, ...]:
    """Return a message's attempts, the first one first."""
    found = select(attempts).where(attempts.c.message == id_).order_by(attempts.c.number)
    return tuple(attempt_of(row) for row in connection.execute(found))


def open_attempts(connection: Connection, ids: Sequence[str]) -> Mapping[str, Attempt]:
    """Return the last attempt of each message that has one without an end."""
    never_ended = select(attempts).where(attempts.c.message.in_(ids), attempts.c.ended.is_(None))
    rows = connection.execute(never_ended.order_by(attempts.c.number))
    return {row.message: attempt_of(row) for row in rows}


def counts(connection: Connection) -> dict[str, int]:
    """Return how many messages are in the queue, by state."""
    found = select(messages.c.state, func.count().label("number")).where(is_open).group_by(messages.c.state)
    return {row.state: row.number for row in connection.execute(found)}


def oldest(connection: Connection) -> datetime | None:
    """Return when the oldest message in the queue came."""
    first = select(messages.c.created).where(is_open).order_by(messages.c.created).limit(1)
    return connection.execute(first).scalar_one_or_none()


# The profile where something narrower is asked for, such as what waits. A database that sees the bare column would
# rather read all that the profile ever sent, in its own index.
whose = messages.c.profile.concat("")


def select_messages(connection: Connection, statement: Select[Any]) -> list[StoredMessage]:
    """Return the messages that a statement over `messages` finds."""
    return messages_of(connection, connection.execute(statement).all())


class QueueStates(NamedTuple):
    """The states of messages by id at one moment, the newest first: of what waits, and of what was over lately."""

    waiting: dict[str, str]
    over: dict[str, str]


def look(connection: Connection, since: datetime, most: int) -> QueueStates:
    """Look at the newest `most` messages that wait, and the last `most` that were over at a moment or later."""
    states = select(messages.c.id, messages.c.state).limit(most)
    waiting = states.where(is_open).order_by(messages.c.created.desc(), messages.c.id.desc())
    over = states.where(is_finished, messages.c.finished >= since).order_by(messages.c.finished.desc())
    return QueueStates(*({row.id: row.state for row in connection.execute(found)} for found in (waiting, over)))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class StateCount(NamedTuple):
    """How many messages in a state came in one step of time, which begins `at` a moment."""

    at: datetime
    state: str
    number: int


def counts_over_time(
    connection: Connection, states: Collection[str], since: datetime, until: datetime, step: timedelta
) -> list[StateCount]:
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
    return [StateCount(_EPOCH + timedelta(microseconds=row.step * width), row.state, row.number) for row in found]


def oldest_by_state(connection: Connection, states: Collection[str]) -> dict[str, datetime]:
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
