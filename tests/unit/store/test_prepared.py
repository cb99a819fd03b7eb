"""Statements that are made once: they write what SQLAlchemy would, row for row, in each dialect."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Dialect, Engine, Table, create_engine, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg

from relay.store.db.prepared import Prepared, moment, words
from relay.store.db.queue_tables import attempts, messages, recipients
from relay.store.db.tables import Words, metadata
from relay.store.queue import contents, writes
from relay.store.queue.messages import StoredMessage
from relay.store.queue.rows import attempt_row, message_row, recipient_row
from tests.peers.rows import each_row
from tests.unit.store.rows_kit import attempt_values, message_values, recipient_values
from tests.unit.store.store_kit import NOW, attempt, new_message, rich_message

PREPARED = {
    f"{module.__name__}.{name}": value
    for module in (contents, writes)
    for name, value in vars(module).items()
    if isinstance(value, Prepared)
}
HOSTILE = ("", "plain", "päivää 📧", "half \udc80 a letter", "a\0b")


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = create_engine("sqlite://")
    metadata.create_all(made)
    yield made
    made.dispose()


def _written(connection: Connection, table: Table) -> list[tuple[Any, ...]]:
    found = [tuple(row) for row in connection.execute(select(table))]
    connection.exec_driver_sql(f"DELETE FROM {table.name}")
    return found


@pytest.mark.parametrize("said", HOSTILE)
@pytest.mark.parametrize("message", [new_message("1"), rich_message()], ids=["plain", "rich"])
def test_rows_are_what_sqlalchemy_writes(engine: Engine, message: StoredMessage, said: str) -> None:
    message = replace(message, subject=said, message_id=said, reason=said, reply=said)
    recipient = replace(message.recipients[0], reply=said)
    tried = attempt(2, ended=NOW, reply=said)
    with engine.begin() as connection:
        for table, prepared, row, values in (
            (messages, writes._INSERT_MESSAGE, message_row(message), message_values(message)),
            (recipients, writes._INSERT_RECIPIENT, recipient_row("1", recipient), recipient_values("1", recipient)),
            (attempts, writes._INSERT_ATTEMPT, attempt_row("1", tried), attempt_values("1", tried)),
        ):
            assert prepared.run(connection, [row]) == 1
            ours = _written(connection, table)
            connection.execute(insert(table).values(values))
            assert ours == _written(connection, table)


@each_row("dialect", [sqlite.dialect(), psycopg.dialect()], ids=["sqlite", "postgresql"])  # type: ignore[no-untyped-call]
@each_row("prepared", PREPARED.values(), ids=PREPARED.keys())
def test_each_parameter_of_a_statement_is_one_of_the_row(prepared: Prepared, dialect: Dialect) -> None:
    class OfDialect:
        def __init__(self) -> None:
            self.dialect = dialect
            self.ran: list[tuple[str, list[tuple[str, ...]]]] = []

        def exec_driver_sql(self, sql: str, rows: list[tuple[str, ...]]) -> Any:
            self.ran.append((sql, rows))
            return type("Result", (), {"rowcount": len(rows)})

    connection = OfDialect()
    fresh = Prepared(prepared._statement, prepared._names)
    assert fresh.run(connection, [prepared._names]) == 1  # type: ignore[arg-type]
    ((sql, (row,)),) = connection.ran
    assert sql.count("?" if dialect.positional else "%s") == len(row)
    assert set(row) == set(prepared._names)


def test_nothing_to_write_is_no_statement(engine: Engine) -> None:
    with engine.begin() as connection:
        assert writes._INSERT_MESSAGE.run(connection, []) == 0


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        moment(datetime(2026, 1, 1))  # noqa: DTZ001
    assert moment(None) is None


@pytest.mark.parametrize("said", HOSTILE)
def test_words_are_what_the_column_makes_of_them(said: str) -> None:
    assert words(said) == Words().process_bind_param(said, sqlite.dialect())
