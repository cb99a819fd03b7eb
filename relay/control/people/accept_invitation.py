"""Taking an invitation: the guest's passwords are set, and the link is used up.

SECURITY: the link goes first, in a transaction of its own, so that of two who come at once one is let in. What fails
after that gives it back. A password that cannot be one fails before.
"""

from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from relay.control.actor import Actor, Role, Way
from relay.control.audit_details import Ledger, note
from relay.control.context import Parts
from relay.control.entries.login_passwords import keep_login_password
from relay.control.entries.mail_passwords import check_password_counts, set_password
from relay.control.lookup import find_profile
from relay.control.people.administrators import check_name_is_free, keep_admin_password
from relay.control.refused import Refused
from relay.directory.model import ProfileKind
from relay.secrets.login_password import make_record
from relay.store.people.invitations import InvitationRow


class InvitationAcceptance:
    """Lets those in who were invited."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._people = parts.people

    async def admin(self, digest: str, name: str, password: str, peer: str, now: datetime) -> Actor:
        """Let an administrator or viewer in, and return who it is."""
        row = await self._row(digest, "admin", now)
        if row.name and name != row.name:
            raise Refused(f"this link is for '{row.name}'", key="name")
        if not row.name:
            await check_name_is_free(self._parts, name)
        record = await to_thread(make_record, password)
        actor = Actor(name=name, role=Role(row.role), way=Way.PAGE, peer=peer)
        async with self._taken(row, actor, now):
            if await self._people.administrators.add(name, row.role, now):
                note("role", None, row.role)
            elif not row.name:
                raise Refused(f"there is '{name}' already; choose another name", key="name")
            await keep_admin_password(self._parts, name, record)
        return actor

    async def agent(
        self, digest: str, login_password: str, mail_password: str | None, peer: str, now: datetime
    ) -> Actor:
        """Let an agent in, and return who it is."""
        row = await self._row(digest, "agent", now)
        profile = find_profile(self._parts, ProfileKind.AGENT, row.name)
        if mail_password is not None:
            check_password_counts(self._parts, profile)
        record = await to_thread(make_record, login_password)
        actor = Actor(name=row.name, role=Role.AGENT, way=Way.PAGE, peer=peer)
        async with self._taken(row, actor, now):
            await keep_login_password(self._parts, row.name, record)
            if mail_password is not None:
                await set_password(self._parts, profile, mail_password)
        return actor

    async def _row(self, digest: str, kind: str, now: datetime) -> InvitationRow:
        row = await self._people.invitations.get(digest)
        if row is None or row.kind != kind or now >= row.expires:
            raise _used_up()
        return row

    @asynccontextmanager
    async def _taken(self, row: InvitationRow, actor: Actor, now: datetime) -> AsyncIterator[None]:
        """Use the link up for what is done meanwhile, and write that into the audit."""
        if await self._people.invitations.take(row.digest, now) is None:
            raise _used_up()
        ledger = Ledger()
        try:
            with ledger.open():
                yield
        except BaseException:
            await self._people.invitations.put(row)
            raise
        finally:
            await self._parts.trail.record(actor, f"{row.kind}.welcome", actor.name, ledger, is_change=False)


def _used_up() -> Refused:
    return Refused("this link was used already, or it is older than 24 hours; ask for a new one")
