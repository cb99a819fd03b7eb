"""Rows of a directory in memory: the port `relay.directory.database_storage.EntryStore` for tests."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relay.directory.database_storage import Row, Rows


class Away(Exception):
    """The rows cannot be reached."""


class MemoryRows:
    """Rows that several keepers share. `before_write` is called before each writing; `given` counts rows that left."""

    name = "memory"
    unreachable: tuple[type[Exception], ...] = (Away,)

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[int, str | None]] = {}
        self.number = 0
        self.given = 0
        self.is_away = False
        self.goes_away = False  # between two looks
        self.before_write: Callable[[], None] = lambda: None

    async def state(self) -> str:
        if self.is_away:
            raise Away
        return str(self.number) if self.number else ""

    async def changed(self, since: str) -> Rows:
        state = await self.state()
        if self.goes_away:
            raise Away
        found = [Row(*key, text) for key, (number, text) in self.rows.items() if number > int(since or 0)]
        self.given += len(found)
        return Rows(state, found, is_whole=not since)

    async def write(self, since: str, rows: Sequence[Row]) -> str | None:
        self.before_write()
        if await self.state() != since:
            return None
        self.put(*rows)
        return str(self.number)

    def put(self, *rows: Row) -> None:
        """Write rows as another relay does."""
        self.number += 1
        for row in rows:
            key = row.table, row.name
            if self.rows.get(key, (0, None))[1] is None:
                self.rows.pop(key, None)  # it comes behind all others
            self.rows[key] = (self.number, row.text)

    def put_tables(self, tables: Mapping[str, Any]) -> None:
        """Write what tables say, which are those of a directory.toml."""
        self.put(Row("", "default_server", json.dumps(tables["default_server"])))
        for table, entries in tables.items():
            if isinstance(entries, Mapping):
                self.put(*(Row(table, name, json.dumps(entry)) for name, entry in entries.items()))

    def texts(self) -> dict[tuple[str, str], str | None]:
        """Return what stands there."""
        return {key: text for key, (_, text) in self.rows.items()}

    def put_texts(self, texts: Mapping[tuple[str, str], str | None]) -> None:
        """Write what stood there, and nothing else."""
        self.put(*(Row(*key, texts.get(key)) for key in {**self.rows, **texts}))
