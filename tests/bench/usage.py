"""What a relay's processes use: processor time and memory, as the kernel tells it (proc(5))."""

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")
_PAUSE = 0.5


def tree(root: int) -> set[int]:
    """Return a process and all of its descendants; empty for the number 0."""
    if not root:
        return set()
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, new = {root}, [root]
    while new:
        new = children.get(new.pop(), []) + new
        found.update(new)
    return found


def cpu_seconds(*roots: int) -> float:
    """Return the user and system time of these processes, their descendants, and those of them that have ended."""
    numbers = set[int]().union(*(tree(root) for root in roots))
    # cutime and cstime of proc(5), of the children that have ended and been waited for: fields 16 and 17, where field 3
    # is the first behind the name.
    ended = sum(int(value) for number in numbers for value in _stat(number)[13:15]) / _TICKS
    return ended + sum(_own_seconds(number) for number in numbers)


def thread_seconds(number: int) -> tuple[float, float]:
    """Return the user and system time of a process's main thread, and that of all its other threads."""
    whole, first = (_own_ticks(_stat_at(Path(f"/proc/{number}{place}/stat"))) for place in ("", f"/task/{number}"))
    return first / _TICKS, (whole - first) / _TICKS


def memory(root: int) -> int:
    """Return the octets that a process and its descendants hold; what several share counts once in all (PSS)."""
    return sum(_pss(number) for number in tree(root))


class PeakMemory:
    """Looks at the memory of a process and its descendants twice a second while its block lasts. `octets`: the most."""

    def __init__(self, root: int) -> None:
        self.octets = 0
        self._root = root
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def _watch(self) -> None:
        while not self._is_over.wait(_PAUSE):
            self._look()

    def _look(self) -> None:
        self.octets = max(self.octets, memory(self._root))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()


def _stat(number: int) -> list[str]:
    """Return the fields of /proc/NUMBER/stat behind the name; none where the process has ended."""
    return _stat_at(Path(f"/proc/{number}/stat"))


def _stat_at(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _own_seconds(number: int) -> float:
    """Return what a process has used to the nanosecond: its stat has steps of 10 ms, and Postfix has a hundred."""
    try:
        return time.clock_gettime(~number << 3 | 2)  # its clock, as clock_getcpuclockid(3) names it
    except OSError:  # it has ended
        return 0.0


def _own_ticks(fields: list[str]) -> int:
    return sum(int(value) for value in fields[11:13])


def _pss(number: int) -> int:
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
