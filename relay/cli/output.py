"""What a command prints: tables, records and times for people, JSON for scripts, and how it says that it failed.

Results go to stdout, failures to stderr. A list that may be long is printed as its entries come.
"""

import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from relay.config.faults import Fault, Faults
from relay.control.refused import Refused
from relay.mail.reply import clean_text

_GAP = "  "
# The widths of the columns are those of the first rows; a later cell that is wider moves the rest of its line.
_FIRST_ROWS = 200
_NARROWEST = 12
_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
EXIT_REFUSED = 1


def print_json(value: Any) -> None:
    """Print a value as JSON: in ASCII where stdout cannot bear every letter."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not is_utf8))


def bear_all_letters() -> None:
    """Let a letter that a terminal or file of another encoding has not be written as an escape, and not be a fault."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_stdout() -> None:
    """Let nothing more be written to stdout, which cannot be written: not even what Python does at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_failure(sentence: str, *, as_json: bool) -> None:
    """Say why nothing was done: on stderr, or as {"ok": false, "error": …} on stdout."""
    if as_json:
        print_json({"ok": False, "error": sentence})
    else:
        print(sentence, file=sys.stderr)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows under their column heads, aligned; `empty` is the sentence for a table without rows.

    On a terminal that is too narrow cells are folded; for a program nothing is ever folded or cut.
    """
    if not rows:
        print(empty)
        return
    from rich.cells import cell_len

    heads = [column.upper() for column in columns]
    lines = [heads, *rows]
    widths = [max(cell_len(line[number]) for line in lines) for number in range(len(columns))]
    if sys.stdout.isatty() and sum(widths) + len(_GAP) * (len(widths) - 1) > shutil.get_terminal_size().columns:
        _print_folded(heads, rows)
        return
    for line in lines:
        cells = [cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        print(_GAP.join(cells).rstrip())


def print_record(record: Mapping[str, str]) -> None:
    """Print one thing as lines of "key  value"."""
    width = max(map(len, record))
    for key, value in record.items():
        print(f"{key:<{width}}  {value}".rstrip())


def words(value: Any) -> str:
    """Return a JSON value as people read it: yes, no, a list with commas, nothing for null.

    What a file or a server says must not act on the terminal: its control characters become spaces.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(words(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={words(item)}" for key, item in value.items())
    return clean_text(str(value))


def fault_record(fault: Fault) -> dict[str, str]:
    """Return a fault as JSON has it."""
    return {"file": fault.file, "key": fault.key, "message": fault.message}


def count(number: int, noun: str) -> str:
    """Return "1 agent" or "3 agents"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_folded(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    with io.StringIO() as out:
        Console(file=out, width=shutil.get_terminal_size().columns, highlight=False).print(table)
        for line in out.getvalue().splitlines():
            print(line.rstrip())


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


def moment(text: str) -> datetime:
    """Return the aware time that a JSON value (RFC 3339) names."""
    return datetime.fromisoformat(text)


def relative(when: datetime, now: datetime) -> str:
    """Return how far a time is from now: "in 12 m", "3 h ago", "now"."""
    seconds = (when - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {_span(seconds)}" if seconds > 0 else f"{_span(-seconds)} ago"


def absolute(when: datetime, now: datetime) -> str:
    """Return a time by this machine's clock, and how far it is: "2025-11-24 10:05:07 +0100 (3 h ago)"."""
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S %z} ({relative(when, now)})"


def _span(seconds: float) -> str:
    """Return a length of time in its largest unit that says enough: hours up to two days, because "1 d" is vague."""
    if seconds < _MINUTE:
        return f"{int(seconds)} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} m"
    if seconds < 2 * _DAY:
        return f"{int(seconds // _HOUR)} h"
    return f"{int(seconds // _DAY)} d"


def failed(error: Exception, config: Path | None, *, as_json: bool) -> int:
    """Say why a command line failed, and return the exit code; `config` is what its `--config` says."""
    if isinstance(error, Refused | Faults):
        from relay.cli.invocation import Invocation

        sentence = Invocation(config).told(str(error))
    elif isinstance(error, OSError):
        sentence = _system_sentence(error)
    else:
        sentence = _bug_sentence(error)
    print_failure(sentence, as_json=as_json)
    return EXIT_REFUSED


def _system_sentence(error: OSError) -> str:
    words = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {words}" if error.filename else words


def _bug_sentence(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "an unknown place"
    return f"this is a fault in relay, please report it: {type(error).__name__} in {place}: {error}"
