"""Turns to write, among the processes of one relay: a lock that wakes the next one at once.

SQLite alone lets whoever finds the database locked try again after a pause of up to a tenth of a second, in no order;
with several processes that write all the time some then wait for seconds. The lock (flock(2)) is on an empty file
beside the database: to close any other descriptor of the database itself would end SQLite's own locks
(sqlite.org/howtocorrupt.html, section 2.2).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = "-turn"


@contextmanager
def turn_to_write(path: Path) -> Iterator[None]:
    """Wait until no other process writes to the database at `path`, and let none write within."""
    file = path.with_name(path.name + _SUFFIX)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # the lock ends with it
