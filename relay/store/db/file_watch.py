"""Whether the files of a store are still those that SQLite has open.

SQLite goes on with files that were deleted, moved away or replaced: it commits into what nobody finds again. So their
places are looked at around each commit, and once a second. What was done to the open files themselves shows, too: the
database and the WAL say in their headers how far they are, and the index of the WAL (https://www.sqlite.org/walformat.html)
how long it must be.

One whose very files come back is well again. Of files that were cut or written over nobody knows what else is lost.
"""

import os
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import NamedTuple

from relay.store.db.errors import StoreError, StoreGone

# What every file of SQLite begins with, and where it counts its changes: https://www.sqlite.org/fileformat.html.
MAGIC = b"SQLite format 3\0"
_HEADER = 28
_CHANGES = slice(24, 28)
# The header of the WAL's index, which stands there twice: its version, whether it is made, the size of a page, how many
# frames are committed, and the salts that mark them as of this WAL.
_INDEX = Struct("=I8xBxHI12x8s8x")
_INDEX_OCTETS = 2 * _INDEX.size
_INDEX_VERSION = 3007000
# The header of the WAL, and where the salts stand in it.
_WAL_HEADER = 32
_SALTS, _SALTS_AT = 8, 16
_FRAME_HEADER = 24
_LOOKS = 3  # what changes while it is looked at is looked at again


