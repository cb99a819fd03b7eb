"""How long the event loop waits for its turn while a directory is read anew beside it.

What counts is the processor time of all other threads of the process between two turns of the loop, so that other
processes of the machine do not count.
"""

import asyncio
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from relay.directory.in_file import ReadFile
from relay.directory.live import LiveDirectory, in_file
from relay.settings import load_settings

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
    live = await LiveDirectory.open(settings, "relay.toml", keep=in_file(settings, read))
    before = live.routing()
    settings.directory_path.write_text(texts[1])
    begun = time.process_time()
    reading = asyncio.create_task(live.refresh())
    waits, last = [], _others()
    while not reading.done():
        await asyncio.sleep(_PAUSE)
        now = _others()
        waits.append(now - last)
        last = now
    await reading
    assert live.routing() is not before
    assert not live.faults
    return Turns(tuple(waits), time.process_time() - begun)


def _others() -> float:
    return time.process_time() - time.thread_time()
