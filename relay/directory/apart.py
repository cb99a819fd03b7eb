"""A large directory.toml is read by a process of its own, so that no message waits for it.

Reading ten thousand agents takes half a second of Python. A thread that does it here takes turns with the event loop at
every step of a message, which then takes a hundred times as long; and the memory that reading needs (15 MB) would stay.
What comes back are the values, in pieces that take a millisecond or two each.

SECURITY: what is unpickled here was written by a process of our own program, into a pipe that nobody else can reach.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from relay.faults import Fault, Faults

if TYPE_CHECKING:
    from relay.directory.file import DirectoryFile
    from relay.directory.keeper import Snapshot
    from relay.directory.model import Agent, Channel, Profile

LARGE = 100_000
"""Octets of a file that is large: some thousand agents."""
_PIECE = 500  # profiles


class Apart:
    """Reads a directory file in a process of its own where it is large. Begun ahead, it is read while others load.

    Within a `with` block: what was begun and is not needed ends with it.
    """

    def __init__(self) -> None:
        self._begun: subprocess.Popen[bytes] | None = None

    def begin(self, path: Path) -> None:
        """Begin to read where the file is large, so that the next `read` finds it done."""
        if _is_large(path):
            with suppress(OSError):
                self._begun = _start(path)

    def read(self, file: "DirectoryFile") -> "Snapshot":
        """Return what a file says, as `DirectoryFile.read` does; where no process can do it, it is read here."""
        begun, self._begun = self._begun, None
        if begun is None and not _is_large(file.path):
            return file.read()
        try:
            with begun or _start(file.path) as process:
                assert process.stdout is not None
                return file.checked(_answer(process.stdout))
        except (OSError, EOFError, pickle.UnpicklingError):  # no room for another process, or it was ended
            return file.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._begun is not None:
            self._begun.kill()
            with self._begun:
                self._begun = None


def _is_large(path: Path) -> bool:
    try:
        return path.stat().st_size > LARGE
    except OSError:
        return False


def _start(path: Path) -> "subprocess.Popen[bytes]":
    # -P: no module is taken from the folder in which the relay happens to be started.
    command = [sys.executable, "-P", "-m", __name__, str(path)]
    return subprocess.Popen(  # noqa: S603  our own program
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _answer(stream: IO[bytes]) -> "Snapshot":
    """Put together what the process wrote. Raises Faults, EOFError where it ended before its end."""
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


def _write(path: Path, stream: IO[bytes]) -> None:
    from relay.directory.file import DirectoryFile  # noqa: PLC0415  `begin` comes before its time

    def tell(value: Any) -> None:
        stream.write(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))

    try:
        snapshot = DirectoryFile(path).read()
    except Faults as error:
        return tell(error.faults)
    directory = snapshot.directory
    tell(replace(snapshot, directory=replace(directory, channels={}, agents={})))
    for table in (directory.channels, directory.agents):
        for piece in _pieces(iter(table.values())):
            tell(piece)
        tell([])
    return None


def _pieces(profiles: Iterator["Profile"]) -> Iterator[list["Profile"]]:
    while piece := list(islice(profiles, _PIECE)):
        yield piece


if __name__ == "__main__":
    with os.fdopen(1, "wb") as output:
        _write(Path(sys.argv[1]), output)
