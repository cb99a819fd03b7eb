"""What the kernel sees: the sync of the WAL stands before every answer, and one sync serves many."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.strace import Call, read_calls, strace

ROOT = Path(__file__).parents[3]
ADDS_AND_SAYS_SO = """
import asyncio, os, sys
from pathlib import Path
from tests.unit.store.store_kit import delivered, new, new_message, open_queue

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
    command = [*strace(log), sys.executable, "-c", ADDS_AND_SAYS_SO, str(tmp_path / "relay.db")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
        assert process.wait(60) == 0
    return list(filter(None, map(event_of, read_calls(log, process.pid))))


def event_of(call: Call) -> str:
    if call.is_sync and call.is_wal:
        return "sync"
    return call.data.decode().strip() if call.file.startswith("/dev/null") else ""


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
