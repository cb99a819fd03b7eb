"""directory.toml on disk: read it, notice that it changed, and change it so that nothing is ever lost.

A change is made under a lock, on what the file says at that moment, and replaces the file in one step: a crash, a
full disk or a refused edit leaves the old file as it was. People edit the same file with an editor, which knows no
lock; so a file that changed between our reading and our writing is left alone, and the change is refused.

Comments and order stay where there are comments: tomlkit keeps them, and takes its time for it; a file without comments
goes the short way of tomllib and tomli-w. `FileStorage` is the port `relay.directory.storage` over it, which does not
hold up the event loop.

DIAGNOSTICS: Faults (what the file says, or would say, is wrong), ChangeRefused (it cannot be written, with a sentence).
"""

import fcntl
import hashlib
import os
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from relay.config.faults import Fault, Faults
from relay.config.schema import parse_toml
from relay.directory.directory import Directory
from relay.directory.rules.servers import backup_warnings, oauth_warnings
from relay.directory.rules.validation import inline_passwords, parse_directory
from relay.directory.storage import ChangeRefused, Check, DirectoryChanged, Edit, Snapshot, State
from relay.system.files import create_private, sync_folder, take_folder_owner
from relay.system.process import in_short_turns

LARGE = 100_000
"""Octets of a file that is large: some thousand agents."""
_LOCK_SECONDS = 30.0  # ten thousand agents with comments take one command 10 seconds
_LOCK_PAUSE = 0.02
_NEW_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which state of the file was read; all zero for a file that is not there."""

    modified: int = 0
    size: int = 0
    inode: int = 0

    @classmethod
    def of(cls, status: os.stat_result) -> "Fingerprint":
        """Return the fingerprint in the file's status: time in ns, bytes, inode (a rename brings a new one)."""
        return cls(status.st_mtime_ns, status.st_size, status.st_ino)


