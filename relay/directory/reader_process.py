"""relay.toml and directory.toml are read by a process of their own, so that no message waits for it.

Reading ten thousand agents takes half a second of Python. A thread that does it here takes turns with the event loop at
every step of a message, which then takes a hundred times as long; and the memory that reading needs (15 MB) would stay.
So would what reads any table (`relay.config.schema`), another 15 MB: at the start small files are read so, too, while
others load. What is small and changes later is read here, which is sooner. What comes back are the values, in pieces
that take a millisecond or two each.

SECURITY: what is unpickled here was written by a process of our own program, into a pipe that nobody else can reach.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from relay.config.faults import Fault, Faults

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.directory.file import DirectoryFile
    from relay.directory.model import Agent, Channel, Profile
    from relay.directory.storage import Snapshot

_PIECE = 500  # profiles
_BOTH, _DIRECTORY = "both", "directory"
_FAILURES = (OSError, EOFError, pickle.UnpicklingError)  # no room for another process, or it was ended


class ReaderProcess:
    """Reads files in a process of its own. What is begun ahead is read while others load.

    Within a `with` block: what was begun and is not needed ends with it.
    """

    def __init__(self) -> None:
        self._begun: subprocess.Popen[bytes] | None = None

    def begin(self, settings_file: Path | None) -> None:
        """Begin to read a settings file (None: the defaults) and the directory that it names."""
        with suppress(OSError):
            self._begun = _start(_BOTH, settings_file)

    def begin_directory(self, path: Path) -> None:
        """Begin to read a directory."""
        with suppress(OSError):
            self._begun = _start(_DIRECTORY, path)

    def settings(self, file: Path | None) -> "Settings":
        """Return what a settings file says, as `load_settings` does: what was begun, and else it is read here."""
        from relay.config.settings import load_settings  # noqa: PLC0415  `begin` comes before its time

        if self._begun is not None:
            try:
                settings = _answered(self._begun)
            except _FAILURES:
                self._end()
            else:
                if settings.is_directory_stored:  # there is nothing more to come
                    self._end()
                return settings
        return load_settings(file)

    def read(self, file: "DirectoryFile") -> "Snapshot":
        """Return what a file says, as `DirectoryFile.read` does; where no process can do it, it is read here."""
        begun, self._begun = self._begun, None
        if begun is None and not file.is_large:
            return file.read()
        try:
            with begun or _start(_DIRECTORY, file.path) as process:
                assert process.stdout is not None
                return file.checked(_snapshot(process.stdout))
        except _FAILURES:
            return file.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._begun is not None:
            self._begun.kill()
            with self._begun:
                self._begun = None


def _start(what: str, path: Path | None) -> "subprocess.Popen[bytes]":
    # -P: no module is taken from the folder in which the relay happens to be started.
    command = [sys.executable, "-P", "-m", __name__, what, *([str(path)] if path is not None else [])]
    return subprocess.Popen(  # noqa: S603  our own program
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _answered(process: "subprocess.Popen[bytes]") -> "Settings":
    """Return the settings that a process wrote. Raises Faults, EOFError where it ended before its end."""
    assert process.stdout is not None
    first: Settings | tuple[Fault, ...] = pickle.load(process.stdout)  # noqa: S301  see the top
    if isinstance(first, tuple):
        raise Faults(first)
    return first


def _snapshot(stream: IO[bytes]) -> "Snapshot":
    """Put together the directory that a process wrote. Raises Faults, EOFError where it ended before its end."""
    first: Snapshot | tuple[Fault, ...] = pickle.load(stream)  # noqa: S301  see the top
    if isinstance(first, tuple):
        raise Faults(first)
    channels: dict[str, Channel] = {}
    agents: dict[str, Agent] = {}
    tables: tuple[dict[str, Any], ...] = (channels, agents)
    for table in tables:
        while piece := pickle.load(stream):  # noqa: S301
            table.update((profile.name, profile) for profile in piece)
    return replace(first, directory=replace(first.directory, channels=channels, agents=agents))


def _write(what: str, path: Path | None, stream: IO[bytes]) -> None:
    """Write what was asked for, or the faults that keep it from being read."""

    def tell(value: Any) -> None:
        stream.write(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        stream.flush()

    try:
        if what == _BOTH:
            from relay.config.settings import load_settings  # noqa: PLC0415

            settings = load_settings(path)
            tell(settings)
            path = None if settings.is_directory_stored else settings.directory_path
        if path is not None:
            _tell_directory(path, tell)
    except Faults as error:
        tell(error.faults)


def _tell_directory(path: Path, tell: Callable[[Any], None]) -> None:
    from relay.directory.file import DirectoryFile  # noqa: PLC0415

    snapshot = DirectoryFile(path).read()
    directory = snapshot.directory
    tell(replace(snapshot, directory=replace(directory, channels={}, agents={})))
    for table in (directory.channels, directory.agents):
        for piece in _pieces(iter(table.values())):
            tell(piece)
        tell([])


def _pieces(profiles: Iterator["Profile"]) -> Iterator[list["Profile"]]:
    while piece := list(islice(profiles, _PIECE)):
        yield piece


if __name__ == "__main__":
    with os.fdopen(1, "wb") as output:
        _write(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else None, output)
