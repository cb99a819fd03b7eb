"""How long the event loop waits for its turn while a directory is read or changed beside it.

What counts is the processor time of all other threads of the process between two turns of the loop, so that other
processes of the machine do not count.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from relay.config.settings import load_settings
from relay.directory.database_storage import DatabaseStorage
from relay.directory.file import ReadFile
from relay.directory.live import LiveDirectory, in_file
from relay.directory.replacing import replace_all
from relay.directory.storage import Edit
from relay.store.db.database import open_database
from relay.store.people.directory import DirectoryTable

_PAUSE = 0.001  # waiting gives the turn away, as a message does that waits for the network


@dataclass(frozen=True, slots=True)
class Turns:
    """Seconds for which others had the interpreter, turn by turn of the loop; and the processor time of it all."""

    waits: tuple[float, ...]
    used: float

    def most(self, share: float = 1.0) -> float:
        """The longest wait of this share of all turns."""
        return sorted(self.waits)[ceil(len(self.waits) * share) - 1]


async def turns(folder: Path, texts: tuple[str, str], read: ReadFile) -> Turns:
    """Put the first text into effect, then the second, and note each turn of the loop meanwhile."""
    settings_file = folder / "relay.toml"
    settings_file.write_text(f'state_dir = "{folder}"\n')
    settings = load_settings(settings_file, {})
    settings.directory_path.write_text(texts[0])
    live = await LiveDirectory.open(settings, "relay.toml", storage=in_file(settings, read))
    before = live.routing()
    settings.directory_path.write_text(texts[1])
    found = await _noted(live.refresh())
    assert live.routing() is not before
    assert not live.faults
    return found


async def stored_turns(folder: Path, tables: Mapping[str, Any], edits: Sequence[Edit]) -> list[tuple[Turns, Turns]]:
    """Note the turns where each edit of a directory in the database is made, and where another relay takes it over."""
    settings = load_settings(None, {})
    async with AsyncExitStack() as closing:
        lives = []
        for _ in range(2):
            database = await open_database(folder / "relay.db")
            closing.push_async_callback(database.close)
            storage = partial(DatabaseStorage, DirectoryTable(database))
            lives.append(await LiveDirectory.open(settings, "relay.toml", storage=storage))
        here, there = lives
        await here.change(lambda document: replace_all(document, tables))
        await there.refresh()
        found = [(await _noted(here.change(edit)), await _noted(there.refresh())) for edit in edits]
        assert there.routing().directory == here.routing().directory
        return found


async def _noted(job: Coroutine[Any, Any, object]) -> Turns:
    begun = time.process_time()
    task = asyncio.create_task(job)
    waits, last = [], _others()
    while not task.done():
        await asyncio.sleep(_PAUSE)
        now = _others()
        waits.append(now - last)
        last = now
    await task
    return Turns(tuple(waits), time.process_time() - begun)


def _others() -> float:
    return time.process_time() - time.thread_time()
