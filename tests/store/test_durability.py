"""What the kernel sees: the sync of the WAL stands before every answer, and one sync serves many."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADDS_AND_SAYS_SO = """
import asyncio, os, sys
from pathlib import Path
from tests.store.store_kit import delivered, new, new_message, open_queue

async def add(queue, id_):
    await queue.add(new(new_message(id_)))
    os.write(1, f"stored {id_}\\n".encode())

async def main():
    async with open_queue(Path(sys.argv[1])) as queue:
        os.write(1, b"alone\\n")
        for number in range(5):
            await add(queue, f"alone{number}")
        os.write(1, b"together\\n")
        await asyncio.gather(*(add(queue, f"together{number}") for number in range(100)))
        os.write(1, b"final dot\\n")
        message = await queue.claim_one("alone0", "sending")
        os.write(1, b"claimed\\n")
        await queue.settle(delivered(message))
        os.write(1, b"settled\\n")

asyncio.run(main())
"""


@pytest.fixture
def trace(tmp_path: Path) -> list[str]:
    """What the process did, in its order: "sync" of the WAL, or the line that it wrote."""
    log = tmp_path / "trace"
    path = tmp_path / "relay.db"
    command = ["strace", "-f", "--seccomp-bpf", "-y", "-e", "trace=write,fsync,fdatasync", "-s", "40", "-o", str(log)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command += [sys.executable, "-c", ADDS_AND_SAYS_SO, str(path)]
    subprocess.run(command, check=True, timeout=60, env=environ, stdout=subprocess.DEVNULL)
    return list(filter(None, map(event_of, log.read_text().splitlines())))


def event_of(line: str) -> str:
    if re.search(r"f(data)?sync\(\d+<[^>]*relay\.db-wal>", line) or "fdatasync resumed" in line:
        return "sync"
    said = re.search(r'write\(1<[^>]*>, "([^"\\]*)\\n"', line)
    return said[1] if said else ""


@pytest.mark.needs("strace")
def test_the_sync_stands_before_the_answer_and_serves_a_whole_group(trace: list[str]) -> None:
    alone = trace[trace.index("alone") : trace.index("together")]
    answers = [index for index, event in enumerate(alone) if event.startswith("stored")]
    assert len(answers) == 5
    assert all("sync" in alone[before:after] for before, after in zip([0, *answers], answers, strict=False))
    together = trace[trace.index("together") + 1 : trace.index("final dot")]
    assert together.count("sync") <= 3
    assert together[0] == "sync"
    assert sum(event.startswith("stored") for event in together) == 100
    for step, answer in (("final dot", "claimed"), ("claimed", "settled")):
        assert "sync" in trace[trace.index(step) : trace.index(answer)]
