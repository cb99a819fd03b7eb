"""Forgetting what is old."""

from datetime import datetime

from sqlalchemy import Connection, delete, select

from relay.store.db.tables import messages


def purge_some(connection: Connection, limit: int, *, before: datetime) -> int:
    """Delete some messages that were finished before a moment, with all that belongs to them; return how many."""
    old = select(messages.c.id).where(messages.c.finished < before).order_by(messages.c.finished).limit(limit)
    return connection.execute(delete(messages).where(messages.c.id.in_(old.scalar_subquery()))).rowcount
