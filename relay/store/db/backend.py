"""What differs between the databases that a store may be in: `relay.store.db.sqlite` and `relay.store.db.postgresql`.

Everything else in this folder is one text for both: SQLAlchemy says it to each in its own words.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Engine

# A moment that is known here, or one that the database says when it comes to it.
Moment = datetime | ColumnElement[datetime]


class Use(StrEnum):
    """What a connection is for."""

    READ = "reader"
    WRITE = "writer"
    UPGRADE = "upgrade"


class Backend(Protocol):
    """One database. What it raises is a StoreError (`relay.store.db.errors`) or, inside `named_faults`, becomes one."""

    @property
    def name(self) -> str:
        """What people call it: its file, or its URL without a password."""

    @property
    def is_shared(self) -> bool:
        """Whether other machines may use it."""

    def prepare(self) -> None:
        """Make what must be there before the first connection. Raises StoreError."""

    def engine(self, use: Use, connections: int) -> Engine:
        """Return an engine with so many connections for this use. Nothing is connected yet."""

    def named_faults(self) -> AbstractContextManager[None]:
        """Turn what the driver raises into a StoreError; what we did wrong ourselves stays."""

    def may_repeat(self, error: Exception) -> bool:
        """Whether a job that ended so, and was undone, may run once more: what stopped it can be over at once."""

    def turn(self) -> AbstractContextManager[None]:
        """Wait until no other process of this relay writes, and let none write within."""

    def lock_out_others(self, connection: Connection) -> None:
        """Let all others who call this wait until this transaction ends, on other machines too."""

    def notify_others(self, connection: Connection) -> None:
        """Notify all who `listen` when this transaction is committed; nobody where none is shared."""

    async def listen(self, notified: Callable[[], None]) -> None:
        """Call `notified` once at the start, and at each notification, until the connection is lost.

        Raises StoreError.
        """

    def lock_schema(self, connection: Connection) -> None:
        """Keep all others from changing the schema until this transaction ends; what it is, is looked at behind this.

        Raises StoreError where the database is none that can be used.
        """

    def keep_copy(self, revision: str) -> str:
        """Keep what is there, whose schema is `revision`, before it is migrated; return where. Raises StoreError."""

    def restore_hint(self) -> str:
        """Say how a person puts back what was kept before a migration."""

    def check(self) -> None:
        """Look for damage. Raises StoreCorrupt."""

    def inspect(self) -> list[str]:
        """Look through all of it, however long that takes, and return what is wrong with its structure."""

    def look(self) -> None:
        """Look, without a write, whether anything keeps us from writing. Raises StoreError."""

    def look_before_commit(self) -> None:
        """Raise StoreGone where a commit would be lost, or hide that something was. Takes some microseconds."""

    def look_after_commit(self) -> None:
        """Raise StoreGone where what was just committed would be lost. Takes some microseconds."""

    def copy_to(self, connection: Any, target: Path) -> None:
        """Copy all that a connection of the driver sees to a private file, there and empty. Raises StoreError."""

    def close(self) -> None:
        """Let go of what is held beside the connections, which are closed."""

    def shrink(self, pages: int) -> int:
        """Give at most so many unused pages back to the disk; return how many."""

    def after(self, seconds: timedelta, now: datetime) -> Moment:
        """Return the moment so long after `now`, or where machines share the database, after what its clock says."""

    def now(self, connection: Connection, now: datetime) -> datetime:
        """Return `now`, or where machines share the database, what its clock says at this moment."""

    def instance(self, connection: Connection) -> str:
        """Return a name of the database program that answers, which it has until it starts anew; "" for a file."""

    def command(self, statement: str) -> str:
        """Return the shell command by which a person runs a statement."""
