"""The operations that give a list page by page: sorted by any column, filtered, with the number of all that match.

All work is done in a thread, and records are made for the page that is shown alone. Making ten thousand of them would
be felt: what only depends on the directory is made once for it (`ProfileIndex`), and kept while it is in effect;
whether a password is set is asked anew each time.
"""

from asyncio import to_thread
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from annotated_types import Ge, Le

from relay.config.faults import did_you_mean
from relay.control.context import ControlContext
from relay.control.entries.passwords import login_is_set
from relay.control.entries.records import SEARCHED, has_text, needs_own_secret, profile_record, records_of
from relay.control.operation import Operation
from relay.control.refused import Refused
from relay.directory.directory import Directory
from relay.directory.kinds import AGENT, CHANNEL, SERVER, EntryKind
from relay.directory.model import Profile
from relay.secrets.secret import SecretRef, ref_of, token_ref

T = TypeVar("T")
Start: TypeAlias = Annotated[int, Ge(0)]
Limit: TypeAlias = Annotated[int, Ge(1), Le(500)]
SetOrMissing: TypeAlias = Literal["set", "missing"] | None
"""Which of two things a filter asks for; None: both."""


@dataclass(frozen=True, slots=True)
class Row:
    """A profile, the server that it sends through, its user name as lists show it, where its secret is, and its text.

    `text` is all that people look for, without case.
    """

    profile: Profile
    server: str | None
    username: str
    secret: SecretRef
    text: str
    needs_secret: bool

    @classmethod
    def of(cls, directory: Directory, profile: Profile) -> "Row":
        """Return the row of a profile."""
        server = directory.server_of(profile)
        name = server.name if server else None
        username = profile.username or (profile.address if profile.override else "")
        secret = (server and token_ref(server, profile)) or ref_of(profile, server)
        shown = {"resolved_server": name, "username": username}
        words = (str(shown.get(key) or getattr(profile, key, None) or "") for key in SEARCHED)
        text = "\n".join(words).casefold()
        return cls(profile, name, username, secret, text, needs_own_secret(profile, server))


