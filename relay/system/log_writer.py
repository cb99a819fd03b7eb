"""Writes the lines of the log behind, so that no descriptor can hold up or break mail.

Who tells something appends to a list. A thread makes the lines that came as what they are made of, and writes them all
to the descriptor, many with one write. The lines that wait are bounded; what finds no room, or cannot be written, is
dropped and counted, and the next line that can be written is preceded by one that says how many. What is written at
once ends with a line.
"""

import io
import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TextIO

# Octets (characters, of which most have one) that may wait; as much again may be in the write under way.
_MOST = 4 * 1024 * 1024
_COST = 64  # of a line beside its characters
# What makes a line, in the thread: a function, and what it is called with, which nobody changes.
Making = tuple[Any, ...]
_PAUSE_SECONDS = 0.08  # a kill loses at most 100 ms of lines (docs/guarantees.md)
_FLUSH_SECONDS = 1.0
# What the kernel writes to a pipe in one piece, whoever else writes there (pipe(7)): all workers have one stderr.
_AT_ONCE = select.PIPE_BUF


class LogWriter:
    """Writes lines to a descriptor of its own, a copy of `descriptor`. `note` makes the line about dropped ones.

    `write` never raises and never waits for the descriptor; `flush` waits for a bounded time.
    """

    def __init__(self, descriptor: int | None, note: Callable[[int], str] = lambda _: "") -> None:
        self.note = note
        self.dropped = 0
        self._descriptor = _copy(descriptor)
        self._lock = threading.RLock()  # re-entrant: the collector may tell something at any place
        self._waiting: list[str | Making] = []
        self._cost = 0
        self._overflow = 0  # dropped for lack of room since the last batch
        self._untold = 0  # dropped, and no line has said so
        self._is_torn = False  # whether the last line was written in part
        self._is_awake = False
        self._wake: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def is_for(self, descriptor: int | None) -> bool:
        """Whether this writes to the file that a descriptor stands for."""
        if self._descriptor is None or descriptor is None:
            return self._descriptor is descriptor
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._descriptor), os.fstat(descriptor))
        return False

    def write(self, line: str) -> None:
        """Take a line, without its end. It is dropped where too much waits already."""
        self.write_later(line, len(line))

    def write_later(self, line: "str | Making", octets: int) -> None:
        """Take a line, or what makes one; until it is written, it takes so much memory."""
        with self._lock:
            cost = octets + _COST
            if self._cost + cost > _MOST:
                self._overflow += 1
                self.dropped += 1
                return
            self._waiting.append(line)
            self._cost += cost
            if not self._is_awake:
                self._is_awake = True
                self._wake_up(None)

    def lose(self) -> None:
        """Count a line that could not even be made."""
        with self._lock:
            self.dropped += 1
            self._overflow += 1

    def flush(self, seconds: float = _FLUSH_SECONDS) -> bool:
        """Write what waits; return whether that came to an end within the time."""
        done = threading.Event()
        with self._lock:
            self._wake_up(done)
        return done.wait(seconds)

    def _wake_up(self, done: threading.Event | None) -> None:
        self._wake.put(done)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no room for a thread now, or the interpreter ends: the next line tries again
                self._is_awake = False
            else:
                self._thread = thread

    def _run(self) -> None:
        while True:
            done = self._wake.get()
            if done is None:
                # time.sleep() waits for a moment of a clock, which a test may turn.
                select.select((), (), (), _PAUSE_SECONDS)
            try:
                self._write_waiting()
            except Exception:
                self.lose()  # whatever it is, the thread goes on
            if done is not None:
                done.set()

    def _write_waiting(self) -> None:
        with self._lock:
            self._is_awake = False
            waiting, self._waiting, self._cost = self._waiting, [], 0
            overflow, self._overflow = self._overflow, 0
        if not waiting:
            self._untold += overflow  # said before the next line
            return
        # Each entry: what is written, how many lines a reader lacks where it is not, and how many of those are new.
        entries = [self._noted(self._untold)] if self._untold else []
        entries += [(self._made(line), 1, 1) for line in waiting]
        entries += [self._noted(overflow)] if overflow else []
        written = self._write(b"".join(octets for octets, _, _ in entries))
        end = lacking = lost = 0
        for octets, lines, new in entries:
            end += len(octets)
            if end > written:
                lacking, lost = lacking + lines, lost + new
        self._untold = lacking
        with self._lock:
            self.dropped += lost

    def _made(self, line: "str | Making") -> bytes:
        if isinstance(line, str):
            return _encoded(line)
        make, *facts = line
        try:
            return _encoded(make(*facts))
        except Exception:
            self.lose()  # as one that could not be written
            return b""

    def _noted(self, lines: int) -> tuple[bytes, int, int]:
        """Return the entry that says how many lines were dropped, which are counted already."""
        note = self.note(lines)
        return (_encoded(note) if note else b""), lines, 0

    def _write(self, octets: bytes) -> int:
        """Write as much as the descriptor takes; return how many of these octets."""
        written, view = 0, memoryview(octets)
        if self._descriptor is None:
            return 0
        try:
            if self._is_torn:
                self._put(memoryview(b"\n"))
                self._is_torn = False
            while written < len(octets):
                written += self._put(view[written : _end_of_lines(octets, written)])
        except OSError:
            if written:
                self._is_torn = octets[written - 1] != ord("\n")
        return written

    def _put(self, octets: memoryview) -> int:
        assert self._descriptor is not None
        while True:
            try:
                return os.write(self._descriptor, octets)
            except BlockingIOError:  # who shares it with us has made it non-blocking
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()


class LogStream(io.TextIOBase):
    """Stands for stderr in a process that hands over mail: what is printed there goes the way of the log."""

    def __init__(self, writer: LogWriter, instead_of: TextIO | None) -> None:
        super().__init__()
        self._writer = writer
        self._of = instead_of
        self._begun = ""

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def write(self, text: str) -> int:
        """Take a text; whole lines go to the log's writer."""
        *lines, self._begun = (self._begun + text).split("\n")
        if len(self._begun) > _MOST:
            lines, self._begun = [*lines, self._begun], ""
        for line in lines:
            self._writer.write(line)
        return len(text)

    def fileno(self) -> int:
        """Return the descriptor of what it stands for."""
        return self._of.fileno() if self._of is not None else super().fileno()

    def isatty(self) -> bool:
        """Whether what it stands for is a terminal."""
        return self._of is not None and self._of.isatty()


def stderr_behind(writer: LogWriter) -> None:
    """Let what is printed to stderr go by the writer from now on."""
    if not isinstance(sys.stderr, LogStream):
        sys.stderr = LogStream(writer, sys.stderr)


def _copy(descriptor: int | None) -> int | None:
    """Return a copy that nobody else closes; None where there is nothing to write to."""
    if descriptor is None:
        return None
    try:
        return os.dup(descriptor)
    except OSError:
        return None


def _end_of_lines(octets: bytes, start: int) -> int:
    """Return where the lines end that are written at once from a start: one at least, however long it is."""
    end = octets.rfind(b"\n", start, start + _AT_ONCE) + 1
    return end if end > start else octets.find(b"\n", start) + 1


def _encoded(line: str) -> bytes:
    return f"{line}\n".encode(errors="backslashreplace")
