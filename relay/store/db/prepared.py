"""Statements that every message needs: SQL that is made once for each database, and rows as the driver takes them.

SQLAlchemy says how a statement is written in each dialect. What it does for each row (converting by column, ordering)
takes longer than the database does: here a row is a tuple of what the driver takes.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Update

Row = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# How the driver of PostgreSQL is given a value by its name.
_NAMED = re.compile(r"%\((\w+)\)s")


class Prepared:
    """A statement without results. `names`: its parameters, in the order of a row."""

    def __init__(self, statement: Insert | Update | Delete, names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._made: dict[str, tuple[str, itemgetter[Any] | None]] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Run it for each row, and return how many rows of the table that concerned. Raises what SQLAlchemy raises."""
        if not rows:
            return 0
        made = self._made.get(connection.dialect.name)
        if made is None:
            made = self._made[connection.dialect.name] = self._make(connection)
        sql, order = made
        ordered = list(rows) if order is None else list(map(order, rows))
        return connection.exec_driver_sql(sql, ordered).rowcount

    def _make(self, connection: Connection) -> tuple[str, "itemgetter[Any] | None"]:
        """Return the SQL, and what brings a row into the order of its parameters."""
        compiled = self._statement.compile(dialect=connection.dialect)
        sql = str(compiled)
        if compiled.positional:
            order = list(compiled.positiontup or ())
        else:
            order = _NAMED.findall(sql)
            sql = _NAMED.sub("%s", sql)
        if tuple(order) == self._names:
            return sql, None
        return sql, itemgetter(*(self._names.index(name) for name in order))


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
