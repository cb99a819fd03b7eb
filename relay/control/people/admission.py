"""Who may come in to the pages and the API: sessions, bearer tokens, and invitations that are accepted.

SECURITY: a cookie, a link and a token are 256 random bits, and only their digests are stored. A session belongs to a
person as that person is: it ends when the person is removed, has another role or another password. Where an invitation
is accepted, the link goes first, in a transaction of its own, so that of two who come at once one is let in. What fails
after that gives it back. A password that cannot be one fails before.
"""

from asyncio import to_thread
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from relay.control.actor import Actor, Role, Way
from relay.control.audit_log import OperationChanges, note
from relay.control.context import ControlContext, find_entry
from relay.control.entries.passwords import check_password_counts, keep_login_password, set_password
from relay.control.operation import refusals
from relay.control.people.administrators import check_name_is_free, keep_admin_password
from relay.control.people.invitations import digest, new_secret
from relay.control.people.sign_in import SignIn
from relay.control.refused import Refused
from relay.control.tests.login_check import try_password
from relay.control.tests.results import LoginCheck
from relay.directory.kinds import AGENT
from relay.listener.login_failures import LoginFailures
from relay.secrets.authentication import Logins
from relay.secrets.login_password import admin_owner, login_owner, make_record
from relay.store.people.access import SLACK, InvitationRow, PageSession
from relay.system.clock import utc_now

_LASTS = timedelta(hours=12)
_IDLE = timedelta(hours=2)
_NOTED_EVERY = timedelta(minutes=1)  # a use is written down no more often


class InvitationAcceptance:
    """Lets those in who were invited."""

    def __init__(self, parts: ControlContext) -> None:
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
        self, digest: str, login_password: str, mail_password: str | None, peer: str, now: datetime, *, unchecked: bool
    ) -> tuple[Actor, LoginCheck | None]:
        """Let an agent in; return who it is, and what is known of the mail password, which is tried before."""
        row = await self._row(digest, "agent", now)
        profile = find_entry(self._parts, AGENT, row.name)
        login: LoginCheck | None = None
        if mail_password is not None:
            check_password_counts(self._parts, profile)
            directory = self._parts.directory.routing().directory
            login = await try_password(self._parts, directory, profile, mail_password, unchecked=unchecked)
        record = await to_thread(make_record, login_password)
        actor = Actor(name=row.name, role=Role.AGENT, way=Way.PAGE, peer=peer)
        async with self._taken(row, actor, now):
            await keep_login_password(self._parts, row.name, record)
            if mail_password is not None:
                await set_password(self._parts, profile, mail_password, unchecked=True)
        return actor, login

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
        changes = OperationChanges()
        try:
            with changes.open():
                yield
        except BaseException:
            await self._people.invitations.put(row)
            raise
        finally:
            await self._parts.audit_log.record(actor, f"{row.kind}.welcome", actor.name, changes, is_change=False)


def _used_up() -> Refused:
    return Refused("this link was used already, or it is older than 24 hours; ask for a new one")


def _is_to_come(created: datetime, now: datetime) -> bool:
    """Whether something was made when the clock was ahead, and would hold longer by that: it holds no more."""
    return created - now > SLACK


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSession:
    """Somebody who is signed in. `form_key` must come back with every form."""

    actor: Actor
    form_key: str = field(repr=False)
    expires: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """A one-time link that still holds: for an agent, or an administrator or viewer. No name: the guest chooses it."""

    kind: Literal["agent", "admin"]
    name: str
    role: Role
    expires: datetime


