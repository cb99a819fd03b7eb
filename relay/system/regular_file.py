"""Small files that settings or the directory name: read within bounds, in threads that nothing else waits for.

SECURITY: whoever names a file could name a pipe, a terminal or one without an end. It is opened without waiting, must
be a regular file once it is open, and is read so far and no further. A file system that hangs keeps two threads of ours
and not those that mail needs.
"""

import errno
import os
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

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
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most // 1024} KiB", str(path))
    return content


async def in_file_thread(function: Callable[P, Result], *arguments: P.args, **keywords: P.kwargs) -> Result:
    """Return what a function returns that reads such files, run in a thread that is for them alone."""
    import asyncio  # noqa: PLC0415  commands read files without it

    return await asyncio.get_running_loop().run_in_executor(_threads(), lambda: function(*arguments, **keywords))


@cache
def _threads() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    return ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
