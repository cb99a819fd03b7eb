"""Files: making private ones (0600, in a folder with 0700), reading small ones within bounds, and how much is free.

SECURITY: the master key and the store are worth as much as every password in the vault. A file that others could
open is refused with the command that corrects it; a file that we make is private before its first byte.

Whoever names a file in the settings or the directory could name a pipe, a terminal or one without an end. It is opened
without waiting, must be a regular file once it is open, and is read so far and no further. A file system that hangs
keeps two threads of ours and not those that mail needs.
"""

import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


FILE_MODE = 0o600
FOLDER_MODE = 0o700


def lax_mode(path: Path) -> str:
    """Return what is wrong with the mode of a file (wider than 0600) or folder (0700), and the command against it.

    "" where nothing is. A path that does not exist is no fault. Links are followed. What cannot be looked at cannot
    be opened either, and whoever opens it says so.
    """
    try:
        status = path.stat()
    except OSError:
        return ""
    allowed = FOLDER_MODE if stat.S_ISDIR(status.st_mode) else FILE_MODE
    mode = stat.S_IMODE(status.st_mode) & 0o777
    if not mode & ~allowed:
        return ""
    return f"others may open it (mode {mode:04o}); run: chmod {allowed:o} {shlex.quote(str(path))}"


def check_modes(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return a sentence with its path for each file and folder whose mode is too wide."""
    return tuple(f"{path}: {lax}" for path in paths if (lax := lax_mode(path)))


def make_private_folder(folder: Path) -> None:
    """Make a folder with mode 0700, unless it exists. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)


def create_private(path: Path, mode: int = FILE_MODE) -> int:
    """Create a file that belongs to its folder's owner, and return its descriptor for writing.

    Raises FileExistsError if there is one, and other OSErrors.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        os.fchmod(descriptor, mode)  # a strange umask may have taken the owner's own bits away
        take_folder_owner(descriptor, path.parent)
    except BaseException:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor


def write_private(path: Path, content: bytes) -> None:
    """Write a private file whole or not at all, durable when this returns. Replaces one that is there.

    The caller holds the lock that keeps a second writer away. Raises OSError.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = create_private(temporary)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_folder_owner(descriptor: int, folder: Path) -> None:
    """Give a new file to the owner of its folder: what root writes there, the daemon must be able to open."""
    owner = folder.stat()
    with suppress(PermissionError):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


P = ParamSpec("P")
Result = TypeVar("Result")

MOST_OCTETS = 1024 * 1024
_THREADS = 2
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def read_regular_file(path: Path | str, most: int = MOST_OCTETS) -> bytes:
    """Return the content of a regular file of at most `most` octets. Raises OSError, whose `strerror` says why not."""
    descriptor = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most // 1024} KiB", str(path))
    return content


def file_stamp(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is written or replaced; None where it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


async def in_file_thread(function: Callable[P, Result], *arguments: P.args, **keywords: P.kwargs) -> Result:
    """Return what a function returns that reads such files, run in a thread that is for them alone."""
    import asyncio  # noqa: PLC0415  commands read files without it

    return await asyncio.get_running_loop().run_in_executor(_threads(), lambda: function(*arguments, **keywords))


@cache
def _threads() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    return ThreadPoolExecutor(_THREADS, thread_name_prefix="files")


def free_space(path: Path | int) -> int:
    """Return how many octets can still be written to the file system of a file or folder (a path, or an open file's
    number). Raises OSError."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
