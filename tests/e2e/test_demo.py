"""`relay demo`, as a person starts it: it shows a message's journey, takes more, and leaves nothing behind."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.recorder import Recorder
from tests.peers.relay import RELAY
from tests.peers.system import LOOPBACK, Finished, answers, free_port, run, wait_until

# Ctrl-C ends it in two seconds; a machine that does much else takes longer over the same work.
_END = 10.0


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo makes its folder: not in pytest's, whose path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


def environment(temporary: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary), "NO_COLOR": "1", "COLUMNS": "200"}


def demo(temporary: Path, *arguments: str) -> Finished:
    return run([str(RELAY), "demo", *arguments], env=environment(temporary))


def test_it_sends_one_message_and_shows_its_journey(temporary: Path) -> None:
    done = demo(temporary, "--send", "--port", str(free_port()))
    assert done.status == 0, done.text
    for word in ("client", "sender", "profile", "account", "From:", "upstream", "250 "):
        assert word in done.out
    assert not list(temporary.iterdir())


def test_a_busy_port_is_one_sentence(temporary: Path, recorder: Recorder) -> None:
    done = demo(temporary, "--send", "--port", str(recorder.port))
    assert done.status == 1
    assert f"{LOOPBACK}:{recorder.port}" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list(temporary.iterdir())


def test_the_command_that_it_prints_sends_another_and_ctrl_c_ends_it(temporary: Path, tmp_path: Path) -> None:
    screen = tmp_path / "screen"
    port = free_port()
    with screen.open("wb") as output:
        process = subprocess.Popen(
            [str(RELAY), "demo", "--port", str(port)], stdout=output, stderr=output, env=environment(temporary)
        )
    try:
        wait_until(lambda: "Ctrl-C" in screen.read_text(), "the demo's invitation")
        assert "Message 2" not in screen.read_text()
        (pasted,) = (line for line in screen.read_text().splitlines() if line.strip().startswith("python3 -c"))
        sent = subprocess.run(["sh", "-c", pasted.strip()], timeout=30, check=False, capture_output=True)
        assert sent.returncode == 0, sent.stderr
        wait_until(lambda: "Message 2: delivered" in screen.read_text(), "the second journey")
        process.send_signal(signal.SIGINT)
        assert process.wait(_END) == 0
    finally:
        process.kill()
        process.wait()
    assert not answers(port)
    assert "Traceback" not in screen.read_text()
    assert not list(temporary.iterdir())
