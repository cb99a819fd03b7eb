"""Reading messages: one, those in the queue, the history, how many there are, and what changed. Nothing here writes.

Nothing says when a message last changed: that would cost each of them a write to an index. What waits is therefore
looked at as a whole, up to a number, from an index alone; what is over has its time. Counts are read from an index
alone, too.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    func,
    literal,
    select,
    tuple_,
    type_coerce,
)

from relay.mail.address import Address
from relay.store.db.tables import Time, attempts, is_finished, is_held, is_open, messages, recipients
from relay.store.queue.messages import Attempt, StoredMessage
from relay.store.queue.rows import attempt_of, message_of, profile_word, recipient_of


class ListPosition(NamedTuple):
    """A place in a list of messages, which are in the order of these two: behind or before a message."""

    created: datetime
    id: str


class SearchCriteria(NamedTuple):
    """What a search asks for; None and "" ask for nothing. A Message-ID may stand with or without its angle brackets.

    The first ones are answered from an index, those behind `profile` only by looking at every message, and `profile`
    itself from one where only times narrow it down. `sender` "" is the null sender. `profiles` are any of several, with
    what waits for the hold `held_by`. The others are parts
    of texts, without case: of the sender, of a recipient, of the subject, or of one of these and the Message-ID.
    """

    sender: Address | Literal[""] | None = None
    to: Address | None = None
    since: datetime | None = None
    state: str | None = None
    message_id: str | None = None
    until: datetime | None = None
    profile: str | None = None
    profiles: Collection[str] | None = None
    held_by: str = ""
    sender_part: str = ""
    to_part: str = ""
    subject: str = ""
    contains: str = ""


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


def list_queue(
    connection: Connection, profile: str | None, state: str | None, limit: int, after: StoredMessage | None
) -> list[StoredMessage]:
    """Return what is in the queue, of one profile or all, the oldest first, behind `after`."""
    found = select(messages).where(is_open).order_by(messages.c.created, messages.c.id).limit(limit)
    if profile is not None:
        found = found.where(is_of_profile(profile))
    if state is not None:
        found = found.where(messages.c.state == state)
    if after is not None:
        found = found.where(position > place_of(after))
    return select_messages(connection, found)


def search(
    connection: Connection, wanted: SearchCriteria, limit: int, after: StoredMessage | None
) -> list[StoredMessage]:
    """Return messages, the newest first, behind `after`."""
    found = select(messages).where(*indexed_conditions(wanted)).limit(limit)
    if after is not None:
        found = found.where(position < place_of(after))
    return select_messages(connection, found.order_by(messages.c.created.desc(), messages.c.id.desc()))


def ids_starting(connection: Connection, prefix: str, limit: int) -> list[str]:
    """Return at most `limit` ids that begin with a prefix, in their order."""
    if not prefix:
        return []
    # A range, because LIKE reads the index in neither database.
    behind = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    found = select(messages.c.id).where(messages.c.id >= prefix, messages.c.id < behind)
    return list(connection.execute(found.order_by(messages.c.id).limit(limit)).scalars())


# The profile where something narrower is asked for, such as what waits. A database that sees the bare column would
# rather read all that the profile ever sent, in its own index.
whose = messages.c.profile.concat("")
position = tuple_(messages.c.created, messages.c.id)


def place_of(place: StoredMessage | ListPosition) -> ColumnElement[Any]:
    """Return a place as `position` compares with it."""
    return tuple_(literal(place.created, Time), literal(place.id, Text))


def is_of_profile(profile: str | None) -> ColumnElement[bool]:
    """Return the condition for a profile's messages, asked of those that another index gives."""
    return whose == profile_word(profile)


def indexed_conditions(wanted: SearchCriteria) -> list[ColumnElement[bool]]:
    """Return what an index answers."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.sender is not None:
        conditions.append(
            messages.c.sender_key == wanted.sender.key if wanted.sender else messages.c.sender_key.is_(None)
        )
    if wanted.to is not None:
        theirs = select(recipients.c.message).where(recipients.c.address_key == wanted.to.key)
        conditions.append(messages.c.id.in_(theirs))
    if wanted.since is not None:
        conditions.append(messages.c.created >= wanted.since)
    if wanted.until is not None:
        conditions.append(messages.c.created < wanted.until)
    if wanted.state is not None:
        conditions.append(messages.c.state == wanted.state)
    if wanted.message_id is not None:
        bare = wanted.message_id.strip().removeprefix("<").removesuffix(">")
        conditions.append(messages.c.message_id.in_([bare, f"<{bare}>"]))
    return conditions


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


def messages_among(connection: Connection, wanted: SearchCriteria, ids: Collection[str]) -> list[StoredMessage]:
    """Return those of these messages that are asked for, the oldest first."""
    found = select(messages).where(messages.c.id.in_(ids), *indexed_conditions(wanted))
    return select_messages(connection, found.order_by(messages.c.created, messages.c.id))


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
