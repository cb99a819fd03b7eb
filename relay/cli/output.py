"""What a command prints: tables and sentences for people, JSON for scripts. Results to stdout, failures to stderr."""

import io
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from relay.config.faults import Fault
from relay.mail.reply import clean_text

_GAP = "  "


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
