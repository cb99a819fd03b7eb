"""Lists that may be long: printed as their entries come, as a table for people or as JSON for scripts."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

_GAP = "  "
# The widths of the columns are those of the first rows; a later cell that is wider moves the rest of its line.
_FIRST_ROWS = 200
_NARROWEST = 12


class TableRows:
    """Rows under their column heads. The last `flexible` columns are cut where a terminal is too narrow for them.

    For a program nothing is ever cut. `empty` is the sentence for a table without rows, "" for none.
    """

    def __init__(self, columns: Sequence[str], *, flexible: int, empty: str) -> None:
        self._heads = [column.upper() for column in columns]
        self._flexible = flexible
        self._empty = empty
        self._waiting: list[tuple[Sequence[str], str]] = []
        self._widths: list[int] = []
        self._screen = shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def add(self, row: Sequence[str], note: str = "") -> None:
        """Take a row, and a note that stands below it."""
        self._waiting.append((row, note))
        if self._widths or len(self._waiting) >= _FIRST_ROWS:
            self._print_waiting()

    def flush(self) -> None:
        """Print the rows that came so far: nothing may follow for a while."""
        self._print_waiting()
        sys.stdout.flush()

    def close(self) -> None:
        """Print what is left, or that there was nothing."""
        self._print_waiting()
        if not self._widths and self._empty:
            print(self._empty)

    def _print_waiting(self) -> None:
        if self._waiting and not self._widths:
            self._widths = self._fit([self._heads, *(row for row, _ in self._waiting)])
            self._print_row(self._heads)
        for row, note in self._waiting:
            self._print_row(row)
            if note:
                self._print_note(note)
        self._waiting.clear()

    def _fit(self, rows: Sequence[Sequence[str]]) -> list[int]:
        from rich.cells import cell_len

        widths = [max(cell_len(row[number]) for row in rows) for number in range(len(self._heads))]
        if self._screen is None:
            return widths
        fixed = len(widths) - self._flexible
        room = self._screen - sum(widths[:fixed]) - len(_GAP) * (len(widths) - 1)
        return widths[:fixed] + shared(widths[fixed:], room)

    def _print_row(self, row: Sequence[str]) -> None:
        cells = [self._cell(cell, width) for cell, width in zip(row, self._widths, strict=True)]
        print(_GAP.join(cells).rstrip())

    def _cell(self, cell: str, width: int) -> str:
        from rich.cells import cell_len, set_cell_size

        missing = width - cell_len(cell)
        if missing >= 0 or self._screen is None:
            return cell + " " * missing
        return set_cell_size(cell, width - 1) + "…"

    def _print_note(self, note: str) -> None:
        if self._screen is None:
            print(f"{_GAP}{note}")
        else:
            print(textwrap.fill(note, self._screen, initial_indent=_GAP, subsequent_indent=_GAP))


class JsonArray:
    """One JSON array of objects, laid out as `print_json` does."""

    def __init__(self) -> None:
        self._is_open = False

    def add(self, record: Mapping[str, Any]) -> None:
        """Print the next object."""
        text = json.dumps(record, indent=2, ensure_ascii=False)
        print(",\n" if self._is_open else "[\n", textwrap.indent(text, "  "), sep="", end="")
        self._is_open = True

    def flush(self) -> None:
        """Hand on what was printed so far."""
        sys.stdout.flush()

    def close(self) -> None:
        """Print the end of the array."""
        print("\n]" if self._is_open else "[]")


class JsonLines:
    """One JSON object a line, for a list without an end."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Print the next object."""
        print(json.dumps(record, ensure_ascii=False))

    def flush(self) -> None:
        """Hand on what was printed so far."""
        sys.stdout.flush()

    def close(self) -> None:
        """Print nothing: there is no end to mark."""


def shared(widths: Sequence[int], room: int) -> list[int]:
    """Return the widths cut down to fit into `room` together: the widest give first, none gets very narrow."""
    left = list(widths)
    while sum(left) > room and max(left) > _NARROWEST:
        widest = left.index(max(left))
        left[widest] -= 1
    return left
