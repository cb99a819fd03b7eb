"""A whole copy of a store, taken while others write to it; and the one that is kept of a store before a migration."""

import contextlib
import glob
import os
import sqlite3
from pathlib import Path

from relay.store.db.errors import StoreError, damaged, named_faults
from relay.store.db.integrity import find_damage
from relay.system.file_modes import create_private, sync_folder

_BUSY_SECONDS = 10.0
# What every file of SQLite begins with: https://www.sqlite.org/fileformat.html, section 1.3.
_MAGIC = b"SQLite format 3\0"


def take_snapshot(path: Path, target: Path) -> None:
    """Write what is committed in the store at this moment to `target`, a private file that is there and empty.

    Others go on reading and writing meanwhile. Raises StoreError.
    """
    with named_faults(path), contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))


def check_snapshot(path: Path) -> None:
    """Look through a copy for damage. Raises StoreCorrupt."""
    with named_faults(path):
        found = find_damage(path)
    if found:
        raise damaged(path, found)


def is_store(path: Path) -> bool:
    """Whether a file is a bare database, such as the copy that was kept. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


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
        for other in kept_copies(path):
            if other != copy:
                other.unlink()
    except OSError as error:
        raise StoreError(
            f"the copy {copy} cannot be made: {error.strerror}; make that possible, and start again"
        ) from None
    return copy


def kept_copies(path: Path) -> list[Path]:
    """Return the copies that migrations of a store have left beside it."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.schema-*.old"))