class FileWatch:
    """Watches the database at `path`, its WAL and the WAL's index. `begin` says which files are meant."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places = (str(path), f"{path}-wal", f"{path}-shm")
        self._open: _Open | None = None
        # What was read when it was looked at last: the headers of the database and of the index, and what this says.
        self._header = b""
        self._changes = 0
        self._index: tuple[bytes, _WalIndex] = (b"", _WalIndex(0, b""))
        self._damage = ""
        self._lock = Lock()

    def begin(self) -> None:
        """Take the files that are there for the ones that SQLite has open; to be called when it has just opened them.

        Only the first call counts. Raises StoreGone.
        """
        with self._lock:
            if self._open is None:
                try:
                    self._open = _Open(*map(_file, self._places))
                except OSError as error:
                    raise self._gone(f"{error.filename} cannot be looked at: {error.strerror}") from None

    def look(self) -> None:
        """Raise StoreGone where what is committed would be lost, and StoreError where a file cannot be read."""
        opened = self._open
        try:
            if opened is not None and (self._damage or not self._is_well(opened)):
                self._look_closely(opened)
        except OSError as error:
            raise self._unreadable(error) from error

    def look_before_commit(self) -> None:
        """Raise StoreGone where a commit would be lost, as `look` does after it, or hide that something was lost.

        It does half the work: each system call is a turn that another thread may take.
        """
        opened = self._open
        try:
            if opened is not None and (self._damage or not self._may_commit(opened)):
                self._look_closely(opened)
        except OSError as error:
            raise self._unreadable(error) from error

    def close(self) -> None:
        """End watching, behind the last connection of SQLite."""
        with self._lock:
            found, self._open = self._open, None
            for file in found or ():
                file.release()

    def _is_well(self, opened: "_Open") -> bool:
        """Whether all is as it was, or as a commit leaves it.

        Where it is not, only a closer look tells what it is: a checkpoint, or something that is written just now.
        """
        try:
            database, wal, index = map(os.stat, self._places)
        except OSError:
            return False
        if not (opened.database.is_at(database) and opened.wal.is_at(wal) and opened.wal_index.is_at(index)):
            return False
        if os.pread(opened.database.descriptor, _HEADER, 0) != self._header:
            return False
        octets = os.pread(opened.wal_index.descriptor, _INDEX_OCTETS, 0)
        before, says = self._index
        if octets != before:
            found = _wal_index(octets)
            if found is None:
                return False
            self._index, says = (octets, found), found
        if not says.least:
            return True
        return wal.st_size >= says.least and os.pread(opened.wal.descriptor, _SALTS, _SALTS_AT) == says.salts

    def _may_commit(self, opened: "_Open") -> bool:
        """Whether the database is in its place and unchanged, and the WAL has a place and is no shorter than it was."""
        try:
            database = os.stat(self._places[0])  # noqa: PTH116 - twice as fast
        except OSError:
            return False
        if not opened.database.is_at(database) or os.pread(opened.database.descriptor, _HEADER, 0) != self._header:
            return False
        wal = os.fstat(opened.wal.descriptor)
        return wal.st_nlink > 0 and wal.st_size >= self._index[1].least

    def _look_closely(self, opened: "_Open") -> None:
        if not self._damage:
            self._damage = self._look_into(opened)
        if self._damage:
            raise StoreGone(
                f"the store {self._path} is damaged: {self._damage} while relay uses it, and what was in it may be "
                "lost; no mail is accepted; stop relay and put back a backup: relay restore FILE"
            )
        for place, file in zip(self._places, opened, strict=True):
            try:
                status = Path(place).stat()
            except FileNotFoundError:
                raise self._gone(f"{place} was deleted or moved away") from None
            except OSError as error:
                raise self._gone(f"{place} cannot be looked at: {error.strerror}") from None
            if not file.is_at(status):
                raise self._gone(f"another file is in the place of {place}")

    def _gone(self, what: str) -> StoreGone:
        return StoreGone(
            f"the store {self._path} is no longer in its place: {what} while relay uses it; no mail is accepted, and "
            "what was stored is lost when relay stops; so now run: relay backup FILE; then stop relay, and put it back "
            "with: relay restore FILE"
        )

    def _unreadable(self, error: OSError) -> StoreError:
        return StoreError(f"the store {self._path} cannot be read; check the disk ({error.strerror})")

    def _look_into(self, opened: "_Open") -> str:
        """Return what somebody did to the files that SQLite has open; "" where nothing shows."""
        found = ""
        for _ in range(_LOOKS):
            if not (found := self._damage_of_database(opened) or self._damage_of_wal(opened)):
                break
        return found

    def _damage_of_database(self, opened: "_Open") -> str:
        header = os.pread(opened.database.descriptor, _HEADER, 0)
        if len(header) < _HEADER:
            return f"{self._places[0]} was cut"
        changes = int.from_bytes(header[_CHANGES], "big")
        if not header.startswith(MAGIC) or changes < self._changes:
            return f"{self._places[0]} was written over"
        self._header, self._changes = header, changes
        return ""

    def _damage_of_wal(self, opened: "_Open") -> str:
        says = _wal_index(os.pread(opened.wal_index.descriptor, _INDEX_OCTETS, 0))
        if says is None or not says.least:
            return ""
        if os.fstat(opened.wal.descriptor).st_size < says.least:
            return f"{self._places[1]} was cut"
        if os.pread(opened.wal.descriptor, _SALTS, _SALTS_AT) != says.salts:
            return f"{self._places[1]} was written over"
        return ""


class _WalIndex(NamedTuple):
    """How long the WAL must at least be, 0 where nothing in it counts, and the salts that its header has."""

    least: int
    salts: bytes


def _wal_index(octets: bytes) -> _WalIndex | None:
    """Read the index of a WAL; None where it is just being written, or of a kind that we do not know."""
    if len(octets) < _INDEX_OCTETS or octets[: _INDEX.size] != octets[_INDEX.size :]:
        return None
    version, is_made, page, frames, salts = _INDEX.unpack_from(octets)
    if version != _INDEX_VERSION or not is_made:
        return None
    return _WalIndex(_WAL_HEADER + frames * (_FRAME_HEADER + (65536 if page == 1 else page)) if frames else 0, salts)


class _File:
    """A file that is open for reading, shared by all who watch it in this process.

    Closing any descriptor of a file ends the locks that SQLite has on it in this process
    (https://www.sqlite.org/howtocorrupt.html, section 2.2). So it is closed behind the last of them.
    """

    def __init__(self, device: int, number: int, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 0
        self._device = device
        self._number = number

    def is_at(self, place: os.stat_result) -> bool:
        """Whether it is what was found at a place."""
        return place.st_ino == self._number and place.st_dev == self._device

    def release(self) -> None:
        """One uses it no more."""
        with _sharing:
            self.users -= 1
            if not self.users:
                del _files[self._device, self._number]
                os.close(self.descriptor)


class _Open(NamedTuple):
    """The three files."""

    database: _File
    wal: _File
    wal_index: _File


_sharing = Lock()
_files: dict[tuple[int, int], _File] = {}


def _file(place: str) -> _File:
    """Return the file at a place. Raises OSError."""
    with _sharing:
        status = Path(place).stat()
        key = (status.st_dev, status.st_ino)
        if key not in _files:
            _files[key] = _File(*key, os.open(place, os.O_RDONLY | os.O_CLOEXEC))
        found = _files[key]
        found.users += 1
        return found
