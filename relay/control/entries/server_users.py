"""The operation that says who sends through a server."""

from asyncio import to_thread
from collections import Counter
from typing import Any

from relay.control.context import Parts, find_server
from relay.control.entries.lists import Limit, Start
from relay.control.operation import Operation


class ServerUsers:
    """`server.users`: the profiles that a server's change concerns, page by page."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"server.users": Operation(self.users)}

    async def users(self, *, name: str, following: bool = False, start: Start = 0, limit: Limit = 50) -> dict[str, Any]:
        """Return who sends through a server, in the order of names: {items, total, start, channels, agents}.

        `channels` and `agents` are their numbers in all. `following`: only those who follow the default,
        which are those without an account of their own.
        """
        server = find_server(self._parts, name).name
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
