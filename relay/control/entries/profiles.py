"""The operations on channels and agents."""

from asyncio import to_thread
from collections.abc import Callable, Mapping
from typing import Any

from relay.control.context import Parts, find_profile
from relay.control.entries.assignments import changed_values, unchanged
from relay.control.entries.login_passwords import forget_login_password, set_login_password
from relay.control.entries.mail_passwords import forget_password, set_password
from relay.control.entries.records import profile_record, profile_records
from relay.control.operation import Access, Operation
from relay.directory.edit import add_profile, check_values, remove_profile, set_profile
from relay.directory.model import Agent, Channel, Directory, Profile, ProfileKind


class Profiles:
    """What can be asked about the profiles of one kind, and done with them."""

    def __init__(self, parts: Parts, kind: ProfileKind) -> None:
        self._parts = parts
        self._kind = kind

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        is_agent = self._kind is ProfileKind.AGENT
        own = Access.OWN if is_agent else Access.ADMIN
        shown = Access.OWN_READ if is_agent else Access.READ
        return {
            f"{self._kind}.add": Operation(self.add, is_change=True),
            f"{self._kind}.list": Operation(self.list_),
            f"{self._kind}.show": Operation(self.show, access=shown),
            f"{self._kind}.set": Operation(self.set_, is_change=True),
            f"{self._kind}.remove": Operation(self.remove, is_change=True),
            f"{self._kind}.password": Operation(self.password, is_change=True, access=own),
            f"{self._kind}.login": Operation(self.login, is_change=True, access=own),
        }

    async def list_(self, *, sort: str = "name", contains: str = "") -> list[dict[str, Any]]:
        """Return the profiles that have a text in one of their values, sorted by a key."""
        # In a thread: ten thousand agents take a moment, which holds up no message.
        return await to_thread(profile_records, self._parts, self._kind, sort=sort, contains=contains)

    async def show(self, *, name: str) -> dict[str, Any]:
        """Return one profile."""
        return profile_record(self._parts, find_profile(self._parts, self._kind, name))

    async def add(self, *, name: str, values: dict[str, Any], password: str | None = None) -> dict[str, Any]:
        """Add a profile with the values of its keys, and return it."""
        check_values(self._model, values)
        await self._parts.directory.change(lambda document: add_profile(document, self._kind, name, values))
        profile = find_profile(self._parts, self._kind, name)
        # A name that was free has no passwords: what an earlier owner of the name left must not serve this one.
        await self._forget(profile)
        if password is not None:
            await set_password(self._parts, profile, password)
        return profile_record(self._parts, profile)

    async def set_(
        self,
        *,
        name: str,
        changes: list[str] | None = None,
        values: dict[str, Any] | None = None,
        expected: str | None = None,
    ) -> dict[str, Any]:
        """Change keys ("KEY=VALUE"; "KEY=" restores the default; or `values`, None restores), return the profile.

        `expected` is the version that is meant.
        """
        new = changed_values(self._model, changes, values)
        await self._parts.directory.change(
            lambda document: set_profile(document, self._kind, name, new), self._unchanged(name, expected)
        )
        return await self.show(name=name)

    async def remove(self, *, name: str, expected: str | None = None) -> dict[str, Any]:
        """Remove a profile and its passwords."""
        profile = find_profile(self._parts, self._kind, name)
        await self._parts.directory.change(
            lambda document: remove_profile(document, self._kind, name), self._unchanged(name, expected)
        )
        await self._forget(profile)
        self._parts.tests.forget(profile)
        return {"ok": True}

    async def password(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the email password, with which the profile logs in at its server."""
        await set_password(self._parts, find_profile(self._parts, self._kind, name), password)
        return {"ok": True}

    async def login(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the login password, with which the profile logs in at Relay."""
        await set_login_password(self._parts, find_profile(self._parts, self._kind, name).name, password)
        return {"ok": True}

    @property
    def _model(self) -> type[Channel | Agent]:
        return Channel if self._kind is ProfileKind.CHANNEL else Agent

    def _unchanged(self, name: str, expected: str | None) -> Callable[[Directory], None]:
        return unchanged(self._kind.value, name, self._entries, expected)

    def _entries(self, directory: Directory) -> Mapping[str, Profile]:
        return directory.channels if self._kind is ProfileKind.CHANNEL else directory.agents

    async def _forget(self, profile: Profile) -> None:
        await forget_password(self._parts, profile)
        await forget_login_password(self._parts, profile.name)
