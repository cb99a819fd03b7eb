"""Forgetting who was signed in, invitations that nobody took, and changes of long ago."""

from datetime import datetime, timedelta

from sqlalchemy import delete

from relay.store.database import Database
from relay.store.tables import audit, invitations, sessions

_AUDIT_KEPT = timedelta(days=400)


async def forget_outdated(database: Database, now: datetime) -> None:
    """Delete what has expired, and the audit of more than 400 days ago. Raises StoreError."""
    async with database.write() as connection:
        for table in (sessions, invitations):
            await connection.execute(delete(table).where(table.c.expires <= now))
        await connection.execute(delete(audit).where(audit.c.at < now - _AUDIT_KEPT))
