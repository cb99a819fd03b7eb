"""A directory that directory.toml keeps, without holding up the event loop: the port `relay.directory.storage`."""

from collections.abc import Callable
from pathlib import Path

from relay.config.faults import Fault
from relay.directory.file import DirectoryFile, Fingerprint
from relay.directory.model import Directory
from relay.directory.reader_process import LARGE
from relay.directory.storage import Check, Edit, Snapshot, State
from relay.system.interpreter import in_short_turns

ReadFile = Callable[[DirectoryFile], Snapshot]


class FileStorage:
    """A file that people edit. `read` says how it is read."""

    is_edited_by_hand = True
    away: tuple[type[Exception], ...] = ()
    nothing: State = Fingerprint()

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
        return self._file.fingerprint().size > LARGE

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
