"""Colours and progress: on a terminal alone, and never where NO_COLOR is set."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from relay.system import terminal
from relay.system.terminal import Progress, has_colours, painted

PROGRAM = """
import time
from relay.system import terminal
terminal._QUIET_SECONDS = 0.05

def wait(progress):
    progress._is_drawn = False
    while not progress._is_drawn and progress._thread.is_alive():
        time.sleep(0.01)

with terminal.Progress("waiting") as progress:
    wait(progress)
    progress.tell("still waiting, for quite some time, so that the line is longer than a narrow terminal")
    wait(progress)
    progress.print(terminal.painted("done", "green"))
"""


def on_a_terminal(program: str, **variables: str) -> str:
    """Return what a Python program writes on a terminal of 40 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    environ = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS"}}
    environ |= {"TERM": "xterm", **variables}
    with subprocess.Popen([sys.executable, "-c", program], stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # the terminal is closed
            pass
    os.close(ours)
    assert process.returncode == 0, said
    return said.decode()


def left_on(said: str) -> str:
    """Return what stands on the terminal in the end: of each line what came after it was erased last."""
    return "\n".join(line.rpartition("\r\x1b[K")[2] for line in said.split("\r\n"))


def test_progress_is_one_line_that_is_gone_in_the_end() -> None:
    said = on_a_terminal(PROGRAM)
    lines = said.split("\r\x1b[K")
    assert lines[0] == ""
    assert any(re.fullmatch(r"waiting \(\d+ s\)", line) for line in lines)
    assert "still waiting, for quite some time, so "[:39] in lines
    assert max(len(line) for line in lines if "done" not in line) < 40
    assert left_on(said) == "\x1b[32mdone\x1b[0m\n"


def test_no_color_is_heeded_and_so_is_a_terminal_without_a_cursor() -> None:
    assert left_on(on_a_terminal(PROGRAM, NO_COLOR="1")) == "done\n"
    assert left_on(on_a_terminal(PROGRAM, NO_COLOR="")) == "\x1b[32mdone\x1b[0m\n"
    assert on_a_terminal(PROGRAM, TERM="dumb") == "done\r\n"


def test_a_file_gets_plain_text_and_no_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_QUIET_SECONDS", 0.0)
    with Progress("working") as progress, (tmp_path / "file").open("w") as file:
        progress.tell("still working")
        progress.print(painted("done", "green"))
        assert not has_colours(file)
    assert not has_colours(None)
    assert capsys.readouterr() == ("done\n", "")


def test_progress_ends_with_what_fails() -> None:
    said = on_a_terminal(
        "import time\nfrom relay.system import terminal\nterminal._QUIET_SECONDS = 0.05\n"
        "try:\n  with terminal.Progress('waiting') as progress:\n"
        "    while not progress._is_drawn:\n      time.sleep(0.01)\n    raise OSError('no')\n"
        "except OSError as error:\n  print(error)"
    )
    assert re.search(r"waiting \(\d+ s\)\r\x1b\[Kno\r\n$", said)
