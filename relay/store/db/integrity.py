"""Looking through a store for damage."""

import contextlib
import sqlite3
from pathlib import Path

_BUSY_SECONDS = 10.0
# A file up to this size is looked through for damage within a second; of a larger one only what rules all the mail.
_CHECKED_OCTETS = 256 * 1024 * 1024
_RULING_TABLES = ("secrets", "vault", "holds", "budgets", "mailboxes")


def find_damage(path: Path) -> str:
    """Return what is wrong with the structure of the file in SQLite's words, "" where nothing is found."""
    is_small = path.stat().st_size <= _CHECKED_OCTETS
    checks = ("quick_check(1)",) if is_small else tuple(f"quick_check({table})" for table in _RULING_TABLES)
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        said = (str(connection.execute(f"PRAGMA {check}").fetchone()[0]) for check in checks)
        return next((words.splitlines()[-1] for words in said if words != "ok"), "")


def find_all_damage(path: Path) -> list[str]:
    """Return all that is wrong with the structure of the file and its indexes, in SQLite's words. May take minutes."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        try:
            said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            said = [str(error)]
    return [words for words in said if words != "ok"]
