"""The operations on who may come in: administrators and viewers, invited agents, and the bearer tokens of the API."""

from asyncio import to_thread
from datetime import UTC, datetime
from typing import Literal

from relay.config.faults import did_you_mean
from relay.config.schema import no_such, show
from relay.control.actor import Role
from relay.control.audit_log import note, note_forgotten, note_secret
from relay.control.context import ControlContext, find_entry
from relay.control.json_values import fields_of
from relay.control.messages.records import rfc3339
from relay.control.operation import Operation
from relay.control.people.invitations import digest, first_link, invite, new_secret
from relay.control.people.results import AddedPerson, AddedToken, FirstLink, InvitationLink, PersonRecord, TokenRecord
from relay.control.people.sign_in import named
from relay.control.refused import NotFound, Refused
from relay.control.results import Done
from relay.directory.kinds import AGENT
from relay.directory.reading import name_fault
from relay.secrets.login_password import LoginRecord, admin_owner, make_record
from relay.store.people.access import Administrator, LastAdministrator

_Role = Literal["administrator", "viewer"]


class AdministratorOperations:
    """What can be asked about administrators and viewers, and done with them."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts
        self._people = parts.people

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "admin.add": Operation(self.add, is_change=True),
            "admin.list": Operation(self.list_),
            "admin.set": Operation(self.set_, is_change=True),
            "admin.password": Operation(self.password, is_change=True),
            "admin.link": Operation(self.link, is_change=True),
            "admin.invite": Operation(self.invite, is_change=True),
            "admin.remove": Operation(self.remove, is_change=True),
        }

    async def list_(self) -> list[PersonRecord]:
        """Return all of them, in the order of their names."""
        return [self._record(person) for person in await self._people.administrators.all()]

    async def add(self, *, name: str, role: _Role = "administrator", password: str | None = None) -> AddedPerson:
        """Add one, and return who it is; without a password with a one-time link (`url`) to set it by."""
        await check_name_is_free(self._parts, name)
        record = None if password is None else await to_thread(make_record, password)
        now = datetime.now(UTC)
        link = await invite(self._parts, "admin", name, role, now) if record is None else None
        # A name that was free has no password: what an earlier owner of the name left must not let anybody in.
        await _forget(self._parts, name)
        if not await self._people.administrators.add(name, role, now):
            raise Refused(f"there is '{name}' already; choose another name", key="name")
        note("role", None, role)
        if record is not None:
            await keep_admin_password(self._parts, name, record)
        shown = self._record(Administrator(name=name, role=role, created=now))
        url, expires = (link.url, link.expires) if link else (None, None)
        return AddedPerson(**fields_of(shown), url=url, expires=expires)

    async def set_(self, *, name: str, role: _Role) -> PersonRecord:
        """Change a role, and return who it is. Whoever is signed in has to do so again."""
        person = await self._find(name)
        try:
            await self._people.administrators.set_role(person.name, role, self._usable)
        except LastAdministrator:
            raise _last(person.name) from None
        if role != person.role:
            note("role", person.role, role)
            await self._people.sessions.remove_of("admin", person.name)
        return self._record(await self._find(person.name))

    async def password(self, *, name: str, password: str) -> Done:
        """Set the password."""
        person = await self._find(name)
        await keep_admin_password(self._parts, person.name, await to_thread(make_record, password))
        return Done()

    async def invite(self, *, name: str) -> InvitationLink:
        """Return a one-time link (`url`) to set the password by. It takes the place of the one before."""
        person = await self._find(name)
        return await invite(self._parts, "admin", person.name, person.role, datetime.now(UTC))

    async def link(self) -> FirstLink:
        """Return a one-time link (`url`) that makes the first administrator. It takes the place of the one before."""
        url = await first_link(self._parts, datetime.now(UTC))
        if url is None:
            raise Refused(
                "there is an administrator already; for a link that sets the password of one: "
                "relay admin password NAME --link"
            )
        return FirstLink(url=url)

    async def remove(self, *, name: str) -> Done:
        """Remove one, unless nobody would be left who may change anything."""
        person = await self._find(name)
        try:
            await self._people.administrators.remove(person.name, self._usable)
        except LastAdministrator:
            raise _last(person.name) from None
        note("role", person.role, None)
        await _forget(self._parts, person.name)
        await self._people.invitations.remove_of("admin", person.name)
        return Done()

    @property
    def _usable(self) -> frozenset[str]:
        """Who has a password, and so may come in."""
        prefix = admin_owner("")
        return frozenset(owner.removeprefix(prefix) for owner in self._parts.vault.owners() if owner.startswith(prefix))

    async def _find(self, name: str) -> Administrator:
        people = await self._people.administrators.all()
        person = named(people, name)
        if person is None:
            known = [one.name for one in people]
            raise NotFound(f"there is no administrator or viewer {show(name)}{did_you_mean(name, known)}", key="name")
        return person

    def _record(self, person: Administrator) -> PersonRecord:
        return PersonRecord(
            name=person.name,
            role=person.role,
            created=rfc3339(person.created),
            password_set=self._parts.vault.has(admin_owner(person.name)),
        )


class InvitationOperations:
    """What can be done to let somebody in."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"agent.invite": Operation(self.invite, is_change=True)}

    async def invite(self, *, name: str) -> InvitationLink:
        """Return a one-time link (`url`) for an agent. It takes the place of the one before."""
        agent = find_entry(self._parts, AGENT, name)
        return await invite(self._parts, "agent", agent.name, Role.AGENT, datetime.now(UTC))


