"""What is another in the queue or the history than a moment ago, with bounded work however long both are.

Nothing says when a message last changed: that would cost each of them a write to an index. What waits is therefore
looked at as a whole, up to a number, from an index alone; what is over has its time.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select

from relay.store.db.tables import is_finished, is_open, messages
from relay.store.queue.history import Wanted, indexed_conditions, select_messages
from relay.store.queue.messages import StoredMessage


class Look(NamedTuple):
    """The states of messages by id at one moment, the newest first: of what waits, and of what was over lately."""

    waiting: dict[str, str]
    over: dict[str, str]


def look(connection: Connection, since: datetime, most: int) -> Look:
    """Look at the newest `most` messages that wait, and the last `most` that were over at a moment or later."""
    states = select(messages.c.id, messages.c.state).limit(most)
    waiting = states.where(is_open).order_by(messages.c.created.desc(), messages.c.id.desc())
    over = states.where(is_finished, messages.c.finished >= since).order_by(messages.c.finished.desc())
    return Look(*({row.id: row.state for row in connection.execute(found)} for found in (waiting, over)))


def messages_among(connection: Connection, wanted: Wanted, ids: Collection[str]) -> list[StoredMessage]:
    """Return those of these messages that are asked for, the oldest first."""
    found = select(messages).where(messages.c.id.in_(ids), *indexed_conditions(wanted))
    return select_messages(connection, found.order_by(messages.c.created, messages.c.id))
