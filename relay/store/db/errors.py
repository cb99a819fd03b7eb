"""What can be wrong with the store, as sentences for people.

    StoreError           something else: cannot be opened, read or written
    ├── StoreExposed     others could open its files
    ├── StoreNewer       made by a newer relay
    ├── StoreOlder       not used by this relay yet
    ├── StoreCorrupt     damaged, or no database at all
    ├── StoreBusy        another process kept it locked
    ├── StoreFull        no space left
    ├── StoreReadOnly    it can be read, and not written
    ├── StoreUnreachable the database program cannot be reached
    ├── StoreGone        its files were deleted, replaced or cut under us
    └── StoreClosed      we closed it ourselves: the relay ends

SQLite's result codes: https://www.sqlite.org/rescode.html. Its own words stand in brackets at the end; statements
and their values are in no message.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from sqlalchemy.exc import DBAPIError

from relay.limits.ledger import LedgerError


class StoreError(LedgerError):
    """The store cannot be used. The message is a sentence with the file and what to do.

    `reason` is the kind as one word, for programs (`relay status --json`).
    """

    reason: ClassVar[str] = "broken"


class StoreExposed(StoreError):
    """Others could open the store's files."""


class StoreNewer(StoreError):
    """A newer version of relay made this store."""


class StoreOlder(StoreError):
    """This version of relay has not made its tables there yet."""


class StoreCorrupt(StoreError):
    """The store is damaged, or the file is no store."""

    reason: ClassVar[str] = "damaged"


class StoreBusy(StoreError):
    """Another process kept the store locked for too long."""

    reason: ClassVar[str] = "locked"


class StoreFull(StoreError):
    """The disk is full."""

    reason: ClassVar[str] = "full"


class StoreClosed(StoreError):
    """The relay has closed the store: it ends, and nothing is written any more."""


class StoreReadOnly(StoreError):
    """The store can be read, and not written."""

    reason: ClassVar[str] = "read-only"


class StoreUnreachable(StoreError):
    """The database program cannot be reached."""

    reason: ClassVar[str] = "away"


class StoreGone(StoreError):
    """The store's files were deleted, moved, replaced or cut while we use them: a commit would be lost."""

    reason: ClassVar[str] = "gone"


def own(error: StoreError) -> StoreError:
    """Return an error for one of several who share it: each raises its own."""
    alone = type(error)(*error.args)
    alone.__cause__ = error.__cause__
    return alone


_MEANINGS: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_CORRUPT: (StoreCorrupt, "is damaged; stop relay and put back a backup of it"),
    sqlite3.SQLITE_NOTADB: (StoreCorrupt, "is no database; move it away, or put back a backup of it"),
    sqlite3.SQLITE_BUSY: (StoreBusy, "is locked by another process; try again when that has ended"),
    sqlite3.SQLITE_LOCKED: (StoreBusy, "is locked by another process; try again when that has ended"),
    sqlite3.SQLITE_FULL: (StoreFull, "cannot grow: the disk is full; make room on it"),
    sqlite3.SQLITE_READONLY: (StoreReadOnly, "cannot be written; check the owner of the file and of its folder"),
    sqlite3.SQLITE_PERM: (StoreError, "may not be opened; check the owner of the file and of its folder"),
    sqlite3.SQLITE_CANTOPEN: (
        StoreError,
        "cannot be opened; check that its folder exists, who owns it, and that the disk is not read-only",
    ),
    sqlite3.SQLITE_IOERR: (StoreError, "cannot be read or written; check the disk"),
}


def damaged(path: Path, found: str) -> StoreCorrupt:
    """Return what to raise about a store that is damaged; `found` says where."""
    return StoreCorrupt(_sentence(path, _MEANINGS[sqlite3.SQLITE_CORRUPT][1], found))


@contextmanager
def named_faults(path: Path) -> Iterator[None]:
    """Turn what the database driver raises into a StoreError about `path`; what we did wrong ourselves stays."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:  # the driver's own comes out of the setting-up of a connection
        cause = error.orig if isinstance(error, DBAPIError) else error
        # Extended codes carry the primary one in their low byte.
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code not in _MEANINGS:
            raise
        kind, words = _MEANINGS[code]
        raise kind(_sentence(path, words, str(cause))) from error


def _sentence(path: Path, words: str, cause: str) -> str:
    return f"the store {path} {words} ({cause})"
