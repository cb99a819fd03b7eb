"""Who may use the pages and the API: administrators, who is signed in, API tokens and invitations.

SECURITY: passwords are in the vault. A cookie, a token and the link of an invitation stand nowhere, only the digest of
what is secret in them.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, delete, insert, select, update

from relay.store.db.database import Database
from relay.store.db.tables import administrators, audit, failures, invitations, sessions, tokens

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSession:
    """One session: whose (`kind` is admin or agent), since when, when it was last used, and how long it may last."""

    digest: str = field(repr=False)
    kind: str
    name: str
    role: str
    form_key: str = field(repr=False)
    created: datetime
    seen: datetime
    expires: datetime


class PageSessions:
    """The table `sessions`, one transaction a method. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: PageSession) -> None:
        """Keep a new session."""

        def job(connection: Connection) -> None:
            connection.execute(insert(sessions).values(asdict(row)))

        await self._database.write(job)

    async def get(self, digest: str) -> PageSession | None:
        """Return a session, whether it still holds or not."""

        def job(connection: Connection) -> PageSession | None:
            found = connection.execute(select(sessions).where(sessions.c.digest == digest)).first()
            return None if found is None else PageSession(**found._mapping)

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


SLACK = timedelta(minutes=5)
"""By so much the clocks of several relays may differ. What was made later than that was made by a clock that was ahead,
and would hold longer by as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationRow:
    """One invitation: for whom (`kind` is admin or agent; no name where the guest chooses it), and until when."""

    digest: str = field(repr=False)
    kind: str
    name: str
    role: str
    created: datetime
    expires: datetime


class Invitations:
    """The table `invitations`, one transaction a method. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, row: InvitationRow) -> None:
        """Keep an invitation, in place of those before for the same name."""

        def job(connection: Connection) -> None:
            same = (invitations.c.kind == row.kind, invitations.c.name == row.name)
            connection.execute(delete(invitations).where(*same))
            connection.execute(insert(invitations).values(asdict(row)))

        await self._database.write(job)

    async def get(self, digest: str) -> InvitationRow | None:
        """Return an invitation, whether it still holds or not."""

        def job(connection: Connection) -> InvitationRow | None:
            found = connection.execute(select(invitations).where(invitations.c.digest == digest)).first()
            return None if found is None else InvitationRow(**found._mapping)

        return await self._database.read(job)

    async def take(self, digest: str, now: datetime) -> InvitationRow | None:
        """Use an invitation up and return it, if it holds: of two who come at once, one has it."""

        def job(connection: Connection) -> InvitationRow | None:
            lasts = (invitations.c.expires > now, invitations.c.created <= now + SLACK)
            this = (invitations.c.digest == digest, *lasts)
            found = connection.execute(select(invitations).where(*this)).first()
            if found is None:
                return None
            connection.execute(delete(invitations).where(*this))
            return InvitationRow(**found._mapping)

        return await self._database.write(job)

    async def remove_of(self, kind: str, name: str) -> int:
        """Take back the invitations of somebody; return how many there were."""

        def job(connection: Connection) -> int:
            theirs = delete(invitations).where(invitations.c.kind == kind, invitations.c.name == name)
            return connection.execute(theirs).rowcount

        return await self._database.write(job)


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
