"""The store in a file of SQLite, in WAL mode, which needs no server; its copies, and looking through it for damage.

SQLite has one writer at a time, and waiting in our process never ends in "database is locked". A commit is on the disk
when it returns (synchronous=FULL; NORMAL would not sync a WAL commit).

Where several processes of one relay write, they take turns by a lock that wakes the next one at once. SQLite alone
lets whoever finds the database locked try again after a pause of up to a tenth of a second, in no order; with several
processes that write all the time some then wait for seconds. The lock (flock(2)) is on an empty file beside the
database: to close any other descriptor of the database itself would end SQLite's own locks
(sqlite.org/howtocorrupt.html, section 2.2).
"""

import contextlib
import fcntl
import glob
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from relay.store.db.backend import Moment, Use
from relay.store.db.errors import StoreError, StoreExposed, StoreFull, StoreGone, StoreReadOnly, damaged, named_faults
from relay.store.db.file_watch import MAGIC, FileWatch
from relay.system.files import check_modes, create_private, make_private_folder, sync_folder

# A file system's device, and the number of a file there.
FileNumber: TypeAlias = tuple[int, int]
# How long a statement waits for another process, such as a command that opened the store itself.
_BUSY_SECONDS = 10.0
# What the WAL keeps of the disk when its content has gone to the database; large messages make it larger for a while.
_WAL_OCTETS = 16 * 1024 * 1024
# Less room than this is none.
_LEAST_OCTETS = 64 * 1024
# A file up to this size is looked through for damage within a second; of a larger one only what rules all the mail.
_CHECKED_OCTETS = 256 * 1024 * 1024
_RULING_TABLES = ("secrets", "vault", "holds", "budgets", "mailboxes")
_LOCK_SUFFIX = "-turn"
_BEGIN = {Use.READ: "BEGIN", Use.WRITE: "BEGIN IMMEDIATE", Use.UPGRADE: "BEGIN IMMEDIATE"}
_PRAGMAS_OF_ALL = ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={_WAL_OCTETS}")
# An upgrade does not enforce foreign keys: rebuilding a table, which is how SQLite changes a column, drops the old one,
# and that would delete whatever refers to it. What a statement needs to be undone by itself is a page or so of each
# index: in a temporary file it would be over two system calls for each message, so what writes has it in memory.
_PRAGMAS = {Use.READ: ("query_only=ON",), Use.WRITE: ("foreign_keys=ON", "temp_store=MEMORY"), Use.UPGRADE: ()}