class Admission:
    """The door of one relay's pages and API. `pause`: seconds before the answer to a third wrong password.

    `failures`: where several relays count them together.
    """

    def __init__(
        self,
        parts: ControlContext,
        logins: Logins,
        *,
        pause: float = 1.0,
        clock: Callable[[], datetime] = utc_now,
        failures: LoginFailures | None = None,
    ) -> None:
        self._parts = parts
        self._people = parts.people
        self._sign_in = SignIn(parts, logins, pause, failures)
        self._acceptance = InvitationAcceptance(parts)
        self._now = clock

    async def sign_in(self, name: str, password: str, peer: str) -> Actor | None:
        """Return who has this name and password: an administrator or viewer, else an agent by name or address.

        Raises TooMany where too many failed from there, Refused where it cannot be told now.
        """
        return await self._sign_in.check(name, password, peer)

    async def knows_password(self, actor: Actor, password: str, peer: str) -> bool:
        """Whether an agent who is signed in knows the present login password. Raises TooMany, Refused."""
        return await self._sign_in.confirm(actor, password, peer)

    async def open_session(self, actor: Actor) -> str:
        """Begin a session, and return its cookie's value: a new one, whatever the browser had before."""
        cookie, now = new_secret(), self._now()
        with refusals():
            await self._parts.vault.follow()  # the password may have been set at another relay a moment ago
        row = PageSession(
            digest=digest(cookie),
            kind="agent" if actor.role is Role.AGENT else "admin",
            name=actor.name,
            role=str(actor.role),
            form_key=new_secret(),
            created=now,
            seen=now,
            expires=now + _LASTS,
        )
        with refusals():
            await self._people.sessions.add(row)
        return cookie

    async def session(self, cookie: str, peer: str = "", *, is_use: bool = True) -> WebSession | None:
        """Return whose session it is, as asked from `peer`; None where it has ended. Raises Refused.

        What a page does by itself is no use: a session that nobody uses ends although a page of it stays open.
        """
        with refusals():
            row = await self._people.sessions.get(digest(cookie))
            if row is None:
                return None
            now = self._now()
            is_over = now >= row.expires or now - row.seen >= _IDLE or _is_to_come(row.created, now)
            if is_over or not await self._is_still(row):
                await self._people.sessions.remove(row.digest)
                return None
            if is_use and now - row.seen >= _NOTED_EVERY:
                await self._people.sessions.seen(row.digest, now)
        actor = Actor(name=row.name, role=Role(row.role), way=Way.PAGE, peer=peer)
        return WebSession(actor=actor, form_key=row.form_key, expires=row.expires)

    async def close_session(self, cookie: str) -> None:
        """End a session, if there is one. Raises Refused."""
        with refusals():
            await self._people.sessions.remove(digest(cookie))

    async def bearer(self, token: str, peer: str) -> Actor | None:
        """Return who asks with a token of the API; None for one that is none. Raises Refused."""
        with refusals():
            known = await self._people.tokens.by_digest(digest(token))
            if known is None:
                return None
            now = self._now()
            if known.used is None or now - known.used >= _NOTED_EVERY:
                await self._people.tokens.used(known.name, now)
        return Actor(name=known.name, role=Role(known.role), way=Way.API, peer=peer)

    async def invitation(self, token: str) -> Invitation | None:
        """Return the invitation of a link, which stays as it is; None where it holds no more. Raises Refused."""
        with refusals():
            row = await self._people.invitations.get(digest(token))
        now = self._now()
        if row is None or now >= row.expires or _is_to_come(row.created, now) or not self._is_expected(row):
            return None
        kind: Literal["agent", "admin"] = "agent" if row.kind == "agent" else "admin"
        return Invitation(kind, row.name, Role(row.role), row.expires)

    async def accept_admin(self, token: str, name: str, password: str, peer: str = "") -> Actor:
        """Let an administrator or viewer in by a link, which is used up then. Raises Refused."""
        with refusals():
            return await self._acceptance.admin(digest(token), name, password, peer, self._now())

    async def accept_agent(
        self, token: str, login_password: str, mail_password: str | None, peer: str = "", *, unchecked: bool = False
    ) -> tuple[Actor, LoginCheck | None]:
        """Let an agent in by a link, which is used up then; the mail password is tried before. Raises Refused."""
        with refusals():
            return await self._acceptance.agent(
                digest(token), login_password, mail_password, peer, self._now(), unchecked=unchecked
            )

    def _is_expected(self, row: InvitationRow) -> bool:
        """Whether the one who was invited is still there."""
        return row.kind != "agent" or row.name in self._parts.directory.routing().directory.agents

    async def _is_still(self, row: PageSession) -> bool:
        """Whether a session holds. Where it seems not to, another relay may have changed something a moment ago."""
        if await self._is_as_it_was(row):
            return True
        await self._parts.vault.refresh()
        await self._parts.directory.refresh()
        return await self._is_as_it_was(row)

    async def _is_as_it_was(self, row: PageSession) -> bool:
        """Whether a session's person is there in the same role, with the password of its beginning."""
        if row.kind == "agent":
            owner, is_there = login_owner(row.name), row.name in self._parts.directory.routing().directory.agents
        else:
            people = await self._people.administrators.all()
            owner, is_there = admin_owner(row.name), any((one.name, one.role) == (row.name, row.role) for one in people)
        changed = self._parts.vault.changed(owner)
        return is_there and changed is not None and changed <= row.created
