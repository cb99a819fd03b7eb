"""Bodies that are too large for memory, on the way in and on the way out: in a temporary file without a name.

It is for this process alone (mode 0600) and gone with it, whatever ends it: its name is removed before anything is
written, and where the system can, it never had one. Nothing of it is synced: what counts is in the store.
"""

import errno
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread

from relay.mail.content import Body
from relay.store.db.errors import StoreError, StoreFull
from relay.system.files import free_space

_CHUNK = 128 * 1024
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Spool:
    """Where large bodies go: to files in `folder`, each from so many octets on, as long as so many are free there."""

    folder: Path
    in_memory: int
    least_free: int = 0

    def new_body(self) -> "SpooledGathering":
        """Begin a body."""
        return SpooledGathering(self)


class SpooledBody:
    """A body in a file, which is closed when nobody has the body any more."""

    def __init__(self, folder: Path) -> None:
        """Open the file. Raises OSError."""
        self.size = 0
        self.is_ascii = True
        with TemporaryFile(dir=folder, prefix="body-") as file:
            # A number instead of a file object, which would have to be closed by somebody: a message has many hands.
            self.number = os.dup(file.fileno())
        # When the process ends, the system closes it.
        weakref.finalize(self, _close, self.number).atexit = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield its chunks. Raises StoreError."""
        return self.since(0)

    def since(self, start: int) -> Iterator[bytes]:
        """Yield what there is from an octet on, also while more is written. Raises StoreError."""
        while start < self.size:
            chunk = self._read(start)
            if chunk.endswith(b"\r") and len(chunk) > 1:
                chunk = chunk[:-1]  # its LF is the next octet
            yield chunk
            start += len(chunk)

    def append(self, chunk: bytes) -> None:
        """Write one more chunk. Raises OSError."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self.number, rest) :]
        self.size += len(chunk)
        self.is_ascii = self.is_ascii and chunk.isascii()

    def _read(self, start: int) -> bytes:
        try:
            # Not beyond its size: there may be a part of what is being written.
            chunk = os.pread(self.number, min(_CHUNK, self.size - start), start)
        except OSError as error:
            raise StoreError(f"a message cannot be read from its temporary file: {error.strerror}") from error
        if not chunk:
            raise StoreError(f"the temporary file of a message ends at {start} of {self.size} octets")
        return chunk


def _close(number: int) -> None:
    """Close a file in a thread: the system gives its room back, which takes it a millisecond for each 8 MB and more."""
    try:
        Thread(target=os.close, args=(number,), daemon=True).start()
    except RuntimeError:  # there can be no more threads
        os.close(number)


class SpooledGathering:
    """One body as it comes. Raises StoreFull and StoreError where it can be kept no longer."""

    def __init__(self, spool: Spool) -> None:
        self.held = 0
        self._spool = spool
        self._chunks: list[bytes] = []
        self._large: SpooledBody | None = None

    def keeps(self, octets: int) -> bool:
        """Whether so many more stay in memory."""
        return self._large is None and self.held + octets <= self._spool.in_memory

    def add(self, chunk: bytes) -> None:
        """Take the next chunk."""
        stays = self.keeps(len(chunk))
        self._chunks.append(chunk)
        self.held += len(chunk)
        if stays:
            return
        try:
            self._move_to_disk()
        except OSError as error:
            kind = StoreFull if error.errno in _NO_SPACE else StoreError
            words = f"a message cannot be kept in a temporary file in {self._spool.folder}: {error.strerror}"
            raise kind(words) from error

    def so_far(self) -> SpooledBody | None:
        """Return the file, where there is one."""
        return self._large

    def finish(self) -> Body:
        """Return the body."""
        return self._large or tuple(self._chunks)

    def _move_to_disk(self) -> None:
        if self._large is None:
            self._large = SpooledBody(self._spool.folder)
        # Asked each time: many messages come at once, and none of them knows of the others.
        if free_space(self._large.number) < self._spool.least_free:
            raise OSError(errno.ENOSPC, f"less than {self._spool.least_free} octets are free")
        for chunk in self._chunks:
            self._large.append(chunk)
        self._chunks.clear()
        self.held = 0
