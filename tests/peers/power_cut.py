"""What a disk may hold after a power cut, by the record of all that was done to the files of a folder (`interposed`).

What was synced is there. What was not may be there, in any order and in parts as large as a sector; a name that was
made, changed or removed is sure only when its folder was synced, and names change in their order.
"""

import random
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

from tests.peers.interposed import KINDS

_ENTRY = struct.Struct("=IIQQQII")
SECTORS = (512, 4096)
# How much of what was not synced has reached the disk, file by file.
_SHARES = (0.0, 0.5, 0.9, 1.0)
_TAKEN = re.compile(rb"250 2\.0\.0 Ok: queued as (\S+)\r\n")


class Op(IntEnum):
    """What was done, as in interposed.c."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    SYNC_FOLDER = 5
    RENAME = 6
    UNLINK = 7
    LINK = 8
    SENT = 9


@dataclass(frozen=True, slots=True)
class Entry:
    """One call. `offset` is also the new size of a file that is cut; `data` is what was written or sent."""

    op: Op
    kind: str
    inode: int
    offset: int
    path: str
    target: str
    data: bytes

    @property
    def is_sync(self) -> bool:
        """Whether something is sure from here on."""
        return self.op in {Op.SYNC, Op.SYNC_FOLDER}

    @property
    def taken(self) -> tuple[str, ...]:
        """The messages that a client hears here that they are stored."""
        return tuple(id_.decode() for id_ in _TAKEN.findall(self.data)) if self.op is Op.SENT else ()


def entries(record: bytes) -> Iterator[Entry]:
    """Read a record."""
    at = 0
    while at < len(record):
        op, kind, inode, offset, length, path, target = _ENTRY.unpack_from(record, at)
        at += _ENTRY.size
        parts = []
        for size in (path, target, length if op in {Op.WRITE, Op.SENT} else 0):
            parts.append(record[at : at + size])
            at += size
        yield Entry(Op(op), KINDS[kind], inode, offset, parts[0].decode(), parts[1].decode(), parts[2])


@dataclass(slots=True)
class _File:
    """One file: what of it is sure, and what was done since."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[Entry] = field(default_factory=list)

    def sync(self) -> None:
        for entry in self.since:
            _do(self.synced, entry)
        self.since.clear()

    def torn(self, chance: random.Random) -> bytes:
        """What may be there of it."""
        found, share, sector = bytearray(self.synced), chance.choice(_SHARES), chance.choice(SECTORS)
        for entry in self.since:
            for part in _parts(entry, sector):
                if chance.random() < share:
                    _do(found, part)
        return bytes(found)


# Files by their paths, each with its number and content.
Files: TypeAlias = Mapping[str, tuple[int, bytes]]


def files_of(folder: Path) -> Files:
    """Return what is in a folder, before a record begins."""
    return {str(path): (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir() if path.is_file()}


class Disk:
    """A disk that has these files for sure; each `do` goes on from there."""

    def __init__(self, files: Files) -> None:
        self._files: dict[int, _File] = {}
        self._names: dict[str, _File] = {}  # as they are
        self._synced_names: dict[str, _File] = {}
        self._since: list[tuple[str, _File | None]] = []  # names that were given (or taken away) since
        for path, (inode, content) in files.items():
            file = self._files[inode] = _File(bytearray(content))
            self._names[path] = self._synced_names[path] = file

    def do(self, entry: Entry) -> None:
        """Do what was done."""
        match entry.op:
            case Op.CREATE:
                self._files[entry.inode] = _File()  # also where one had the number that is gone
                self._name(entry.path, self._files[entry.inode])
            case Op.WRITE | Op.TRUNCATE:
                self._files[entry.inode].since.append(entry)
            case Op.SYNC:
                self._files[entry.inode].sync()
            case Op.RENAME:
                self._name(entry.target, self._names[entry.path])
                self._name(entry.path, None)
            case Op.LINK:
                self._name(entry.target, self._names[entry.path])
            case Op.UNLINK:
                self._name(entry.path, None)
            case Op.SYNC_FOLDER:
                self._give(self._synced_names, len(self._since))
                self._since.clear()
            case Op.SENT:
                pass

    def sure(self) -> Mapping[str, bytes]:
        """The files after a cut of which nothing is there that was not synced."""
        return {path: bytes(file.synced) for path, file in self._synced_names.items()}

    def torn(self, chance: random.Random) -> Mapping[str, bytes]:
        """The files after a cut of which some is there that was not synced. The index of a WAL may be anything."""
        names = dict(self._synced_names)
        self._give(names, chance.randint(0, len(self._since)))
        return {
            path: chance.randbytes(32768) if path.endswith("-shm") else file.torn(chance)
            for path, file in names.items()
        }

    def _name(self, path: str, file: _File | None) -> None:
        self._since.append((path, file))
        self._give(self._names, len(self._since), len(self._since) - 1)

    def _give(self, names: dict[str, _File], end: int, start: int = 0) -> None:
        for path, file in self._since[start:end]:
            if file is None:
                names.pop(path, None)
            else:
                names[path] = file


def put_back(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into a folder, private as they were."""
    for path, content in files.items():
        target = folder / Path(path).name
        target.unlink(missing_ok=True)
        target.touch(mode=0o600)
        target.write_bytes(content)


def _do(content: bytearray, entry: Entry) -> None:
    if entry.op is Op.TRUNCATE:
        del content[entry.offset :]
        content.extend(bytes(entry.offset - len(content)))
    else:
        content.extend(bytes(max(0, entry.offset - len(content))))
        content[entry.offset : entry.offset + len(entry.data)] = entry.data


def _parts(entry: Entry, sector: int) -> Iterator[Entry]:
    """What of a call reaches the disk as a whole: each sector for itself."""
    if entry.op is not Op.WRITE:
        yield entry
        return
    at, end = entry.offset, entry.offset + len(entry.data)
    while at < end:
        until = min(end, at - at % sector + sector)
        data = entry.data[at - entry.offset : until - entry.offset]
        yield Entry(entry.op, entry.kind, entry.inode, at, "", "", data)
        at = until
