"""The people of the web pages, with their roles. Their passwords are in the vault."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from relay.store.db.database import Database
from relay.store.db.tables import administrators

_FIRST = "administrator"  # the role of which there must always be one


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """One of them. `role` is administrator or viewer."""

    name: str
    role: str
    created: datetime


class LastAdministrator(Exception):
    """Nobody would be left who may change anything; nothing was done."""


class Administrators:
    """The table `administrators`, one transaction a method. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Administrator]:
        """Return all of them, in the order of their names."""

        def job(connection: Connection) -> list[Administrator]:
            found = connection.execute(select(administrators).order_by(administrators.c.name))
            return [Administrator(name=row.name, role=row.role, created=row.created) for row in found]

        return await self._database.read(job)

    async def add(self, name: str, role: str, created: datetime) -> bool:
        """Add one; False where there is one of that name already."""

        def job(connection: Connection) -> bool:
            known = select(administrators.c.name).where(administrators.c.name == name)
            if connection.execute(known).first() is not None:
                return False
            connection.execute(insert(administrators).values(name=name, role=role, created=created))
            return True

        return await self._database.write(job)

    async def set_role(self, name: str, role: str, usable: Collection[str]) -> bool:
        """Change a role; False where there is nobody of that name.

        `usable` are the names that have a password. Raises LastAdministrator where no other of those is left.
        """

        def job(connection: Connection) -> bool:
            if role != _FIRST:
                _require_another(connection, name, usable)
            changed = update(administrators).where(administrators.c.name == name).values(role=role)
            return bool(connection.execute(changed).rowcount)

        return await self._database.write(job)

    async def remove(self, name: str, usable: Collection[str]) -> bool:
        """Remove one; False where there is nobody of that name. Raises LastAdministrator as `set_role` does."""

        def job(connection: Connection) -> bool:
            _require_another(connection, name, usable)
            gone = delete(administrators).where(administrators.c.name == name)
            return bool(connection.execute(gone).rowcount)

        return await self._database.write(job)


def _require_another(connection: Connection, name: str, usable: Collection[str]) -> None:
    """Raise LastAdministrator where `name` is the only one that has the first role and a password."""
    found = connection.execute(select(administrators.c.name).where(administrators.c.role == _FIRST))
    left = {row.name for row in found} & set(usable)
    if left == {name}:
        raise LastAdministrator
