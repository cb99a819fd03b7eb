"""One-time links that nobody has used yet. The link stands nowhere, only the digest of what is secret in it."""

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from relay.store.db.database import Database
from relay.store.db.tables import invitations

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