class DirectoryFile:
    """One directory.toml. A file that is not there is an empty directory.

    `check` returns the faults that a good directory has with what stands elsewhere (relay.toml).
    """

    def __init__(self, path: Path, check: Check = lambda _: ()) -> None:
        self.path = path
        self._check = check
        # What the last change wrote, so that the next one need not read it: half of its time with ten thousand agents.
        # It counts where the file still has that very content, whatever the file's times say.
        self._kept: tuple[bytes, dict[str, Any]] | None = None

    def read(self) -> Snapshot:
        """Return what the file says now. Raises Faults."""
        content, fingerprint = self._content()
        return Snapshot(self._directory(content), fingerprint)

    def checked(self, snapshot: Snapshot) -> Snapshot:
        """Return what was read of this file, if it suits what stands elsewhere. Raises Faults."""
        if faults := tuple(self._check(snapshot.directory)):
            raise Faults(faults)
        return snapshot

    def fingerprint(self) -> Fingerprint:
        """Return the state of the file, by one system call, so that a poll costs nothing."""
        try:
            return Fingerprint.of(self.path.stat())
        except OSError:
            return Fingerprint()

    @property
    def is_large(self) -> bool:
        """Whether it has some thousand agents."""
        return self.fingerprint().size > LARGE

    def warnings(self, directory: Directory) -> tuple[Fault, ...]:
        """Return a warning for each password in the file, server without its OAuth app, and backup of no use."""
        unfit = (*oauth_warnings(directory), *backup_warnings(directory))
        found = [Fault(str(self.path), key, message) for key, message in unfit]
        return (*found, *self._readable_passwords(directory))

    def _readable_passwords(self, directory: Directory) -> tuple[Fault, ...]:
        """Return a warning for each password that stands in the file, and who can read it there."""
        try:
            mode = self.path.stat().st_mode & 0o777
        except OSError:
            return ()
        readers = f", where others can read it (mode {mode:04o})" if mode & 0o044 else ""
        message = f"a password stands in this file{readers}; move it to the vault: relay secrets import"
        return tuple(Fault(str(self.path), key, message) for key in inline_passwords(directory))

    def preview(self, edit: Edit) -> Directory:
        """Return the directory that an edit would make of what the file says now. Raises as `change`."""
        content, _ = self._content()
        tables = parse_toml(content, str(self.path))
        edit(tables)
        return self._checked(tables)

    def change(
        self,
        edit: Edit,
        expected: State | None = None,
        *,
        must_exist: bool = False,
        known: Snapshot | None = None,
        check: Callable[[Directory], None] = lambda _: None,
    ) -> Snapshot:
        """Apply an edit to the file, check the result, write it, and return what the file now says.

        `edit` changes the document in place; it may be called twice, on two copies of the same document. `expected`
        refuses the change unless the file is still in that state. `must_exist` refuses to begin a file anew: whoever
        had one means that one. `check` is given the directory as the file has it before the edit; `known`,
        which is what the caller has read, spares reading it anew where it is still that, and counts where it has
        faults. Raises Faults, ChangeRefused, DirectoryChanged, and whatever `edit` and `check` raise; in every case
        the file is as it was.
        """
        try:
            with _lock(self.path):
                return self._change(edit, expected, known, check, must_exist=must_exist)
        except OSError as error:
            raise ChangeRefused(f"{self.path} cannot be written: {error.strerror}") from None

    def _change(
        self,
        edit: Edit,
        expected: State | None,
        known: Snapshot | None,
        check: Callable[[Directory], None],
        *,
        must_exist: bool,
    ) -> Snapshot:
        content, fingerprint = self._content()
        if must_exist and fingerprint == Fingerprint():
            raise ChangeRefused(f"{self.path} has vanished; put it back, or restart relay to begin with an empty one")
        if expected is not None and fingerprint != expected:
            raise DirectoryChanged(f"{self.path} was changed by somebody else; look at it and try again")
        before = None if known is None else self._before(content, fingerprint, known)
        if before is not None:
            check(before)
        tables = self._tables(content)
        try:
            after = as_text(content.decode("utf-8-sig"), tables, edit)
        except CommentsInTheWay:
            raise ChangeRefused(f"{self.path} has comments where the change would stand; edit it by hand") from None
        directory = self._checked(tables)
        text = after.encode()
        written = self._replace(text, fingerprint)
        self._kept = (_digest(text), tables)
        return Snapshot(directory, written, before)

    def _tables(self, content: bytes) -> dict[str, Any]:
        """Return what the file says, to be changed: what the last change left, or read anew."""
        kept, self._kept = self._kept, None
        return kept[1] if kept and kept[0] == _digest(content) else parse_toml(content, str(self.path))

    def _before(self, content: bytes, fingerprint: Fingerprint, known: Snapshot) -> Directory:
        """Return what the file says before a change: another process may have written it since it was read."""
        if fingerprint == known.state:
            return known.directory
        try:
            return self._directory(content)
        except Faults:
            return known.directory

    def _directory(self, content: bytes) -> Directory:
        return self._checked(parse_toml(content, str(self.path)))

    def _checked(self, tables: Mapping[str, Any]) -> Directory:
        directory = parse_directory(tables, str(self.path))
        faults = tuple(self._check(directory))
        if faults:
            raise Faults(faults)
        return directory

    def _content(self) -> tuple[bytes, Fingerprint]:
        try:
            with self.path.open("rb") as file:
                return file.read(), Fingerprint.of(os.fstat(file.fileno()))
        except FileNotFoundError:
            return b"", Fingerprint()
        except OSError as error:
            raise Faults([Fault(str(self.path), "", f"it cannot be read: {error.strerror}")]) from None

    def _replace(self, content: bytes, before: Fingerprint) -> Fingerprint:
        """Put the new content in the file's place in one step, if the file is still as it was; return its new state."""
        target = self.path.resolve()
        new = target.with_name(f".{target.name}.new")
        try:
            fingerprint = _write_new(new, content, mode=_mode_of(target))
            if self.fingerprint() != before:
                raise DirectoryChanged(f"{self.path} was changed by somebody else; look at it and try again")
            new.replace(target)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)
        return fingerprint


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock beside the file, for as long as another of our processes may need at most."""
    target = path.resolve()
    with target.with_name(f".{target.name}.lock").open("a") as file:
        take_folder_owner(file.fileno(), target.parent)
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise ChangeRefused(f"{path} is being changed by another command; try again")
            time.sleep(_LOCK_PAUSE)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_new(path: Path, content: bytes, mode: int) -> Fingerprint:
    """Write a file that nobody else can have prepared: what a crash left there is removed first."""
    path.unlink(missing_ok=True)
    descriptor = create_private(path, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
        return Fingerprint.of(os.fstat(descriptor))


def _mode_of(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return _NEW_FILE_MODE


# A "#" that no string holds. The strings of TOML, longest first, so that the rest of a match is a comment.
_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|(#)",
    re.DOTALL,
)


class CommentsInTheWay(Exception):
    """tomlkit cannot write this edit among the comments."""


def has_comments(text: str) -> bool:
    """Whether a TOML text has comments."""
    return "#" in text and any(match[1] for match in _COMMENT.finditer(text))


def as_text(text: str, tables: dict[str, Any], edit: Callable[[MutableMapping[str, Any]], None]) -> str:
    """Return a TOML text with an edit applied; `tables` is what the text says, and changes. Raises what `edit` raises.

    Comments are worth much and tomlkit's keeping of them is intricate, so what it wrote is compared with the same
    edit on plain tables; where they differ, CommentsInTheWay is raised and nothing wrong is written.
    """
    edit(tables)
    if not has_comments(text):
        return tomli_w.dumps(tables)
    import tomlkit  # noqa: PLC0415  only where there are comments

    document = tomlkit.parse(text)
    edit(document)
    written = tomlkit.dumps(document)
    if tomllib.loads(written) != tables:
        raise CommentsInTheWay
    return written


ReadFile = Callable[[DirectoryFile], Snapshot]


class FileStorage:
    """A file that people edit. `read` says how it is read."""

    is_edited_by_hand = True
    unreachable: tuple[type[Exception], ...] = ()
    absent: State = Fingerprint()

    def __init__(self, path: Path, check: Check = lambda _: (), read: ReadFile = DirectoryFile.read) -> None:
        self._file = DirectoryFile(path, check)
        self._read = read

    @property
    def name(self) -> str:
        """The file."""
        return str(self._file.path)

    @property
    def is_large(self) -> bool:
        """Whether it has some thousand agents."""
        return self._file.is_large

    async def state(self) -> State:
        """Return the file's fingerprint."""
        return self._file.fingerprint()

    async def read(self) -> Snapshot:
        """Return what the file says now. Raises Faults."""
        return await in_short_turns(self._read, self._file)

    async def preview(self, edit: Edit) -> Directory:
        """Return the directory that an edit would make."""
        return await in_short_turns(self._file.preview, edit)

    async def change(
        self, edit: Edit, *, must_exist: bool, known: Snapshot, check: Callable[[Directory], None]
    ) -> Snapshot:
        """Write the file anew, under its lock."""
        return await in_short_turns(self._file.change, edit, must_exist=must_exist, known=known, check=check)

    async def warnings(self, directory: Directory) -> tuple[Fault, ...]:
        """Return the warnings."""
        return await in_short_turns(self._file.warnings, directory)
