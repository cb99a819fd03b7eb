"""Commands that only ask, at the price of a fork.

A test that waits for something asks again and again. To start Python and load a command takes a second of a busy
machine: meanwhile others wait for their turn, and what the test wants to see may be over.
"""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tests.peers.system import Finished

_PROJECT = Path(__file__).parents[2]


class Questions:
    """Runs `relay` commands by a process that has loaded them all. One at a time: threads wait for each other."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._turn = threading.Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, *arguments: str, seconds: float) -> Finished:
        """Run a command to its end, with nothing on its standard input. Raises TimeoutError after `seconds`."""
        with self._turn, TemporaryFile() as out, TemporaryFile() as err:
            line = self._line or self._begin()
            line.settimeout(seconds)
            try:
                socket.send_fds(line, [json.dumps(arguments).encode()], [out.fileno(), err.fileno()])
                return Finished(int(line.recv(16)), _text(out), _text(err))
            except BaseException:
                self.end()  # its answer would be taken for that of the next question
                raise

    def end(self) -> None:
        """End the process, and a command that still runs. The next question begins another."""
        if self._line is not None and self._process is not None:
            self._line.close()
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._line = self._process = None

    def _begin(self) -> socket.socket:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.peers.loaded_commands", str(theirs.fileno())],
                cwd=_PROJECT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=self._env,
            )
        return self._line


@functools.cache
def questions(env: tuple[tuple[str, str], ...]) -> Questions:
    """Return the one that asks with this environment, in this process of the run."""
    opened = Questions(dict(env))
    atexit.register(opened.end)
    return opened


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