class SqliteFile:
    """A file: the port `relay.store.db.backend.Backend`. `has_peers`: other processes write to it all the time.

    `is_file`: which file it has to be (device and number), where these others have it open already.
    """

    def __init__(self, path: Path, *, has_peers: bool = False, is_file: FileNumber | None = None) -> None:
        self._path = path
        self._has_peers = has_peers
        self._is_file = is_file
        self._watch = FileWatch(path)

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    @property
    def is_shared(self) -> bool:
        """Never: the processes of one relay tell each other."""
        return False

    def prepare(self) -> None:
        """Make the file, since SQLite would make it readable by others; its own files take the mode of this one."""
        path = self._path
        if self._is_file is not None and file_number(path) != self._is_file:
            raise StoreGone(
                f"the store {path} is not the file that the other processes of this relay use; put that back, or run: "
                "relay backup FILE; then stop relay, and put it back with: relay restore FILE"
            )
        try:
            make_private_folder(path.parent)
            with contextlib.suppress(FileExistsError):  # it is there, or another process was faster
                os.close(create_private(path))
                sync_folder(path.parent)
                _let_shrink(path)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be made: {error.strerror}") from None
        if not path.is_file():
            raise StoreError(f"the store {path} is no file")
        if lax := check_modes(store_files(path)):
            raise StoreExposed(lax[0])

    def engine(self, use: Use, connections: int) -> Engine:
        """Return an engine. The driver is told to leave transactions alone (isolation_level=None): it would open them
        late, and not at all for a change of the schema."""
        engine = create_engine(
            "sqlite://",
            creator=partial(self._connect, _PRAGMAS[use]),
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,  # no value of a row in an exception
        )
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(_BEGIN[use]))
        return engine

    def named_faults(self) -> AbstractContextManager[None]:
        """Turn what the driver raises into a StoreError about the file."""
        return named_faults(self._path)

    def may_repeat(self, error: Exception) -> bool:  # noqa: ARG002
        """Never: who waited for another process has waited long enough."""
        return False

    def turn(self) -> AbstractContextManager[None]:
        """Wait for the other processes (`relay.store.db.sqlite`), where there are any."""
        if not self._has_peers:
            return nullcontext()
        self._watch.look_before_commit()  # the lock is in the same folder
        return _turn_to_write(self._path)

    def lock_out_others(self, connection: Connection) -> None:
        """There is one writer at a time anyway."""

    def notify_others(self, connection: Connection) -> None:
        """There is nobody to be called."""

    async def listen(self, notified: Callable[[], None]) -> None:
        """Nobody calls."""

    def lock_schema(self, connection: Connection) -> None:
        """There is one writer at a time anyway."""

    def keep_copy(self, revision: str) -> str:
        """Keep a copy beside the file. Raises StoreError."""
        return str(keep_copy(self._path, revision))

    def restore_hint(self) -> str:
        """Say how to come back to before a migration: `relay restore` holds what may have been sent since."""
        copy = next(iter(_kept_copies(self._path)), None)
        return f"put back the copy from before it: relay restore {copy}" if copy else "put back a backup from before it"

    def check(self) -> None:
        """Look for damage. Raises StoreCorrupt."""
        if found := _find_damage(self._path):
            raise damaged(self._path, found)

    def inspect(self) -> list[str]:
        """Run SQLite's whole check."""
        self._watch.look()
        return _find_all_damage(self._path)

    def look(self) -> None:
        """Look at the files, and at the disk."""
        self._watch.look()
        folder = self._path.parent
        try:
            found = os.statvfs(folder)
        except OSError as error:
            raise StoreError(f"the store {self._path} cannot be looked at: {error.strerror}") from None
        if found.f_flag & os.ST_RDONLY:
            raise StoreReadOnly(f"the store {self._path} cannot be written: its disk is read-only; mount it rw again")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StoreReadOnly(f"the store {self._path} cannot be written: check the owner and mode of its folder")
        if found.f_bavail * found.f_frsize < _LEAST_OCTETS:
            raise StoreFull(f"the store {self._path} cannot grow: the disk is full; make room on it")

    def look_before_commit(self) -> None:
        """Look at the database, and at the size of the WAL."""
        self._watch.look_before_commit()

    def look_after_commit(self) -> None:
        """Look at the files alone."""
        self._watch.look()

    def copy_to(self, connection: Any, target: Path) -> None:
        """Copy what that connection sees, which has files open that may be in no folder any more."""
        with contextlib.closing(sqlite3.connect(target, timeout=_BUSY_SECONDS)) as copy:
            connection.backup(copy)

    def close(self) -> None:
        """End watching."""
        self._watch.close()

    def shrink(self, pages: int) -> int:
        """Free unused pages; not by SQLAlchemy, since the statement frees one with each step and a cursor makes one."""
        self._watch.look()
        with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
            before = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
            connection.executescript(f"PRAGMA incremental_vacuum({pages})")
            return before - int(connection.execute("PRAGMA freelist_count").fetchone()[0])

    def after(self, seconds: timedelta, now: datetime) -> Moment:
        """Return the moment so long after `now`: the file is on this machine."""
        return now + seconds

    def now(self, connection: Connection, now: datetime) -> datetime:  # noqa: ARG002
        """Return `now`: the file is on this machine."""
        return now

    def instance(self, connection: Connection) -> str:  # noqa: ARG002
        """Return "": nothing can take the place of a file under us."""
        return ""

    def command(self, statement: str) -> str:
        """Return the command; Debian has the program in the package sqlite3."""
        return f"sqlite3 {quote(str(self._path))} '{statement}'"

    def _connect(self, pragmas: Sequence[str]) -> sqlite3.Connection:
        """Return a connection to the file that the first one opened. Raises StoreGone where that is no longer there."""
        self._watch.look()
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",  # never make another one in its place
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,  # any thread may use a connection, one at a time
        )
        try:
            self._watch.look()
            for pragma in (*_PRAGMAS_OF_ALL, *pragmas):
                connection.execute(f"PRAGMA {pragma}").close()
            connection.execute("SELECT 1 FROM sqlite_master").close()  # opens the WAL
            self._watch.begin()
        except BaseException:  # the pool does not know it yet and would not close it
            connection.close()
            raise
        return connection


