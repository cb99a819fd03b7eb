"""What came back of messages after a server had taken them, and how far mailboxes are read for it."""

from sqlalchemy import Connection, insert, select, update

from relay.store.db.queue_tables import mailboxes, returns
from relay.store.queue.history import message as read_message
from relay.store.queue.messages import ReturnRow
from relay.store.queue.outbox import Subscribers, insert_events


def add_return(connection: Connection, message: str, row: ReturnRow, subscribers: Subscribers | None = None) -> bool:
    """Keep what came back for one recipient; False where something is known already: the first report counts."""
    known = select(returns.c.number).where(returns.c.message == message, returns.c.number == row.number)
    if connection.execute(known).first() is not None:
        return False
    facts = {name: getattr(row, name) for name in _FACTS}
    connection.execute(insert(returns), {"message": message, **facts})
    if subscribers is not None and subscribers.wants("returned"):
        about = read_message(connection, message)
        insert_events(connection, subscribers.events("returned", about, returned=row) if about else ())
    return True


def returns_of(connection: Connection, message: str) -> tuple[ReturnRow, ...]:
    """Return what came back of a message, in the order of its recipients."""
    found = select(returns).where(returns.c.message == message).order_by(returns.c.number)
    return tuple(ReturnRow(**{name: row._mapping[name] for name in _FACTS}) for row in connection.execute(found))


def position(connection: Connection, mailbox: str) -> str | None:
    """Return how far a mailbox is read; None where it never was."""
    found = select(mailboxes.c.position).where(mailboxes.c.name == mailbox)
    return connection.execute(found).scalar_one_or_none()


def put_position(connection: Connection, mailbox: str, text: str) -> None:
    """Keep how far a mailbox is read."""
    same = update(mailboxes).where(mailboxes.c.name == mailbox)
    if not connection.execute(same.values(position=text)).rowcount:
        connection.execute(insert(mailboxes), {"name": mailbox, "position": text})


_FACTS = ("number", "found", "status", "words", "reporter")
