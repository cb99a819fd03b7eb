"""Forgetting who was signed in, invitations that nobody took, bad logins, and changes of long ago."""

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete

from relay.store.db.database import Database
from relay.store.db.tables import audit, failures, invitations, sessions

_AUDIT_KEPT = timedelta(days=400)
_FAILURES_KEPT = timedelta(hours=1)  # all who follow have heard of them


async def forget_outdated(database: Database, now: datetime) -> None:
    """Delete what has expired, and the audit of more than 400 days ago. Raises StoreError."""

    def job(connection: Connection) -> None:
        for table in (sessions, invitations):
            connection.execute(delete(table).where(table.c.expires <= now))
        connection.execute(delete(failures).where(failures.c.at < now - _FAILURES_KEPT))
        connection.execute(delete(audit).where(audit.c.at < now - _AUDIT_KEPT))

    await database.write(job)
