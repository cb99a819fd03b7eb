"""What is special about servers: the default, their users, and the passwords that another host makes worthless."""

from asyncio import to_thread
from collections import Counter
from typing import Any

from relay.control.audit_log import note
from relay.control.context import ControlContext, find_entry
from relay.control.entries.assignments import changed_values
from relay.control.entries.editing import Entries
from relay.control.entries.lists import Limit, Start
from relay.control.entries.passwords import entered_anew
from relay.control.operation import Operation
from relay.directory.edit import remove_server, set_entry
from relay.directory.kinds import SERVER, set_default
from relay.directory.presets import preset
from relay.secrets.binding import bind_to_new_host


class Servers(Entries):
    """What can be asked about servers, and done with them."""

    def __init__(self, parts: ControlContext) -> None:
        super().__init__(parts, SERVER)

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            **super().operations(),
            "server.default": Operation(self.default, is_change=True),
            "server.followers": Operation(self.followers),
            "server.entered_anew": Operation(self.entered_anew),
            "server.users": Operation(self.users),
        }

    async def add(
        self,
        *,
        name: str,
        values: dict[str, Any],
        password: str | None = None,
        default: bool = False,
        provider: str | None = None,
        unchecked: bool = False,
    ) -> dict[str, Any]:
        """Add a server with the values of its keys, and return it. A provider's preset gives those that are missing.

        A password that the server refuses adds nothing.
        """
        filled = values if provider is None else (await to_thread(preset, provider)).fill(values)
        more = (lambda document: set_default(document, name),) if default else ()
        await self._add(name, filled, password, *more, unchecked=unchecked)
        return await self.show(name=name)

    async def set_(
        self,
        *,
        name: str,
        changes: list[str] | None = None,
        values: dict[str, Any] | None = None,
        expected: str | None = None,
        keep_passwords: bool = False,
    ) -> dict[str, Any]:
        """Change keys ("KEY=VALUE"; "KEY=" restores the default; or `values`, None restores), return the server.

        `expected` is the version that is meant. Passwords that were set for another host count no more, but with
        `keep_passwords`. A kill in between leaves passwords that do not count; the same command once more mends it.
        """
        directory = await self._set(name, changes, values, expected)
        if keep_passwords:
            for owner in await bind_to_new_host(self._parts.vault, directory, find_entry(self._parts, SERVER, name)):
                note(owner, "set for another host", "kept")
        return await self.show(name=name)

    async def remove(self, *, name: str, expected: str | None = None, move_to: str | None = None) -> dict[str, Any]:
        """Remove a server and its password; the profiles that name it go to `move_to`."""
        find_entry(self._parts, SERVER, name)
        users = self._parts.directory.routing().directory.users_of(name)
        moved = [profile.name for profile in users if profile.server == name]
        await self._remove(name, lambda document: remove_server(document, name, move_to), expected)
        return {"ok": True, "moved": moved}

    async def default(self, *, name: str) -> dict[str, Any]:
        """Make a server the default, and return who follows it, and who stays where the own account is."""
        known = await self.followers(name=name)
        await self._parts.directory.change(lambda document: set_default(document, name))
        return {"ok": True, **known}

    async def followers(self, *, name: str) -> dict[str, Any]:
        """Return who would follow a server as the default, and who `stays` at the one before.

        Whoever logs in with an own account stays: the password is for that server, which is written into the entry.
        """
        find_entry(self._parts, SERVER, name)
        directory = self._parts.directory.routing().directory
        unnamed = [profile for profile in directory.profiles() if profile.server is None]
        stay = [profile.name for profile in unnamed if profile.override and name != directory.default_server]
        return {
            "before": directory.default_server,
            "followers": [profile.name for profile in unnamed if not profile.override],
            "stay": stay,
        }

    async def entered_anew(
        self, *, name: str, changes: list[str] | None = None, instead_of: str | None = None
    ) -> dict[str, Any]:
        """Return whose password must be entered anew: it was set for another server or host than it would go to now.

        With `changes`, or once the server `instead_of` this one is removed: than it would go to then. Nothing changes.
        """
        find_entry(self._parts, SERVER, name)
        directory = self._parts.directory.routing().directory
        if changes is not None:
            new = changed_values(SERVER.model, changes, None)
            directory = await self._parts.directory.preview(lambda document: set_entry(document, SERVER, name, new))
        elif instead_of is not None:
            directory = await self._parts.directory.preview(lambda document: remove_server(document, instead_of, name))
        return await to_thread(entered_anew, self._parts, directory, directory.servers[name])

    async def users(self, *, name: str, following: bool = False, start: Start = 0, limit: Limit = 50) -> dict[str, Any]:
        """Return who sends through a server, in the order of names: {items, total, start, channels, agents}.

        `channels` and `agents` are their numbers in all. `following`: only those who follow the default,
        which are those without an account of their own.
        """
        server = find_entry(self._parts, SERVER, name).name
        return await to_thread(self._users, server, start, limit, following=following)

    def _users(self, server: str, start: int, limit: int, *, following: bool) -> dict[str, Any]:
        directory = self._parts.directory.routing().directory
        users = directory.users_of(server)
        found = [user for user in users if not following or (user.server is None and not user.override)]
        kinds = Counter(user.kind.value for user in found)
        shown = sorted(found, key=lambda user: (user.name.casefold(), user.name))[start : start + limit]
        items = [
            {
                "name": user.name,
                "kind": user.kind.value,
                "address": user.address,
                "override": user.override,
                "follows_default": user.server is None,
            }
            for user in shown
        ]
        numbers = {"channels": kinds["channel"], "agents": kinds["agent"]}
        return {"items": items, "total": len(found), "start": start, **numbers}
