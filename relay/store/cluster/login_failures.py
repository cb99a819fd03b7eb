"""Bad logins, as relays at one database tell them each other: who results passwords has as many attempts as at one.

What is here for a moment only says that something failed, from where and for which name; how often, and what follows,
each process knows by itself. The numbers rise in the order of the commits, so that nobody misses one.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from relay.store.db.database import Database, Topic, all_numbers
from relay.store.db.tables import failures

LISTENERS, PAGES = "listeners", "pages"
"""The doors: where a login was tried."""


class LoginResult(NamedTuple):
    """A login that failed, or one that worked and so takes back those that failed. `door`: where it was tried."""

    door: str
    key: str
    is_failure: bool


class FailureTable:
    """The table `failures`, one transaction a method. `owner` names this process among all. Raises StoreError."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner
        self._seen: int | None = None

    async def add(self, results: Sequence[LoginResult]) -> None:
        """Tell what happened here, in its order."""

        def job(connection: Connection) -> None:
            number = self._database.announce(connection, Topic.FAILURES)
            at = datetime.now(UTC)
            rows = [
                {"number": number, "line": line, "owner": self._owner, "at": at, **result._asdict()}
                for line, result in enumerate(results)
            ]
            connection.execute(insert(failures), rows)

        await self._database.write_beside(job)

    async def news(self) -> list[LoginResult]:
        """Return what others told since the last time; nothing the first time."""

        def job(connection: Connection) -> tuple[int, list[LoginResult]]:
            newest = all_numbers(connection).get(Topic.FAILURES, 0)
            seen = newest if self._seen is None else self._seen
            found = select(failures).where(failures.c.number > seen, failures.c.owner != self._owner)
            rows = connection.execute(found.order_by(failures.c.number, failures.c.line))
            return newest, [LoginResult(row.door, row.key, row.is_failure) for row in rows]

        self._seen, results = await self._database.read(job)
        return results
