"""What only a terminal is shown: colours, and how far a long piece of work is. A file or a program gets plain text."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self, TextIO, TypeAlias

Colour: TypeAlias = Literal["red", "green", "yellow"]

_CODES: Mapping[Colour, int] = {"red": 31, "green": 32, "yellow": 33}
_ERASE = "\r\x1b[K"
_QUIET_SECONDS = 1.0  # what ends before is told by its end


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody sees what is written, and the cursor can be moved."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colours(stream: TextIO | None) -> bool:
    """Whether colours may be written: on a terminal, unless NO_COLOR says otherwise (no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def painted(text: str, colour: Colour | None) -> str:
    """Return a text for stdout in a colour, where that may have any."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colour and has_colours(sys.stdout) else text


class Progress:
    """One line at the end of stderr that says what is going on and for how long; none where that is no terminal."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._is_drawn = False
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Self:
        if is_terminal(sys.stderr):
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._erase()

    def tell(self, text: str) -> None:
        """Say something else from now on."""
        with self._lock:
            self._text = text

    def print(self, line: str) -> None:
        """Print a line on stdout, above the progress."""
        with self._lock:
            self._erase()
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def _go_on(self) -> None:
        while not self._ended.wait(_QUIET_SECONDS):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        line = f"{self._text} ({time.monotonic() - self._began:.0f} s)"
        sys.stderr.write(_ERASE + line[: shutil.get_terminal_size().columns - 1])
        sys.stderr.flush()
        self._is_drawn = True

    def _erase(self) -> None:
        if self._is_drawn:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()
            self._is_drawn = False
