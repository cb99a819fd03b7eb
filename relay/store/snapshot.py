"""A whole copy of a store, taken while others write to it."""

import contextlib
import sqlite3
from pathlib import Path

from relay.store.errors import damaged, named_faults
from relay.store.sqlite import find_damage

_BUSY_SECONDS = 10.0


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
