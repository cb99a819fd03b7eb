"""The bearer tokens of the API. A token stands nowhere, only its digest."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, select, update

from relay.store.db.database import Database
from relay.store.db.tables import tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """One of them. `used` is when it last was, give or take a minute."""

    name: str
    role: str
    created: datetime
    used: datetime | None


class ApiTokens:
    """The table `tokens`, one transaction a method. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[ApiToken]:
        """Return all of them, in the order of their names."""

        def job(connection: Connection) -> list[ApiToken]:
            return [_token(row) for row in connection.execute(select(tokens).order_by(tokens.c.name))]

        return await self._database.read(job)

    async def add(self, name: str, digest: str, role: str, created: datetime) -> bool:
        """Add one; False where there is one of that name already."""

        def job(connection: Connection) -> bool:
            if connection.execute(select(tokens.c.name).where(tokens.c.name == name)).first() is not None:
                return False
            connection.execute(insert(tokens).values(name=name, digest=digest, role=role, created=created))
            return True

        return await self._database.write(job)

    async def by_digest(self, digest: str) -> ApiToken | None:
        """Return the token with this digest."""

        def job(connection: Connection) -> ApiToken | None:
            found = connection.execute(select(tokens).where(tokens.c.digest == digest)).first()
            return None if found is None else _token(found)

        return await self._database.read(job)

    async def used(self, name: str, at: datetime) -> None:
        """Note that a token was used."""

        def job(connection: Connection) -> None:
            connection.execute(update(tokens).where(tokens.c.name == name).values(used=at))

        await self._database.write(job)

    async def remove(self, name: str) -> str | None:
        """Remove a token, and return the role that it had; None where there is none of that name."""

        def job(connection: Connection) -> str | None:
            this = tokens.c.name == name
            role = connection.execute(select(tokens.c.role).where(this)).scalar_one_or_none()
            connection.execute(delete(tokens).where(this))
            return role

        return await self._database.write(job)


def _token(row: Row[tuple[object, ...]]) -> ApiToken:
    return ApiToken(name=row.name, role=row.role, created=row.created, used=row.used)
