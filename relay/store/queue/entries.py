"""New messages: the rows of a message with its recipients, content and attempt."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select

from relay.store.db.prepared import Prepared, Row, moment
from relay.store.db.tables import attempts, messages, recipients
from relay.store.queue.claims import DATABASE_NOW, LASTS, Lease
from relay.store.queue.contents import write_contents
from relay.store.queue.digest import digest_of
from relay.store.queue.messages import NewMessage
from relay.store.queue.rows import ATTEMPT, MESSAGE, RECIPIENT, attempt_row, message_row, recipient_row

# How many ids one statement names; the databases have limits.
_MOST_IDS = 500


def insert_messages(connection: Connection, news: Sequence[NewMessage], lease: Lease, now: datetime) -> None:
    """Write new messages: those with an open attempt under the lease, those without content as finished."""
    if not news:
        return
    over, until = moment(now), lease.value()
    rows: list[Row] = []
    under_way: list[Row] = []
    for new in news:
        message, content = new.message, new.content
        if content is None:
            rows.append(message_row(message, new.attempt, over))
            continue
        digest = digest_of(message.id, message.envelope, content)
        if new.is_under_way:
            under_way.append(message_row(message, new.attempt, None, (lease.owner, until), digest))
        else:
            rows.append(message_row(message, new.attempt, digest=digest))
    _INSERT_MESSAGE.run(connection, rows)
    insert_leased = _INSERT_MESSAGE if isinstance(lease.until, datetime) else _INSERT_LEASED
    insert_leased.run(connection, under_way)
    _INSERT_RECIPIENT.run(
        connection, [recipient_row(new.message.id, each) for new in news for each in new.message.recipients]
    )
    INSERT_ATTEMPT.run(connection, [attempt_row(new.message.id, new.attempt) for new in news if new.attempt])
    write_contents(connection, [(new.message.id, new.content) for new in news if new.content is not None])


_INSERT_MESSAGE = Prepared(insert(messages), MESSAGE)
# Under a lease of which the database says when it began.
_INSERT_LEASED = Prepared(
    insert(messages).values({**{name: bindparam(name) for name in MESSAGE}, "lease_until": DATABASE_NOW + LASTS}),
    [LASTS.key if name == "lease_until" else name for name in MESSAGE],
)
_INSERT_RECIPIENT = Prepared(insert(recipients), RECIPIENT)
INSERT_ATTEMPT = Prepared(insert(attempts), ATTEMPT)


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
