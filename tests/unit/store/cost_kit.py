"""What the store does for an answer: steps of SQLite, and plans of queries."""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from relay.store.queue import Queue
from relay.store.tables import microseconds
from tests.unit.store.store_kit import NOW, new, new_message, open_queue

WAITING = 100_000
PROFILES = 200
_STEPS = 100
# Half of the messages are due; all of them are of 200 profiles, by turns.
FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :waiting)
INSERT INTO messages
SELECT {columns} FROM n, (SELECT * FROM messages WHERE id = 'pattern') AS pattern ORDER BY i
"""
OVERRIDDEN = {
    "id": "printf('w%08d', i)",
    "created": "created + i * 1000",
    "profile": "'agent' || (i % :profiles)",
    "next_attempt": ":now + (i - :waiting / 2) * 1000",
    "message_id": "'<' || i || '@acmejets.example>'",
    "sender_key": "'agent' || (i % :profiles) || '@acmejets.example'",
}
FILL_RECIPIENTS = """
INSERT INTO recipients
SELECT messages.id, 0, address, 'r' || messages.rowid || '@there.example', notify, original_type, original,
       pattern.state, pattern.reply, meaning, changed
FROM messages, (SELECT * FROM recipients WHERE message = 'pattern') AS pattern WHERE messages.id != 'pattern'
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the store; tests must leave it as it is, but for leases."""
    path = tmp_path_factory.mktemp("many") / "relay.db"

    async def make_pattern() -> None:
        async with open_queue(path) as queue:
            await queue.add(new(new_message("pattern")))

    asyncio.run(make_pattern())
    connection = sqlite3.connect(path)
    names = [row[1] for row in connection.execute("PRAGMA table_info(messages)")]
    columns = ", ".join(OVERRIDDEN.get(name, name) for name in names)
    facts = {"waiting": WAITING, "profiles": PROFILES, "now": microseconds(NOW)}
    connection.execute(FILL.format(columns=columns), facts)
    connection.execute(FILL_RECIPIENTS)
    connection.commit()
    connection.close()
    return path


@pytest.fixture
async def queue(filled: Path) -> AsyncIterator[Queue]:
    async with open_queue(filled) as opened:
        yield opened


async def cost(question: Callable[[], Awaitable[object]]) -> int:
    """How many thousands of steps of its virtual machine SQLite takes for an answer."""
    steps = itertools.count()

    def begin(connection: Any, cursor: object, *rest: object) -> None:
        connection.connection.dbapi_connection.set_progress_handler(lambda: next(steps) < 0, _STEPS)

    event.listen(Engine, "before_cursor_execute", begin)
    try:
        await question()
    finally:
        event.remove(Engine, "before_cursor_execute", begin)
    return next(steps) * _STEPS // 1000


@contextmanager
def statements_of(queue: Queue) -> Iterator[list[tuple[str, tuple[object, ...]]]]:
    """Collects what the queue says to the database."""
    said: list[tuple[str, tuple[object, ...]]] = []

    def before(connection: object, cursor: object, statement: str, values: tuple[object, ...], *rest: object) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            said.append((statement, values))

    engines = (queue._database._readers._engine, queue._database._writer._engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", before)
    yield said
    for engine in engines:
        event.remove(engine, "before_cursor_execute", before)


async def plan_of(queue: Queue, question: Callable[[], Awaitable[object]]) -> str:
    """The database's plans for all statements of a question, one step a line."""
    with statements_of(queue) as said:
        await question()
    connection = sqlite3.connect(queue._database.name)
    steps = [
        row[3]
        for statement, values in said
        for row in connection.execute(
            f"EXPLAIN QUERY PLAN {statement}", values[0] if values and isinstance(values[0], tuple) else values
        )
    ]
    connection.close()
    return "\n".join(steps)


def full_scans(plan: str) -> list[str]:
    tables = ("messages", "recipients", "content", "attempts")
    return [step for step in plan.split("\n") if step in {f"SCAN {table}" for table in tables}]
