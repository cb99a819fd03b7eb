"""The journal of events of mail that is never on disk: delivered or refused while its client waited.

Such mail writes nothing that is synced; its row of the history is written behind, and its events with that. Until then
they stand here, written before the client has its answer and not synced: a relay that is killed loses none of them, and
a power cut those of the last second. The write goes to the memory of the kernel and takes some ten microseconds.

There are two files for each process, so that one is emptied while the other one is written. DIAGNOSTICS: a journal that
cannot be written is told in the log, and costs nothing but what it is for.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from relay import log
from relay.store.queue.messages import NewEvent
from relay.system.files import create_private, read_regular_file

# What is kept while the store is away; what comes after that is lost where we are killed.
_MOST_OCTETS = 64 * 1024 * 1024
_NAMES = ("webhook-events.{}.a", "webhook-events.{}.b")


class Journal:
    """The two files of one process in a folder. `place` is its number among the processes of this relay."""

    def __init__(self, folder: Path, place: int) -> None:
        self._folder = folder
        self._place = place
        self._files: list[int] = []
        self._active = 0
        self._octets = [0, 0]
        self._is_well = True

    def keep(self, events: Sequence[NewEvent]) -> None:
        """Write events, before anybody hears of what they tell. Raises nothing."""
        try:
            if not self._files:
                self._open()
            if self._octets[self._active] >= _MOST_OCTETS:
                return
            facts = [[one.id, one.webhook, one.message, one.at.isoformat(), one.body] for one in events]
            line = json.dumps(facts).encode() + b"\n"
            self._octets[self._active] += os.write(self._files[self._active], line)
            self._is_well = True
        except OSError as error:
            if self._is_well:
                log.broken(f"events for webhooks cannot be kept over a kill: {error.strerror}", file=str(self._folder))
            self._is_well = False

    def turn(self) -> None:
        """Write to the other file from now on; only where that is empty."""
        if not self._octets[1 - self._active]:
            self._active = 1 - self._active

    def forget(self) -> None:
        """Empty the file that is not written to: what stood in it is in the store."""
        other = 1 - self._active
        if self._octets[other]:
            with suppress(OSError):
                os.ftruncate(self._files[other], 0)
                self._octets[other] = 0

    def close(self) -> None:
        """Close the files; they stay where they have anything in them."""
        files, self._files = self._files, []
        for file, octets, path in zip(files, self._octets, self._paths, strict=False):
            os.close(file)
            if not octets:
                path.unlink(missing_ok=True)

    def _open(self) -> None:
        for path in self._paths:
            if not path.exists():
                os.close(create_private(path))
            self._files.append(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
        self._octets = [os.fstat(file).st_size for file in self._files]

    @property
    def _paths(self) -> list[Path]:
        return [self._folder / name.format(self._place) for name in _NAMES]


def left_behind(folder: Path, place: int, places: int) -> dict[Path, list[NewEvent]]:
    """Return what earlier runs left in the journals of a process, by file. It reads files.

    The first process also has the journals of those that there are no more: its relay has `places` processes now.
    """
    found: dict[Path, list[NewEvent]] = {}
    for path in sorted(folder.glob(_NAMES[0].format("*")[:-1] + "?")):
        number = path.name.split(".")[1]
        if number.isdigit() and (int(number) == place or (place == 0 and int(number) >= places)):
            found[path] = list(_events_in(read_regular_file(path, 2 * _MOST_OCTETS)))
    return found


def _events_in(octets: bytes) -> Iterator[NewEvent]:
    """Yield what is whole: the last line may have been cut off by the end of its writer."""
    for line in octets.split(b"\n")[:-1]:
        with suppress(ValueError, TypeError):
            for id_, webhook, message, at, body in json.loads(line):
                yield NewEvent(id_, webhook, message, datetime.fromisoformat(at), body)
