"""Who is signed in to the pages. The cookie stands nowhere, only its digest."""

from dataclasses import asdict, dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from relay.store.db.database import Database
from relay.store.db.tables import sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """One session: whose (`kind` is admin or agent), since when, when it was last used, and how long it may last."""

    digest: str = field(repr=False)
    kind: str
    name: str
    role: str
    form_key: str = field(repr=False)
    created: datetime
    seen: datetime
    expires: datetime


class Sessions:
    """The table `sessions`, one transaction a method. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: SessionRow) -> None:
        """Keep a new session."""

        def job(connection: Connection) -> None:
            connection.execute(insert(sessions).values(asdict(row)))

        await self._database.write(job)

    async def get(self, digest: str) -> SessionRow | None:
        """Return a session, whether it still holds or not."""

        def job(connection: Connection) -> SessionRow | None:
            found = connection.execute(select(sessions).where(sessions.c.digest == digest)).first()
            return None if found is None else SessionRow(**found._mapping)

        return await self._database.read(job)

    async def seen(self, digest: str, at: datetime) -> None:
        """Note that a session was used."""

        def job(connection: Connection) -> None:
            connection.execute(update(sessions).where(sessions.c.digest == digest).values(seen=at))

        await self._database.write(job)

    async def remove(self, digest: str) -> None:
        """End a session."""

        def job(connection: Connection) -> None:
            connection.execute(delete(sessions).where(sessions.c.digest == digest))

        await self._database.write(job)

    async def remove_of(self, kind: str, name: str) -> int:
        """End all sessions of somebody; return how many there were."""

        def job(connection: Connection) -> int:
            theirs = delete(sessions).where(sessions.c.kind == kind, sessions.c.name == name)
            return connection.execute(theirs).rowcount

        return await self._database.write(job)
