"""How much room the disk has."""

import os
from pathlib import Path


def free_space(path: Path | int) -> int:
    """Return how many octets can still be written to the file system of a file or folder (a path, or an open file's
    number). Raises OSError."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
