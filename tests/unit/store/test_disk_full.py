"""A real full disk: a small tmpfs, in a mount namespace of the process that uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relay.system.files import free_space

ROOT = Path(__file__).parents[3]
# Prints a line for each thing that must be true.
ON_A_SMALL_DISK = """
import asyncio, sys
from pathlib import Path
from relay.mail.content import Content
from relay.store.db.errors import StoreFull
from relay.store.queue.messages import NewMessage
from relay.system.files import free_space
from tests.unit.store.store_kit import CONTENT, NOW, delivered, new_message, open_queue

folder = Path(sys.argv[1])
LARGE = Content(b"", tuple(b"x" * 65536 for _ in range(16)))

async def add(queue, id_, content):
    try:
        await queue.add(NewMessage(message=new_message(id_), content=content))
    except StoreFull:
        return False
    return True

async def main():
    filler = folder / "filler"
    filler.write_bytes(b"x" * 5 * 1024 * 1024)
    stored = {}
    async with open_queue(folder / "relay.db") as queue:
        ids = [f"{number:03}" for number in range(200)]
        contents = [LARGE if number % 20 == 19 else CONTENT for number in range(200)]
        answers = await asyncio.gather(*map(add, [queue] * 200, ids, contents))
        stored = {id_: content for id_, content, is_in in zip(ids, contents, answers) if is_in}
        print("some are stored and some are not", 0 < len(stored) < 200)
        number = 0
        while await add(queue, f"more{number}", CONTENT) and number < 3000:
            stored[f"more{number}"] = CONTENT
            number += 1
        print("small ones are refused at last", number < 3000)
        print("none is half there", await queue.counts() == {"queued": len(stored)})
        filler.unlink()
        print("it goes on when there is room", await add(queue, "after", CONTENT))
        stored["after"] = CONTENT
        message = await queue.claim_one("000", "sending")
        await queue.settle(delivered(message))
    async with open_queue(folder / "relay.db", "next run") as queue:
        print("nothing is lost", await queue.counts() == {"queued": len(stored) - 1})
        kept = {id_: (await queue.content(id_)).size for id_ in stored if id_ != "000"}
        print("all is whole", kept == {id_: stored[id_].size for id_ in kept})

asyncio.run(main())
"""


@pytest.mark.needs("root", "unshare")
def test_a_full_disk_refuses_and_heals(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=12m,mode=0700 none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable, ON_A_SMALL_DISK]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert [line for line in lines if not line.endswith(" True")] == []


def test_free_space_is_what_the_disk_says(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    assert abs(free_space(tmp_path) - free.f_bavail * free.f_frsize) < 1 << 30
    with pytest.raises(FileNotFoundError):
        free_space(tmp_path / "missing")
