"""Mail programs in which people read: each opens a mailbox and gives the text that it shows for the first message."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping
from pathlib import Path

from tests.peers.packages import program
from tests.peers.system import run

# A terminal of usual size, and no configuration of the person who runs the tests.
ROWS, COLUMNS = 24, 80
_TERMINAL = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "xterm",
}
_PATIENCE = 20.0


def s_nail(box: Path) -> str:
    """The list of messages and then the first message, as s-nail prints them."""
    env = {**_TERMINAL, "TERM": "dumb", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    done = run([program("s-nail"), "-R", "-:/", "-f", str(box)], data=b"type 1\nexit\n", env=env)
    assert done.status == 0, done.text
    return done.out


def mutt(box: Path) -> str:
    """The first message as mutt's pager gets it, with Debian's settings: the line of the index on top."""
    shown = box.with_suffix(".shown")
    shown.mkdir()
    settings = box.with_suffix(".muttrc")
    settings.write_text(
        f'set pager="cp -t {shown}"\n'
        f"set prompt_after=no tmpdir={shown.parent} folder={shown.parent}\n"
        'push "<first-entry><display-message><exit>"\n'
    )
    _in_terminal([program("mutt"), "-R", "-F", str(settings), "-f", str(box)], _TERMINAL)
    (text,) = shown.iterdir()
    return text.read_text()


def _in_terminal(argv: list[str], env: Mapping[str, str]) -> None:
    """Run a program that wants a terminal to its end. Raises TimeoutError."""
    process, terminal = pty.fork()
    if process == 0:
        try:
            os.execve(argv[0], argv, env)
        finally:
            os._exit(127)
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        _read_to_its_end(terminal, argv[0])
    except TimeoutError:
        os.kill(process, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def _read_to_its_end(terminal: int, name: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            if not os.read(terminal, 65536):
                return
        except OSError:  # how Linux says that the other end is closed
            return
    raise TimeoutError(f"{name} did not end within {_PATIENCE:g} s")
