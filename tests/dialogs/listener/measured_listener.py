"""A listener in a process of its own, and what it has used up to now."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MeasuredListener:
    """The process of `listener_process`, and the port of its listener on loopback."""

    port: int
    _popen: "subprocess.Popen[str]"

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has used."""
        return float(self._ask()[0])

    @property
    def memory(self) -> int:
        """The most memory that it has held, in octets."""
        return int(self._ask()[1])

    def _ask(self) -> list[str]:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()
        return self._popen.stdout.readline().split()


@contextmanager
def measured_listener() -> Iterator[MeasuredListener]:
    """A listener that takes any message and keeps none."""
    command = [sys.executable, "-m", "tests.dialogs.listener.listener_process"]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as popen:
        assert popen.stdout is not None
        try:
            yield MeasuredListener(int(popen.stdout.readline()), popen)
        finally:
            assert popen.stdin is not None
            popen.stdin.close()
            popen.wait(timeout=10)
