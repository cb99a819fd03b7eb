"""What every peer stands on: free ports, private folders, processes that surely end, waiting with a deadline."""

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tests.peers.preloaded import ForkedProcess

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
# Below the kernel's ephemeral ports: nobody's outgoing connection can take the port between our look and the bind.
_PORTS = range(12000, 32000)
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that ended: exit status, standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything it said."""
        return self.out + self.err


def run(
    argv: Sequence[str],
    *,
    data: bytes = b"",
    seconds: float = 30,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Finished:
    """Run a program to its end, `data` on its standard input. Raises TimeoutExpired after `seconds`."""
    done = subprocess.run(argv, input=data, capture_output=True, timeout=seconds, check=False, env=env, cwd=cwd)
    return Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


@contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Let this process, and programs that are started meanwhile, hear of SIGINT.

    A shell without job control starts what runs in its background with SIGINT ignored, and every program below
    inherits that. A handler of ours is not inherited: it becomes the default. A relay that ran in this process may
    have left its own.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait_until(check: Callable[[], T | None], what: str, seconds: float = 30) -> T:
    """Return the first true answer of `check`, which is asked until `seconds` have passed; then TimeoutError(what)."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(_PAUSE)


def _ports_of(worker: str, workers: int) -> Iterator[int]:
    """Yield the ports that one of several processes of tests may use, each again only when it had all the others.

    A program that is slow to start binds its port seconds after it was looked up here. Were it anybody's meanwhile,
    two tests would talk to one relay.
    """
    ports = _PORTS[int(worker.removeprefix("gw")) :: workers]
    start = random.randrange(len(ports))
    return itertools.cycle([*ports[start:], *ports[:start]])


_NEXT_PORTS = _ports_of(
    os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
)


def free_port(host: str = LOOPBACK) -> int:
    """Return a TCP port of `host` on which nothing listens, and that no other test is given."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _NEXT_PORTS:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: a port whose old connections are in TIME-WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise AssertionError("the ports never end")


def answers(port: int, host: str = LOOPBACK) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def flags_of(pid: int, descriptor: int) -> int:
    """Return how a process has a file open: the flags of open(2) and fcntl(2)."""
    lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines()
    return next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))


@contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """A folder for one server, removed afterwards.

    Not pytest's tmp_path: that one only its owner may enter, and Dovecot and Postfix give up root. Its path is short,
    because a unix socket's path has at most 107 octets.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(
    argv: Sequence[str], log: Path, *, grace: float = 10, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in the foreground, its output in `log`; told to end afterwards, and killed when it does not."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=env
        )
    try:
        yield process
    finally:
        stop(process, grace)


def stop(process: "subprocess.Popen[bytes] | ForkedProcess", grace: float = 10) -> int:
    """End a process by SIGTERM, after `grace` seconds by SIGKILL; return its exit status."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path, host: str = LOOPBACK) -> None:
    """Wait until a started daemon accepts connections. Raises RuntimeError with its log when it ended instead."""

    def is_up() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}:\n{log.read_text(errors='replace')}")
        return answers(port, host)

    wait_until(is_up, f"{process.args!r} listening on {host}:{port}", 20)
