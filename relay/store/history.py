"""Looking at messages: one, those in the queue, and the history. Nothing here writes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, Select, Text, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.mail.address import Address
from relay.store.messages import Attempt, StoredMessage
from relay.store.rows import attempt_of, message_of, profile_word, recipient_of
from relay.store.tables import Time, attempts, is_open, messages, recipients


class Wanted(NamedTuple):
    """What a search asks for; None asks for nothing. A Message-ID may stand with or without its angle brackets."""

    sender: Address | None
    to: Address | None
    since: datetime | None
    state: str | None
    message_id: str | None


# How many ids one statement names; the databases have limits.
_MOST_IDS = 500


async def messages_of(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[StoredMessage]:
    """Return the messages of rows of `messages`, in their order, with their recipients."""
    found = []
    for start in range(0, len(rows), _MOST_IDS):
        some = rows[start : start + _MOST_IDS]
        mine = recipients.c.message.in_([row.id for row in some])
        ordered = select(recipients).where(mine).order_by(recipients.c.message, recipients.c.number)
        by_message = {
            message: [recipient_of(row) for row in group]
            for message, group in groupby(await connection.execute(ordered), key=lambda row: row.message)
        }
        found += [message_of(row, by_message.get(row.id, [])) for row in some]
    return found


async def message(connection: AsyncConnection, id_: str) -> StoredMessage | None:
    """Return one message."""
    found = await _select(connection, select(messages).where(messages.c.id == id_))
    return found[0] if found else None


async def attempts_of(connection: AsyncConnection, id_: str) -> tuple[Attempt, ...]:
    """Return a message's attempts, the first one first."""
    found = select(attempts).where(attempts.c.message == id_).order_by(attempts.c.number)
    return tuple(attempt_of(row) for row in await connection.execute(found))


async def open_attempts(connection: AsyncConnection, ids: Sequence[str]) -> Mapping[str, Attempt]:
    """Return the last attempt of each message that has one without an end."""
    never_ended = select(attempts).where(attempts.c.message.in_(ids), attempts.c.ended.is_(None))
    rows = await connection.execute(never_ended.order_by(attempts.c.number))
    return {row.message: attempt_of(row) for row in rows}


async def counts(connection: AsyncConnection) -> dict[str, int]:
    """Return how many messages are in the queue, by state."""
    found = select(messages.c.state, func.count().label("number")).where(is_open).group_by(messages.c.state)
    return {row.state: row.number for row in await connection.execute(found)}


async def oldest(connection: AsyncConnection) -> datetime | None:
    """Return when the oldest message in the queue came."""
    first = select(messages.c.created).where(is_open).order_by(messages.c.created).limit(1)
    return (await connection.execute(first)).scalar_one_or_none()


async def list_queue(
    connection: AsyncConnection, profile: str | None, state: str | None, limit: int, after: StoredMessage | None
) -> list[StoredMessage]:
    """Return what is in the queue, of one profile or all, the oldest first, behind `after`."""
    found = select(messages).where(is_open).order_by(messages.c.created, messages.c.id).limit(limit)
    if profile is not None:
        found = found.where(messages.c.profile == profile_word(profile))
    if state is not None:
        found = found.where(messages.c.state == state)
    if after is not None:
        found = found.where(_position > _place_of(after))
    return await _select(connection, found)


async def search(
    connection: AsyncConnection, wanted: Wanted, limit: int, after: StoredMessage | None
) -> list[StoredMessage]:
    """Return messages, the newest first, behind `after`."""
    found = select(messages).where(*_conditions(wanted)).limit(limit)
    if after is not None:
        found = found.where(_position < _place_of(after))
    return await _select(connection, found.order_by(messages.c.created.desc(), messages.c.id.desc()))


async def ids_starting(connection: AsyncConnection, prefix: str, limit: int) -> list[str]:
    """Return at most `limit` ids that begin with a prefix, in their order."""
    if not prefix:
        return []
    # A range, because LIKE reads the index in neither database.
    behind = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    found = select(messages.c.id).where(messages.c.id >= prefix, messages.c.id < behind)
    return list((await connection.execute(found.order_by(messages.c.id).limit(limit))).scalars())


_position = tuple_(messages.c.created, messages.c.id)


def _place_of(message: StoredMessage) -> ColumnElement[Any]:
    return tuple_(literal(message.created, Time), literal(message.id, Text))


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.sender is not None:
        conditions.append(messages.c.sender_key == wanted.sender.key)
    if wanted.to is not None:
        theirs = select(recipients.c.message).where(recipients.c.address_key == wanted.to.key)
        conditions.append(messages.c.id.in_(theirs))
    if wanted.since is not None:
        conditions.append(messages.c.created >= wanted.since)
    if wanted.state is not None:
        conditions.append(messages.c.state == wanted.state)
    if wanted.message_id is not None:
        bare = wanted.message_id.strip().removeprefix("<").removesuffix(">")
        conditions.append(messages.c.message_id.in_([bare, f"<{bare}>"]))
    return conditions


async def _select(connection: AsyncConnection, statement: Select[Any]) -> list[StoredMessage]:
    return await messages_of(connection, (await connection.execute(statement)).all())