class ProfileIndex:
    """The profiles of one kind in one directory. It may be used in several threads at once."""

    def __init__(self, directory: Directory, kind: EntryKind[Profile]) -> None:
        self.directory = directory
        self._kind = kind
        by_name = sorted(kind.entries(directory).values(), key=lambda profile: (profile.name.casefold(), profile.name))
        self._rows = [Row.of(directory, profile) for profile in by_name]
        self._sorted: dict[tuple[str, bool], list[Row]] = {}

    @property
    def groups(self) -> dict[str, list[str]]:
        """The groups and roles that there are, as people sort them."""
        found = {"groups": "group", "roles": "role"}
        values = {word: {getattr(row.profile, key, "") for row in self._rows} - {""} for word, key in found.items()}
        return {word: sorted(names, key=lambda name: (name.casefold(), name)) for word, names in values.items()}

    def sorted(self, parts: ControlContext, column: str, *, descending: bool) -> list[Row]:
        """Return all rows in the order of a column and then of their names. Raises Refused for no such column."""
        live: dict[str, Callable[[Row], Any]] = {
            "password_set": lambda row: parts.secrets.is_set(row.secret),
            "password_for_another": lambda row: parts.secrets.is_set_for_another(row.secret),
            "login_set": lambda row: login_is_set(parts, row.profile.name),
            "last_test": lambda row: last.at if (last := parts.tests.record(row.profile)) else None,
        }
        if column in live:
            return in_order(self._rows, live[column], descending=descending)
        known = self._sorted.get((column, descending))
        if known is None:
            known = in_order(self._rows, self._value_of(column, [*live]), descending=descending)
            self._sorted[column, descending] = known
        return known

    def _value_of(self, column: str, live: list[str]) -> Callable[[Row], Any]:
        own: dict[str, Callable[[Row], Any]] = {
            "resolved_server": lambda row: row.server,
            "username": lambda row: row.username,
            "password_needed": lambda row: row.needs_secret,
            "incoming": lambda row: row.profile.incoming and row.profile.incoming.host,
            "follows": lambda row: [] if row.profile.username else ["username"],
        }
        columns = [each.name for each in fields(self._kind.model) if each.name != "password"]
        if column in own:
            return own[column]
        if column not in columns:
            hint = did_you_mean(column, [*columns, *own, *live])
            raise Refused(f"there is no column {column!r} to sort by{hint}", key="sort")
        return lambda row: getattr(row.profile, column)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which rows a list shows; None and "" ask for nothing. `server` is the one that mail leaves through."""

    contains: str = ""
    server: str | None = None
    group: str | None = None
    role: str | None = None
    password: SetOrMissing = None

    def among(self, rows: list[Row], parts: ControlContext) -> list[Row]:
        """Return the rows of which all of this is true, in their order."""
        if self.contains.strip():
            text = self.contains.strip().casefold()
            rows = [row for row in rows if text in row.text]
        if self.server is not None:
            rows = [row for row in rows if row.server == self.server]
        for key, wanted in (("group", self.group), ("role", self.role)):
            if wanted is not None:
                rows = [row for row in rows if getattr(row.profile, key, "") == wanted]
        if self.password is not None:
            is_wanted = self.password == "set"  # noqa: S105 - a word
            rows = [row for row in rows if parts.secrets.is_set(row.secret) is is_wanted]
            if not is_wanted:
                rows = [row for row in rows if row.needs_secret]
        return rows


class Pages:
    """`server.page`, `channel.page`, `agent.page`, and the groups of agents; a page returns {items, total, start}.

    The items are the records of `list`. `contains` is found in one of their values, without case; `total` counts all
    that match.
    """

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts
        self._indexes: dict[str, ProfileIndex] = {}

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
        return await self._page(CHANNEL, chosen, sort, start, limit, descending=descending)

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
        return await self._page(AGENT, chosen, sort, start, limit, descending=descending)

    async def groups(self) -> dict[str, Any]:
        """Return the groups and roles that agents have, to choose from."""
        return await to_thread(lambda: self._index(AGENT).groups)

    async def _page(
        self, kind: EntryKind[Profile], chosen: Chosen, sort: str, start: int, limit: int, *, descending: bool
    ) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            rows = self._index(kind).sorted(self._parts, sort, descending=descending)
            rows = chosen.among(rows, self._parts)
            items = [profile_record(self._parts, row.profile) for row in rows[start : start + limit]]
            return {"items": items, "total": len(rows), "start": start}

        return await to_thread(look)

    def _index(self, kind: EntryKind[Profile]) -> ProfileIndex:
        directory = self._parts.directory.routing().directory
        index = self._indexes.get(kind.word)
        if index is None or index.directory is not directory:
            index = self._indexes[kind.word] = ProfileIndex(directory, kind)
        return index

    def _servers(self, sort: str, contains: str, start: int, limit: int, *, descending: bool) -> dict[str, Any]:
        records = records_of(self._parts, SERVER)
        if records and sort not in records[0]:
            raise Refused(f"there is no column {sort!r} to sort by{did_you_mean(sort, records[0])}", key="sort")
        text = contains.strip().casefold()
        found = [record for record in records if not text or has_text(record, text)]
        ordered = in_order(found, lambda record: _by_moment(record[sort]), descending=descending)
        return {"items": ordered[start : start + limit], "total": len(ordered), "start": start}


def _by_moment(value: Any) -> Any:
    """Return what a column is sorted by: a test by when it was."""
    return value["at"] if isinstance(value, dict) and "at" in value else value


def in_order(rows: Iterable[T], value: Callable[[T], Any], *, descending: bool) -> list[T]:
    """Return rows sorted by a value; those that are equal stay in the order that they have.

    What has no value is at the end in both directions: a list is turned around to see the last of what is there.
    """
    filled: list[tuple[Any, T]] = []
    empty: list[T] = []
    for row in rows:
        found = value(row)
        if found is None or found == "" or found in ((), []):
            empty.append(row)
        else:
            filled.append((_comparable(found), row))
    filled.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in filled] + empty


def _comparable(value: Any) -> tuple[bool, Any]:
    """Return a value by which others of its column compare: False before True, numbers before words."""
    if isinstance(value, int):
        return False, value
    if isinstance(value, list | tuple):
        return True, ", ".join(str(item) for item in value).casefold()
    return True, str(value).casefold()
