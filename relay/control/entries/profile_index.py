"""The profiles of one directory, prepared for lists: sorted by a column and searched without making their records.

Making ten thousand records would be felt. So what only depends on the directory is made once for it, and kept while it
is in effect; whether a password is set is asked anew each time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from relay.config.faults import did_you_mean
from relay.control.context import Parts
from relay.control.entries.login_passwords import login_is_set
from relay.control.entries.ordering import in_order
from relay.control.entries.records import SEARCHED, needs_own_secret
from relay.control.refused import Refused
from relay.directory.model import Agent, Channel, Directory, Profile, ProfileKind
from relay.secrets.secret import SecretRef, ref_of, token_ref

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

    def __init__(self, directory: Directory, kind: ProfileKind) -> None:
        self.directory = directory
        self._kind = kind
        profiles: Iterable[Profile] = (directory.channels if kind is ProfileKind.CHANNEL else directory.agents).values()
        by_name = sorted(profiles, key=lambda profile: (profile.name.casefold(), profile.name))
        self._rows = [Row.of(directory, profile) for profile in by_name]
        self._sorted: dict[tuple[str, bool], list[Row]] = {}

    @property
    def groups(self) -> dict[str, list[str]]:
        """The groups and roles that there are, as people sort them."""
        found = {"groups": "group", "roles": "role"}
        values = {word: {getattr(row.profile, key, "") for row in self._rows} - {""} for word, key in found.items()}
        return {word: sorted(names, key=lambda name: (name.casefold(), name)) for word, names in values.items()}

    def sorted(self, parts: Parts, column: str, *, descending: bool) -> list[Row]:
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
        kind = Channel if self._kind is ProfileKind.CHANNEL else Agent
        columns = [each.name for each in fields(kind) if each.name != "password"]
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

    def among(self, rows: list[Row], parts: Parts) -> list[Row]:
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