def file_number(path: Path) -> FileNumber | None:
    """Return the device of a file and its number there; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def store_files(path: Path) -> tuple[Path, ...]:
    """Return the files that a store may consist of: the database, and what SQLite keeps beside it."""
    return tuple(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal"))


def _let_shrink(path: Path) -> None:
    """Let an empty database give room back to the disk, which must be said before anything is in it."""
    with named_faults(path), contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=WAL"):
            connection.execute(f"PRAGMA {pragma}")


def take_snapshot(path: Path, target: Path) -> None:
    """Write what is committed in the store at this moment to `target`, a private file that is there and empty.

    Others go on reading and writing meanwhile. Raises StoreError.
    """
    with named_faults(path), contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))


def check_snapshot(path: Path) -> None:
    """Look through a copy for damage. Raises StoreCorrupt."""
    with named_faults(path):
        found = _find_damage(path)
    if found:
        raise damaged(path, found)


def is_store(path: Path) -> bool:
    """Whether a file is a bare database, such as the copy that was kept. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def keep_copy(path: Path, revision: str) -> Path:
    """Keep a copy of a store with the schema `revision` beside it, in place of those kept before; return where it is.

    It is durable when this returns. Raises StoreError: without the copy nothing should be changed.
    """
    copy = path.with_name(f"{path.name}.schema-{revision}.old")
    unfinished = copy.with_name(f"{copy.name}.tmp")
    try:
        unfinished.unlink(missing_ok=True)
        descriptor = create_private(unfinished)
        try:
            take_snapshot(path, unfinished)
            os.fsync(descriptor)  # VACUUM INTO does not
            unfinished.replace(copy)
        finally:
            os.close(descriptor)
            unfinished.unlink(missing_ok=True)
        sync_folder(path.parent)
        for other in _kept_copies(path):
            if other != copy:
                other.unlink()
    except OSError as error:
        raise StoreError(
            f"the copy {copy} cannot be made: {error.strerror}; make that possible, and start again"
        ) from None
    return copy


def _kept_copies(path: Path) -> list[Path]:
    """Return the copies that migrations of a store have left beside it."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.schema-*.old"))


def _find_damage(path: Path) -> str:
    """Return what is wrong with the structure of the file in SQLite's words, "" where nothing is found."""
    is_small = path.stat().st_size <= _CHECKED_OCTETS
    checks = ("quick_check(1)",) if is_small else tuple(f"quick_check({table})" for table in _RULING_TABLES)
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        said = (str(connection.execute(f"PRAGMA {check}").fetchone()[0]) for check in checks)
        return next((words.splitlines()[-1] for words in said if words != "ok"), "")


def _find_all_damage(path: Path) -> list[str]:
    """Return all that is wrong with the structure of the file and its indexes, in SQLite's words. May take minutes."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        try:
            said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            said = [str(error)]
    return [words for words in said if words != "ok"]


@contextmanager
def _turn_to_write(path: Path) -> Iterator[None]:
    """Wait until no other process writes to the database at `path`, and let none write within."""
    file = path.with_name(path.name + _LOCK_SUFFIX)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # the lock ends with it