async def check_name_is_free(parts: ControlContext, name: str) -> None:
    """Raise Refused for what is no name, and for the name of another who signs in."""
    if wrong := name_fault(name):
        raise Refused(wrong, key="name")
    if named(await parts.people.administrators.all(), name) is not None:
        raise Refused(f"there is '{name}' already; choose another name", key="name")
    routing = parts.directory.routing()
    holder = routing.logins.holder(name)
    if holder is not None and holder.name in routing.directory.agents:
        raise Refused(f"agent '{holder.name}' signs in by {show(name)}; choose another name", key="name")


async def keep_admin_password(parts: ControlContext, name: str, record: LoginRecord) -> None:
    """Set somebody's password, which ends the sessions that began with another; the first one's link counts no more."""
    was_set = parts.vault.has(admin_owner(name))
    await parts.vault.put(admin_owner(name), record.as_text)
    note_secret("password", was_set=was_set)
    await parts.people.sessions.remove_of("admin", name)
    await parts.people.invitations.remove_of("admin", name)
    await parts.people.invitations.remove_of("admin", "")


async def _forget(parts: ControlContext, name: str) -> None:
    if parts.vault.has(admin_owner(name)):
        await parts.vault.delete(admin_owner(name))
        note_forgotten("password")
    await parts.people.sessions.remove_of("admin", name)


def _last(name: str) -> Refused:
    return Refused(f"'{name}' is the last administrator; add another first: relay admin add NAME", key="role")


_PREFIX = "relay_"  # by which a token is known for one where it was left lying about


class ApiTokenOperations:
    """What can be asked about tokens, and done with them."""

    def __init__(self, parts: ControlContext) -> None:
        self._tokens = parts.people.tokens

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "token.add": Operation(self.add, is_change=True),
            "token.list": Operation(self.list_),
            "token.remove": Operation(self.remove, is_change=True),
        }

    async def list_(self) -> list[TokenRecord]:
        """Return all tokens by their names, in the order of these."""
        return [
            TokenRecord(name=one.name, role=one.role, created=rfc3339(one.created), used=rfc3339(one.used))
            for one in await self._tokens.all()
        ]

    async def add(self, *, name: str, role: Literal["administrator", "viewer"] = "viewer") -> AddedToken:
        """Add a token, and return it: this once, for only its digest is kept. Without a role it changes nothing."""
        if wrong := name_fault(name):
            raise Refused(wrong, key="name")
        token, now = _PREFIX + new_secret(), datetime.now(UTC)
        if not await self._tokens.add(name, digest(token), role, now):
            raise Refused(f"there is a token '{name}' already; choose another name, or remove that one", key="name")
        note("role", None, role)
        return AddedToken(name=name, role=role, created=rfc3339(now), used=None, token=token)

    async def remove(self, *, name: str) -> Done:
        """Remove a token, which lets nobody in from now on."""
        role = await self._tokens.remove(name)
        if role is None:
            raise NotFound(no_such("token", name, [one.name for one in await self._tokens.all()]), key="name")
        note("role", role, None)
        return Done()
