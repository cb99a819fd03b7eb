"""The bearer tokens of the API. A token stands nowhere, only its digest."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, delete, insert, select, update

from relay.store.database import Database
from relay.store.tables import tokens


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
        async with self._database.read() as connection:
            return [_token(row) for row in await connection.execute(select(tokens).order_by(tokens.c.name))]

    async def add(self, name: str, digest: str, role: str, created: datetime) -> bool:
        """Add one; False where there is one of that name already."""
        async with self._database.write() as connection:
            if (await connection.execute(select(tokens.c.name).where(tokens.c.name == name))).first() is not None:
                return False
            await connection.execute(insert(tokens).values(name=name, digest=digest, role=role, created=created))
            return True

    async def by_digest(self, digest: str) -> ApiToken | None:
        """Return the token with this digest."""
        async with self._database.read() as connection:
            found = (await connection.execute(select(tokens).where(tokens.c.digest == digest))).first()
            return None if found is None else _token(found)

    async def used(self, name: str, at: datetime) -> None:
        """Note that a token was used."""
        async with self._database.write() as connection:
            await connection.execute(update(tokens).where(tokens.c.name == name).values(used=at))

    async def remove(self, name: str) -> str | None:
        """Remove a token, and return the role that it had; None where there is none of that name."""
        async with self._database.write() as connection:
            this = tokens.c.name == name
            role = (await connection.execute(select(tokens.c.role).where(this))).scalar_one_or_none()
            await connection.execute(delete(tokens).where(this))
            return role


def _token(row: Row[tuple[object, ...]]) -> ApiToken:
    return ApiToken(name=row.name, role=row.role, created=row.created, used=row.used)
