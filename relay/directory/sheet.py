"""Tables as CSV, for spreadsheets: a header that names the columns, and a row for each entry. Pure.

What is read is UTF-8 text with or without a byte order mark, with commas or semicolons between the cells, whichever
the header has. A cell that a spreadsheet would take for a formula is written with an apostrophe in front, which is
taken away again when it is read. Lists stand in one cell with ";" between their items; "\\;" and "\\\\" are these
characters themselves.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.config.schema import no_such_key, show

MOST_ROWS = 20_000
MOST_COLUMNS = 100
_MOST_LINES = 10 * MOST_ROWS  # a cell may have several
_LONGEST_ROW = 64 * 1024  # characters
_BOM = "\ufeff"
# "=", "+", "-" and "@", also as wide as East Asian keyboards write them, and what spreadsheets skip before them.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")  # noqa: RUF001 - these are meant


class SheetFault(NamedTuple):
    """What is wrong in a line (from 1; 0: about none of them), in which column ("": about the whole row)."""

    line: int
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row, where it begins, and its cells by their columns. `password` shows itself nowhere."""

    line: int
    cells: Mapping[str, str]
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Sheet:
    """What could be read, and what is wrong with the rest. Rows with a fault of their own are not among `rows`."""

    rows: tuple[SheetRow, ...]
    count: int
    faults: tuple[SheetFault, ...]


def write_sheet(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV with a header (RFC 4180)."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([protected(cell) for cell in row] for row in rows)
    return text.getvalue()


def read_sheet(text: str, known: Sequence[str]) -> Sheet:
    """Return what a CSV says about the columns that are known; `name` and `password` are two that always are.

    Cells are trimmed, but for passwords, which are taken as they stand.
    """
    text = text.removeprefix(_BOM)
    if text.count("\n") > _MOST_LINES:
        return Sheet((), 0, (SheetFault(0, "", f"there are more than {_MOST_LINES:,} lines; import them in parts"),))
    faults: list[SheetFault] = []
    lines = _lines(text, faults)
    line, header = next(lines, (1, []))
    if len(header) > MOST_COLUMNS:
        return Sheet((), 0, (SheetFault(line, "", f"there are more than {MOST_COLUMNS} columns; name those you mean"),))
    columns = [cell.strip().casefold() for cell in header]
    faults += _header_faults(line, columns, [*known, "name", "password"])
    if "name" not in columns:
        return Sheet((), 0, tuple(faults))
    rows: list[SheetRow] = []
    first_lines: dict[str, int] = {}
    count = 0
    for line, cells in lines:
        count += 1
        if count > MOST_ROWS:
            faults.append(SheetFault(line, "", f"there are more than {MOST_ROWS:,} rows; import them in parts"))
            break
        if len(cells) != len(columns):
            message = f"the number of cells here is {len(cells)}, and {len(columns)} in the header; make them the same"
            faults.append(SheetFault(line, "", message))
            continue
        row = _row(line, dict(zip(columns, cells, strict=True)))
        fault = _name_fault(row, first_lines)
        if fault:
            faults.append(SheetFault(line, "name", fault))
        else:
            rows.append(row)
    return Sheet(tuple(rows), count, tuple(faults))


def protected(cell: str) -> str:
    """Return a cell as no spreadsheet takes it for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unprotected(cell: str) -> str:
    """Return the cell that `protected` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def join_items(items: Iterable[str]) -> str:
    """Return a list as one cell."""
    return ";".join(item.replace("\\", "\\\\").replace(";", "\\;") for item in items)


def split_items(cell: str) -> list[str]:
    """Return the list in a cell: items are trimmed, and empty ones left out."""
    items = re.findall(r"(?:\\.|[^;\\]|\\$)+", cell, re.DOTALL)
    bare = (re.sub(r"\\(.)", r"\1", item.strip(), flags=re.DOTALL) for item in items)
    return [item for item in bare if item]


def _lines(text: str, faults: list[SheetFault]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty with the line in which it begins; what is no CSV ends it with a fault."""
    bounded = _BoundedLines(text)
    reader = csv.reader(bounded, delimiter=_delimiter(text), strict=True)
    while True:
        line = reader.line_num + 1
        bounded.left = _LONGEST_ROW
        try:
            cells = next(reader, None)
        except _RowTooLong:
            faults.append(SheetFault(line, "", f"this row has more than {_LONGEST_ROW // 1024} KiB; see its quotes"))
            return
        except csv.Error as error:
            message = f"this row is no CSV: {error}; look at its quotation marks"
            faults.append(SheetFault(line, "", message))
            return
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


class _RowTooLong(Exception):
    """A row has more characters than one may have."""


class _BoundedLines:
    """The lines of a text, of which a row may have `left` characters: else a row of commas alone fills the memory."""

    def __init__(self, text: str) -> None:
        self._text = io.StringIO(text, newline="")
        self.left = 0

    def __iter__(self) -> "_BoundedLines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise _RowTooLong
        if not line:
            raise StopIteration
        return line


def _delimiter(text: str) -> str:
    header = text.lstrip("\r\n").partition("\n")[0]
    return ";" if header.count(";") > header.count(",") else ","


def _header_faults(line: int, columns: list[str], known: Sequence[str]) -> Iterator[SheetFault]:
    if "name" not in columns:
        message = "the first line names the columns, and one of them is 'name'; add it"
        yield SheetFault(line, "name", message)
    for column in dict.fromkeys(columns):
        if not column:
            yield SheetFault(line, "", "a column has no name; take it out or name it")
        elif column not in known:
            yield SheetFault(line, column, no_such_key(column, list(known)))
        elif columns.count(column) > 1:
            yield SheetFault(line, column, "this column stands there more than once; keep one of them")


def _row(line: int, cells: Mapping[str, str]) -> SheetRow:
    values = {column: unprotected(cell.strip()) for column, cell in cells.items() if column not in {"password", ""}}
    password = cells.get("password", "")
    return SheetRow(line, values, password if password.strip() else "")


def _name_fault(row: SheetRow, first_lines: dict[str, int]) -> str:
    name = row.cells["name"]
    if not name:
        return "a row needs a name"
    first = first_lines.setdefault(name, row.line)
    return f"{show(name)} stands in line {first} already; keep one of the two" if first != row.line else ""
