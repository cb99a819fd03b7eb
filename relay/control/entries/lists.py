"""The operations that give a list page by page: sorted by any column, filtered, with the number of all that match.

All work is done in a thread, and records are made for the page that is shown alone.
"""

from asyncio import to_thread
from typing import Annotated, Any, TypeAlias

from annotated_types import Ge, Le

from relay.config.faults import did_you_mean
from relay.control.context import Parts
from relay.control.entries.ordering import in_order
from relay.control.entries.profile_index import Chosen, ProfileIndex, SetOrMissing
from relay.control.entries.records import has_text, profile_record, server_records
from relay.control.operation import Operation
from relay.control.refused import Refused
from relay.directory.model import ProfileKind

Start: TypeAlias = Annotated[int, Ge(0)]
Limit: TypeAlias = Annotated[int, Ge(1), Le(500)]


class Pages:
    """`server.page`, `channel.page`, `agent.page`, and the groups of agents; a page returns {items, total, start}.

    The items are the records of `list`. `contains` is found in one of their values, without case; `total` counts all
    that match.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._indexes: dict[ProfileKind, ProfileIndex] = {}

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {
            "server.page": Operation(self.servers),
            "channel.page": Operation(self.channels),
            "agent.page": Operation(self.agents),
            "agent.groups": Operation(self.groups),
        }

    async def servers(
        self,
        *,
        sort: str = "name",
        descending: bool = False,
        contains: str = "",
        start: Start = 0,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """Return a page of the servers."""
        return await to_thread(self._servers, sort, contains, start, limit, descending=descending)

    async def channels(
        self,
        *,
        sort: str = "name",
        descending: bool = False,
        contains: str = "",
        start: Start = 0,
        limit: Limit = 50,
        server: str | None = None,
        password: SetOrMissing = None,
    ) -> dict[str, Any]:
        """Return a page of the channels: those that send through a server, those whose mail password is missing."""
        chosen = Chosen(contains=contains, server=server, password=password)
        return await self._page(ProfileKind.CHANNEL, chosen, sort, start, limit, descending=descending)

    async def agents(  # noqa: PLR0913 - what a list can be asked
        self,
        *,
        sort: str = "name",
        descending: bool = False,
        contains: str = "",
        start: Start = 0,
        limit: Limit = 50,
        server: str | None = None,
        group: str | None = None,
        role: str | None = None,
        password: SetOrMissing = None,
    ) -> dict[str, Any]:
        """Return a page of the agents: also those of a group or role alone."""
        chosen = Chosen(contains=contains, server=server, group=group, role=role, password=password)
        return await self._page(ProfileKind.AGENT, chosen, sort, start, limit, descending=descending)

    async def groups(self) -> dict[str, Any]:
        """Return the groups and roles that agents have, to choose from."""
        return await to_thread(lambda: self._index(ProfileKind.AGENT).groups)

    async def _page(
        self, kind: ProfileKind, chosen: Chosen, sort: str, start: int, limit: int, *, descending: bool
    ) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            rows = self._index(kind).sorted(self._parts, sort, descending=descending)
            rows = chosen.among(rows, self._parts)
            items = [profile_record(self._parts, row.profile) for row in rows[start : start + limit]]
            return {"items": items, "total": len(rows), "start": start}

        return await to_thread(look)

    def _index(self, kind: ProfileKind) -> ProfileIndex:
        directory = self._parts.directory.routing().directory
        index = self._indexes.get(kind)
        if index is None or index.directory is not directory:
            index = self._indexes[kind] = ProfileIndex(directory, kind)
        return index

    def _servers(self, sort: str, contains: str, start: int, limit: int, *, descending: bool) -> dict[str, Any]:
        records = server_records(self._parts)
        if records and sort not in records[0]:
            raise Refused(f"there is no column {sort!r} to sort by{did_you_mean(sort, records[0])}", key="sort")
        text = contains.strip().casefold()
        found = [record for record in records if not text or has_text(record, text)]
        ordered = in_order(found, lambda record: _by_moment(record[sort]), descending=descending)
        return {"items": ordered[start : start + limit], "total": len(ordered), "start": start}


def _by_moment(value: Any) -> Any:
    """Return what a column is sorted by: a test by when it was."""
    return value["at"] if isinstance(value, dict) and "at" in value else value
