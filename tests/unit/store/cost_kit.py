"""What the store does for an answer: steps of SQLite, and plans of queries."""

import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from relay.store.queue.queue import Queue

_STEPS = 100


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
