"""Statements that every message needs: SQL that is made once for each database, and rows as the driver takes them.

SQLAlchemy says how a statement is written in each dialect. What it does for each row (converting by column, ordering)
takes longer than the database does: here a row is a tuple of what the driver takes.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Delete, Insert, Update

Row = tuple[Any, ...]
# Parameters of one statement: every SQLite takes as many.
_MOST_PARAMETERS = 999

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# How the driver of PostgreSQL is given a value by its name.
_NAMED = re.compile(r"%\((\w+)\)s")


class _Made(NamedTuple):
    """The SQL, what brings a row into the order of its parameters, and the same SQL for `many` rows at once.

    The driver of SQLite lets the interpreter go for each row that it is given. Where two threads want it, to take it
    back costs more than the row: so it is given many rows by one statement.
    """

    sql: str
    order: "itemgetter[Any] | None"
    many: int = 1
    sql_of_many: str = ""


class Prepared:
    """A statement without results. `names`: its parameters, in the order of a row."""

    def __init__(self, statement: Insert | Update | Delete, names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._made: dict[str, _Made] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Run it for each row, and return how many rows of the table that concerned. Raises what SQLAlchemy raises."""
        if not rows:
            return 0
        made = self._made.get(connection.dialect.name)
        if made is None:
            made = self._made[connection.dialect.name] = self._make(connection)
        ordered = list(rows) if made.order is None else list(map(made.order, rows))
        done, many = 0, made.many
        if many > 1:
            whole = len(ordered) - len(ordered) % many
            for start in range(0, whole, many):
                parameters = tuple(chain.from_iterable(ordered[start : start + many]))
                done += connection.exec_driver_sql(made.sql_of_many, parameters).rowcount
            ordered = ordered[whole:]
        return done + connection.exec_driver_sql(made.sql, ordered).rowcount if ordered else done

    def _make(self, connection: Connection) -> _Made:
        compiled = self._statement.compile(dialect=connection.dialect)
        sql = str(compiled)
        if compiled.positional:
            order = list(compiled.positiontup or ())
        else:
            order = _NAMED.findall(sql)
            sql = _NAMED.sub("%s", sql)
        ordering = None if tuple(order) == self._names else itemgetter(*(self._names.index(name) for name in order))
        row = f"({', '.join('?' * len(order))})"
        if not isinstance(self._statement, Insert) or not sql.endswith(f" VALUES {row}"):
            return _Made(sql, ordering)
        many = _MOST_PARAMETERS // len(order)
        return _Made(sql, ordering, many, sql + f", {row}" * (many - 1))


def moment(when: datetime | None) -> int | None:
    """Return a moment as `relay.store.db.tables.Time` has it. Raises ValueError for one without a zone."""
    if when is None:
        return None
    if when.tzinfo is None:
        raise ValueError("a time in the store needs its zone")
    return (when - _EPOCH) // _MICROSECOND


def words(text: str) -> str:
    """Return a text as `relay.store.db.tables.Words` has it."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "?")
