"""Whether the files of a store are still those that SQLite has open.

SQLite goes on with files that were deleted, moved away or replaced: it commits into what nobody finds again. So their
places are looked at around each commit, and once a second. What was done to the open files themselves shows, too: the
database and the WAL say in their headers how far they are, and the index of the WAL (https://www.sqlite.org/walformat.html)
how long it must be.

One whose very files come back is well again. Of files that were cut or written over nobody knows what else is lost.
"""

import os
import sys
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from relay.store.errors import StoreGone

# What every file of SQLite begins with, and where it counts its changes: https://www.sqlite.org/fileformat.html.
MAGIC = b"SQLite format 3\0"
_HEADER = 28
_CHANGES = slice(24, 28)
# The header of the WAL's index, which stands there twice, and of the WAL.
_INDEX = 48
_INDEX_VERSION = 3007000
_WAL_HEADER = 32
_WAL_SALTS = slice(16, 24)
_FRAME_HEADER = 24
_LOOKS = 3  # what changes while it is looked at is looked at again


class FileWatch:
    """Watches the database at `path`, its WAL and the WAL's index. `begin` says which files are meant."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = f"{path}-wal"
        self._index = f"{path}-shm"
        self._known: dict[str, tuple[int, int]] = {}
        self._open: tuple[_Descriptor, _Descriptor, _Descriptor] | None = None
        self._changes = 0
        self._damage = ""
        self._lock = Lock()

    def begin(self) -> None:
        """Take the files that are there for the ones that SQLite has open; to be called when it has just opened them.

        Only the first call counts. Raises StoreGone.
        """
        with self._lock:
            if self._known:
                return
            try:
                found = {place: Path(place).stat() for place in (str(self._path), self._wal, self._index)}
                self._open = (_descriptor(self._path), _descriptor(Path(self._index)), _descriptor(Path(self._wal)))
            except OSError as error:
                raise self._gone(f"{error.filename} cannot be looked at: {error.strerror}") from None
            self._known = {place: (status.st_dev, status.st_ino) for place, status in found.items()}

    def look(self) -> None:
        """Raise StoreGone where what is committed now would be lost. Takes some microseconds."""
        if self._open is None:
            return
        if not self._damage:
            self._damage = self._look_into()
        if self._damage:
            raise StoreGone(
                f"the store {self._path} is damaged: {self._damage} while relay uses it, and what was in it may be "
                "lost; no mail is accepted; stop relay and put back a backup: relay restore FILE"
            )
        for place, known in self._known.items():
            try:
                status = os.stat(place)  # noqa: PTH116 - twice as fast
            except FileNotFoundError:
                raise self._gone(f"{place} was deleted or moved away") from None
            except OSError as error:
                raise self._gone(f"{place} cannot be looked at: {error.strerror}") from None
            if (status.st_dev, status.st_ino) != known:
                raise self._gone(f"another file is in the place of {place}")

    def close(self) -> None:
        """End watching, behind the last connection of SQLite."""
        with self._lock:
            found, self._open, self._known = self._open, None, {}
            for descriptor in found or ():
                descriptor.release()

    def _gone(self, what: str) -> StoreGone:
        return StoreGone(
            f"the store {self._path} is no longer in its place: {what} while relay uses it; no mail is accepted, and "
            "what was stored is lost when relay stops; so now run: relay backup FILE; then stop relay, and put it back "
            "with: relay restore FILE"
        )

    def _look_into(self) -> str:
        """Return what somebody did to the files that SQLite has open; "" where nothing shows."""
        found = ""
        for _ in range(_LOOKS):
            if not (found := self._damage_of_database() or self._damage_of_wal()):
                break
        return found

    def _damage_of_database(self) -> str:
        assert self._open is not None
        header = os.pread(self._open[0].number, _HEADER, 0)
        if len(header) < _HEADER:
            return f"{self._path} was cut"
        changes = int.from_bytes(header[_CHANGES], "big")
        if not header.startswith(MAGIC) or changes < self._changes:
            return f"{self._path} was written over"
        self._changes = changes
        return ""

    def _damage_of_wal(self) -> str:
        assert self._open is not None
        _, index_file, wal = self._open
        index = _wal_index(os.pread(index_file.number, 2 * _INDEX, 0))
        if index is None or not index.frames:
            return ""
        if os.fstat(wal.number).st_size < _WAL_HEADER + index.frames * (_FRAME_HEADER + index.page):
            return f"{self._wal} was cut"
        if os.pread(wal.number, _WAL_HEADER, 0)[_WAL_SALTS] != index.salts:
            return f"{self._wal} was written over"
        return ""


class _WalIndex(NamedTuple):
    """How many frames of the WAL are committed, how large a page is, and what marks the frames as of this WAL."""

    frames: int
    page: int
    salts: bytes


def _wal_index(octets: bytes) -> _WalIndex | None:
    """Read the index of a WAL; None where it is just being written, or of a kind that we do not know."""
    one, two = octets[:_INDEX], octets[_INDEX:]
    number = int.from_bytes(one[:4], sys.byteorder)
    if len(two) < _INDEX or one != two or number != _INDEX_VERSION or not one[12]:
        return None
    page = int.from_bytes(one[14:16], sys.byteorder)
    return _WalIndex(int.from_bytes(one[16:20], sys.byteorder), 65536 if page == 1 else page, one[32:40])


class _Descriptor:
    """A file that is open for reading, shared by all who watch it in this process.

    Closing any descriptor of a file ends the locks that SQLite has on it in this process
    (https://www.sqlite.org/howtocorrupt.html, section 2.2). So it is closed behind the last of them.
    """

    def __init__(self, key: tuple[int, int], number: int) -> None:
        self.number = number
        self.users = 0
        self._key = key

    def release(self) -> None:
        """One uses it no more."""
        with _sharing:
            self.users -= 1
            if not self.users:
                del _descriptors[self._key]
                os.close(self.number)


_sharing = Lock()
_descriptors: dict[tuple[int, int], _Descriptor] = {}


def _descriptor(path: Path) -> _Descriptor:
    """Return the descriptor of a file. Raises OSError."""
    with _sharing:
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        if key not in _descriptors:
            _descriptors[key] = _Descriptor(key, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        found = _descriptors[key]
        found.users += 1
        return found
