"""`relay` at the price of a fork: commands and services of a process that has loaded all of it.

To start Python and load the service takes half a second of a processor, and a command that only asks nearly as long.
What a forked one does after its imports is all its own. Tests of the start itself, of memory and of system calls start
the program itself.
"""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from tests.peers.system import Finished

_PROJECT = Path(__file__).parents[2]
# What stands in the place of `relay` where it is `offered`: it is what its child is, and gives it every signal.
_CALLER = """\
#!{python} -IS
import json, os, signal, socket, sys

ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
umask = os.umask(0)
os.umask(umask)
call = dict(arguments=sys.argv[1:], environment=dict(os.environ), descriptors=[0, 1, 2], before=[])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
    line.connect("{at}")
    octets = json.dumps(dict(call, folder=os.getcwd(), umask=umask)).encode()
    socket.send_fds(line, [octets], [theirs.fileno(), 0, 1, 2])
theirs.close()
child = int(ours.recv(16))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(child, number))
status = int(ours.recv(16))
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class ForkedProcess:
    """A process that was forked for us: what tests use of subprocess.Popen."""

    def __init__(self, args: Sequence[str], told: socket.socket) -> None:
        self.args = list(args)
        self.returncode: int | None = None
        self._told = told
        self.pid = int(told.recv(16) or -1)
        if self.pid < 0:
            raise RuntimeError("the process that has loaded relay is gone")

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status. Raises TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        self.returncode = int(self._told.recv(16) or -signal.SIGKILL)
        self._told.close()


class Preloaded:
    """Forks `relay` from a process that has loaded it, with this environment."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._beginning = threading.Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        arguments: Sequence[str],
        out: IO[bytes],
        err: IO[bytes],
        *,
        stdin: IO[bytes] | None = None,
        pass_fds: Sequence[int] = (),
        before: Sequence[str] = (),
    ) -> ForkedProcess:
        """Start `relay` with these arguments. It has `pass_fds` under their numbers.

        `before`: "module:function" and what it is called with, in that process, before the program begins.
        """
        with self._beginning:
            line = self._line or self._begin()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        call = {
            "arguments": list(arguments),
            "environment": self._env,
            "descriptors": [*([0] if stdin else []), 1, 2, *pass_fds],
            "before": list(before),
        }
        with theirs:
            files = [*([stdin] if stdin else []), out, err]
            given = [theirs.fileno(), *(file.fileno() for file in files), *pass_fds]
            socket.send_fds(line, [json.dumps(call).encode()], given)
        return ForkedProcess(["relay", *arguments], ours)

    def run(self, *arguments: str, data: bytes = b"", seconds: float) -> Finished:
        """Run a command to its end, `data` on its standard input. Raises TimeoutExpired after `seconds`."""
        with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
            given.write(data)
            given.seek(0)
            process = self.start(arguments, out, err, stdin=given)
            try:
                status = process.wait(seconds)
            except BaseException:
                process.kill()
                process.wait()
                raise
            return Finished(status, _text(out), _text(err))

    def end(self) -> None:
        """End the process. The next call begins another."""
        if self._line is not None and self._process is not None:
            self._line.close()
            self._process.kill()
            self._process.wait()
        self._line = self._process = None

    def _begin(self) -> socket.socket:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.peers.preloaded_program", str(theirs.fileno())],
                cwd=_PROJECT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=self._env,
            )
        return self._line

    @contextmanager
    def offered(self, folder: Path) -> Iterator[None]:
        """Have a program `relay` in a folder: who calls it has what a fork of this process does."""
        at = str(folder / "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
            asked.bind(at)
            asked.listen(128)
            program = folder / "relay"
            program.write_text(_CALLER.format(python=sys.executable, at=at))
            program.chmod(0o755)
            threading.Thread(target=self._hand_on, args=(asked, self._line or self._begin()), daemon=True).start()
            yield

    def _hand_on(self, asked: socket.socket, line: socket.socket) -> None:
        """Give the process every call of a `relay` of `offered`, until it is offered no more."""
        with contextlib.suppress(OSError):
            while True:
                caller, _ = asked.accept()
                with caller:
                    call, given, _, _ = socket.recv_fds(caller, 1 << 20, 4)
                    socket.send_fds(line, [call], given)
                    for number in given:
                        os.close(number)


@functools.cache
def preloaded(env: tuple[tuple[str, str], ...]) -> Preloaded:
    """Return the one with this environment, in this process of the run."""
    opened = Preloaded(dict(env))
    atexit.register(opened.end)
    return opened


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
