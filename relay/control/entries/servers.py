"""The operations on servers."""

from asyncio import to_thread
from collections.abc import Mapping
from typing import Any

from relay.control.audit_details import note
from relay.control.context import Parts, find_server
from relay.control.entries.assignments import changed_values, unchanged
from relay.control.entries.mail_passwords import entered_anew, forget_password, set_password
from relay.control.entries.records import server_record, server_records
from relay.control.operation import Operation
from relay.directory.edit import add_server, check_values, remove_server, set_default, set_server
from relay.directory.model import Directory, Server
from relay.directory.presets import preset
from relay.secrets.binding import bind_to_new_host


class Servers:
    """What can be asked about servers, and done with them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "server.add": Operation(self.add, is_change=True),
            "server.list": Operation(self.list_),
            "server.show": Operation(self.show),
            "server.set": Operation(self.set_, is_change=True),
            "server.remove": Operation(self.remove, is_change=True),
            "server.default": Operation(self.default, is_change=True),
            "server.followers": Operation(self.followers),
            "server.entered_anew": Operation(self.entered_anew),
            "server.password": Operation(self.password, is_change=True),
        }

    async def list_(self) -> list[dict[str, Any]]:
        """Return all servers."""
        return await to_thread(server_records, self._parts)

    async def show(self, *, name: str) -> dict[str, Any]:
        """Return one server."""
        return server_record(self._parts, find_server(self._parts, name))

    async def add(
        self,
        *,
        name: str,
        values: dict[str, Any],
        default: bool = False,
        password: str | None = None,
        provider: str | None = None,
    ) -> dict[str, Any]:
        """Add a server with the values of its keys, and return it. A provider's preset gives those that are missing."""
        filled = values if provider is None else (await to_thread(preset, provider)).fill(values)
        check_values(Server, filled)
        await self._parts.directory.change(lambda document: add_server(document, name, filled, default=default))
        server = find_server(self._parts, name)
        # A name that was free has no password: what an earlier owner of the name left must not serve this one.
        await forget_password(self._parts, server)
        if password is not None:
            await set_password(self._parts, server, password)
        return server_record(self._parts, server)

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
        new = changed_values(Server, changes, values)
        directory = await self._parts.directory.change(
            lambda document: set_server(document, name, new), unchanged("server", name, _servers, expected)
        )
        if keep_passwords:
            for owner in await bind_to_new_host(self._parts.vault, directory, find_server(self._parts, name)):
                note(owner, "set for another host", "kept")
        return await self.show(name=name)

    async def remove(self, *, name: str, move_to: str | None = None, expected: str | None = None) -> dict[str, Any]:
        """Remove a server and its password; the profiles that name it go to `move_to`."""
        server = find_server(self._parts, name)
        users = self._parts.directory.routing().directory.users_of(name)
        moved = [profile.name for profile in users if profile.server == name]
        await self._parts.directory.change(
            lambda document: remove_server(document, name, move_to), unchanged("server", name, _servers, expected)
        )
        await forget_password(self._parts, server)
        self._parts.tests.forget(server)
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
        find_server(self._parts, name)
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
        find_server(self._parts, name)
        directory = self._parts.directory.routing().directory
        if changes is not None:
            new = changed_values(Server, changes, None)
            directory = await self._parts.directory.preview(lambda document: set_server(document, name, new))
        elif instead_of is not None:
            directory = await self._parts.directory.preview(lambda document: remove_server(document, instead_of, name))
        return await to_thread(entered_anew, self._parts, directory, directory.servers[name])

    async def password(self, *, name: str, password: str) -> dict[str, Any]:
        """Set the password of the server's account."""
        await set_password(self._parts, find_server(self._parts, name), password)
        return {"ok": True}


def _servers(directory: Directory) -> Mapping[str, Server]:
    return directory.servers
