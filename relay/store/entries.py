"""New messages: the rows of a message with its recipients, content and attempt."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select

from relay.store.claims import Lease
from relay.store.contents import write_contents
from relay.store.digest import digest_of
from relay.store.messages import NewMessage
from relay.store.rows import Values, attempt_values, message_values, recipient_values
from relay.store.tables import attempts, messages, recipients

# How many ids one statement names; the databases have limits.
_MOST_IDS = 500


def insert_messages(connection: Connection, news: Sequence[NewMessage], lease: Lease, now: datetime) -> None:
    """Write new messages: those with an open attempt under the lease, those without content as finished."""
    if not news:
        return
    if rows := [_message(new, now) for new in news if not new.is_under_way]:
        connection.execute(insert(messages), rows)
    if rows := [_message(new, now) for new in news if new.is_under_way]:
        leased = insert(messages).values(lease_owner=lease.owner, lease_until=lease.until)
        connection.execute(leased, rows)
    if rows := [recipient_values(new.message.id, each) for new in news for each in new.message.recipients]:
        connection.execute(insert(recipients), rows)
    if rows := [attempt_values(new.message.id, new.attempt) for new in news if new.attempt]:
        connection.execute(insert(attempts), rows)
    write_contents(connection, [(new.message.id, new.content) for new in news if new.content is not None])


def lacking(connection: Connection, news: Sequence[NewMessage]) -> list[NewMessage]:
    """Return those of some messages that are not there yet."""
    there: set[str] = set()
    for start in range(0, len(news), _MOST_IDS):
        some = [new.message.id for new in news[start : start + _MOST_IDS]]
        there.update(connection.execute(select(messages.c.id).where(messages.c.id.in_(some))).scalars())
    return [new for new in news if new.message.id not in there]


def content_octets(news: Sequence[NewMessage]) -> int:
    """Return how much content there is to write."""
    return sum(new.content.size for new in news if new.content is not None)


def _message(new: NewMessage, now: datetime) -> Values:
    values = message_values(new.message)
    if new.attempt is not None:
        values["attempts"] = max(new.message.attempts, new.attempt.number)
        values["server"] = new.message.server or new.attempt.server
        values["username"] = new.message.username or new.attempt.username
    if new.content is None:
        values["finished"] = now
    else:
        values["digest"] = digest_of(new.message.id, new.message.envelope, new.content)
    if new.is_under_way:
        del values["lease_owner"], values["lease_until"]
    return values
