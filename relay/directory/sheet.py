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

from relay.schema import no_such_key, show

MOST_ROWS = 20_000
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
    faults: list[SheetFault] = []
    lines = _lines(text, faults)
    line, header = next(lines, (1, []))
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
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            message = f"this row is no CSV: {error}; look at its quotation marks"
            faults.append(SheetFault(line, "", message))
            return
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


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
