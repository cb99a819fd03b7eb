"""The operation that says who sends through a server."""

from asyncio import to_thread
from typing import Any

from relay.control.lookup import find_server
from relay.control.operation import Operation
from relay.control.parts import Parts


class ServerUsers:
    """`server.users`: the profiles that a server's change concerns."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"server.users": Operation(self.users)}

    async def users(self, *, name: str) -> list[dict[str, Any]]:
        """Return who sends through a server, in the order of names; those who follow the default are marked."""
        return await to_thread(self._users, find_server(self._parts, name).name)

    def _users(self, server: str) -> list[dict[str, Any]]:
        directory = self._parts.directory.routing().directory
        users = sorted(directory.users_of(server), key=lambda user: (user.name.casefold(), user.name))
        return [
            {
                "name": user.name,
                "kind": user.kind.value,
                "address": user.address,
                "override": user.override,
                "follows_default": user.server is None,
            }
            for user in users
        ]
