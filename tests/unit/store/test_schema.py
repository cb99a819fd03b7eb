import asyncio
import contextlib
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert, select, text
from sqlalchemy.dialects import registry, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from relay.mail.address import Address
from relay.mail.header import Change, KeptChanges
from relay.store.db.database import Database, open_database
from relay.store.db.errors import StoreError, StoreNewer
from relay.store.db.queue_tables import attempts, messages, recipients
from relay.store.db.tables import HEAD, Time, metadata
from relay.store.queue.messages import NewMessage
from tests.peers.told import capture_logs
from tests.unit.store.rows_kit import attempt_values, message_values, recipient_values
from tests.unit.store.store_kit import CONTENT, NOW, PACKAGE, attempt, migrations, new_message, open_queue, settlement

# The schema of a relay that is not written yet.
NEXT = f"{int(HEAD) + 1:04}"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    """A store that is as old as can be, and was brought up to date."""
    await migrate(tmp_path / "relay.db", "0001")
    database = await open_database(tmp_path / "relay.db")
    yield database
    await database.close()


async def migrate(path: Path, revision: str) -> None:
    """Make a store with the schema of a version of before, by its migrations."""
    await (await open_database(path)).close()  # with the modes that a store has
    path.write_bytes(b"")
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(migrations(connection=connection), revision)
    engine.dispose()


async def test_the_migrations_make_the_tables(store: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, metadata))

    assert await store.read(differences) == []


async def test_the_migrations_make_the_very_tables_that_the_metadata_says(store: Database) -> None:
    """Alembic compares no check constraints, no names of primary keys and no conditions of indexes; SQLite keeps the
    text of all."""

    def made(connection: Connection) -> dict[str, list[str]]:
        found = connection.execute(text("SELECT name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        return {
            row.name: sorted(row.sql.replace(",", "\n").split("\n")) for row in found if row.tbl_name in metadata.tables
        }

    other = create_engine("sqlite://")
    with other.begin() as plain:
        metadata.create_all(plain)
        expected = made(plain)
    other.dispose()
    actual = await store.read(made)
    clean = [
        {name: sorted(filter(None, map(str.strip, lines))) for name, lines in side.items()}
        for side in (actual, expected)
    ]
    assert clean[0] == clean[1]


async def test_a_new_store_is_as_the_migrations_make_it(store: Database, tmp_path: Path) -> None:
    def made(connection: Connection) -> set[str]:
        found = connection.execute(text("SELECT sql FROM sqlite_master WHERE name LIKE 'alembic%'"))
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        return {version, *("".join(row.sql.split()) for row in found)}

    fresh = await open_database(tmp_path / "new.db")
    assert await fresh.read(made) == await store.read(made)
    assert await fresh.read(names) == await store.read(names)
    await fresh.close()


def names(connection: Connection) -> set[str]:
    """Everything that has a name in the database."""
    return set(connection.execute(text("SELECT name FROM sqlite_master")).scalars())


_LATER = {"require_tls", "clock_ahead", "digest"}  # columns that the first queue did not have


async def test_messages_of_the_first_queue_wait_on_and_require_no_tls(tmp_path: Path) -> None:
    """What schema 0002 kept is there after the migrations behind it."""
    path = tmp_path / "relay.db"
    await (await open_database(path)).close()  # with the modes that a store has
    path.write_bytes(b"")
    message = new_message("old")
    old = {name: value for name, value in message_values(message).items() if name not in _LATER}
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(migrations(connection=connection), "0002")
        connection.execute(insert(messages).values(old))
        connection.execute(insert(recipients).values(recipient_values("old", message.recipients[0])))
    engine.dispose()
    async with open_queue(path) as queue:
        found = await queue.message("old")
        assert found == message
        assert found.digest is None
        assert not message.envelope.require_tls


async def test_attempts_of_before_say_that_nobody_knows_what_they_changed(tmp_path: Path) -> None:
    """What schema 0007 kept is there after the migration behind it, and new attempts stand beside it."""
    path = tmp_path / "relay.db"
    await (await open_database(path)).close()
    path.write_bytes(b"")
    waits, over = new_message("waits"), new_message("over", state="delivered", next_attempt=None)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(migrations(connection=connection), "0007")
        for message in (waits, over):
            row = message_values(message) | ({"finished": NOW} if message is over else {})
            del row["clock_ahead"], row["digest"]
            connection.execute(insert(messages).values(row))
            connection.execute(insert(recipients).values(recipient_values(message.id, message.recipients[0])))
            old = attempt_values(message.id, attempt(1, ended=NOW, reply="450 4.2.0 später"))
            assert old.pop("changes") is None
            connection.execute(insert(attempts).values(old))
    engine.dispose()
    async with open_queue(path) as queue:
        expected = attempt(1, ended=NOW, reply="450 4.2.0 später", changes=None)
        assert await queue.attempts("over") == (expected,)
        taken = await queue.claim_one("waits", "sending")
        assert taken is not None
        second = attempt(2, ended=NOW, changes=KeptChanges((Change("From", "a", "b"),)))
        await queue.settle(settlement(taken, attempt=second))
        assert await queue.attempts("waits") == (expected, second)


@pytest.mark.parametrize(
    ("local", "old"), [("straße", "strasse"), ("ΝΊΚΟΣ", "νίκοσ"), ("rene\u0301", "rene\u0301"), ("Jane", "jane")]
)
async def test_messages_of_before_are_found_by_what_addresses_compare_by_now(
    tmp_path: Path, local: str, old: str
) -> None:
    """Schema 0017 had ß as ss, in the keys that the history is searched by."""
    path, address = tmp_path / "relay.db", Address.parse(f"{local}@acme.example")
    await migrate(path, "0017")
    found = new_message("old", state="delivered", next_attempt=None)
    row = message_values(found) | {"finished": NOW, "sender": str(address), "sender_key": f"{old}@acme.example"}
    theirs = recipient_values("old", found.recipients[0])
    theirs |= {"address": str(address), "address_key": f"{old}@acme.example"}
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(insert(messages).values(row))
        connection.execute(insert(recipients).values(theirs))
    engine.dispose()
    database = await open_database(path)
    both = select(messages.c.sender_key, recipients.c.address_key).join(messages)
    assert await database.read(lambda c: tuple(c.execute(both).one())) == (address.key, address.key)
    await database.close()


def revision_of(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


async def test_a_migration_keeps_one_private_copy_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    for revision in ("0001", "0007"):
        await migrate(path, revision)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO vault (id, key_id) VALUES (1, ?)", (revision,))
        with capture_logs() as told:
            await (await open_database(path)).close()
        (copy,) = tmp_path.glob("*.old*")
        assert copy.name == f"relay.db.schema-{revision}.old"
        assert str(copy) in str(told), "the log says where it is"
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert (revision_of(copy), revision_of(path)) == (revision, HEAD)
        for file in (copy, path):
            with contextlib.closing(sqlite3.connect(file)) as connection:
                assert connection.execute("SELECT key_id FROM vault").fetchone() == (revision,)


async def test_without_its_copy_nothing_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await migrate(path, "0007")
    (tmp_path / "relay.db.schema-0007.old").mkdir()
    with pytest.raises(StoreError, match=r"the copy .*/relay.db.schema-0007.old cannot be made: Is a directory; "):
        await open_database(path)
    assert revision_of(path) == "0007"
    assert list(tmp_path.glob("*.tmp")) == []


async def test_a_store_of_a_newer_relay_has_a_way_back(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await migrate(path, "0007")
    await (await open_database(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(StoreNewer, match=f"put back the copy from before it: relay restore {path}.schema-0007.old$"):
        await open_database(path)


@pytest.mark.parametrize(
    ("revision", "floor", "is_opened"),
    [
        (NEXT, HEAD, True),
        (NEXT, "0001", True),
        ("9999", HEAD, True),
        (NEXT, NEXT, False),
        ("9999", NEXT, False),
    ],
)
async def test_a_newer_schema_is_used_as_far_down_as_it_says(
    revision: str, floor: str, is_opened: bool, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    async with open_queue(path) as queue:
        await queue.add(NewMessage(message=new_message("before"), content=CONTENT))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE messages ADD COLUMN colour TEXT")
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.execute("UPDATE schema_floor SET revision = ?, floor = ?", (revision, floor))
    if not is_opened:
        with pytest.raises(StoreNewer, match="was made by a newer relay"):
            await open_database(path)
        return
    async with open_queue(path) as queue:
        await queue.add(NewMessage(message=new_message("behind"), content=CONTENT))
        assert [message.id for message in await queue.list_queue(limit=9)] == ["before", "behind"]
    assert revision_of(path) == revision


async def test_what_was_said_of_another_schema_does_not_count(tmp_path: Path) -> None:
    """A relay of before the floors may have brought the schema on, and said nothing."""
    path = tmp_path / "relay.db"
    await (await open_database(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (NEXT,))
    with pytest.raises(StoreNewer):
        await open_database(path)


async def test_a_migration_says_who_can_use_what_it_made(store: Database) -> None:
    said = await store.read(lambda c: tuple(c.execute(text("SELECT revision, floor FROM schema_floor")).one()))
    newest = ScriptDirectory.from_config(migrations()).get_revision(HEAD)
    assert newest is not None
    assert said == (HEAD, getattr(newest.module, "floor", HEAD))


def test_no_migration_lets_an_older_relay_in_than_the_one_before_it() -> None:
    """Who can live with the last step, and not with the one before, cannot live with both."""
    steps = [*ScriptDirectory.from_config(migrations()).walk_revisions()][::-1]
    floors = [getattr(step.module, "floor", step.revision) for step in steps]
    assert floors == sorted(floors)
    assert all(floor <= step.revision for floor, step in zip(floors, steps, strict=True))
    assert set(floors) <= {step.revision for step in steps}


def test_head_is_the_last_migration_and_there_is_one_line_of_them() -> None:
    script = ScriptDirectory.from_config(migrations())
    assert script.get_heads() == [HEAD]
    for step in script.walk_revisions():
        assert Path(step.path).name.startswith(f"{step.revision}_")
        assert step.doc
        assert re.fullmatch(r"\d{4}", step.revision), "schemas are compared as texts"


@pytest.mark.parametrize("name", ["postgresql", "sqlite"])
def test_the_tables_can_be_said_to_both_databases(name: str) -> None:
    for table in metadata.sorted_tables:
        dialect = registry.load(name)()
        assert str(CreateTable(table).compile(dialect=dialect)).strip().startswith("CREATE TABLE")
        for index in table.indexes:
            said = str(CreateIndex(index).compile(dialect=dialect))
            assert said.startswith("CREATE INDEX")
            assert ("WHERE" in said) == (index.dialect_options["sqlite"]["where"] is not None)


def test_the_wheel_finds_the_migrations() -> None:
    """setuptools takes the folders that are packages; Alembic loads the files in them by path."""
    for folder in ("store", "store/db", "store/db/migrations", "store/db/migrations/versions"):
        assert (PACKAGE / folder / "__init__.py").is_file()


SAYS_WHETHER_ALEMBIC_IS_THERE = """
import asyncio, sys
from pathlib import Path
from relay.store.db.database import open_database
from tests.peers.told import capture_logs

async def main():
    await (await open_database(Path(sys.argv[1]))).close()
    print("alembic" in sys.modules)

asyncio.run(main())
"""


def test_alembic_is_imported_only_for_a_migration(tmp_path: Path) -> None:
    def opened() -> str:
        command = [sys.executable, "-c", SAYS_WHETHER_ALEMBIC_IS_THERE, str(tmp_path / "relay.db")]
        said = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout
        return said.splitlines()[-1]  # the log tells of the migration before

    assert [opened(), opened()] == ["False", "False"]  # a new store, and one that is up to date
    asyncio.run(migrate(tmp_path / "relay.db", "0001"))
    assert [opened(), opened()] == ["True", "False"]


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_a_time_comes_back_as_the_same_moment(moment: datetime) -> None:
    stored = Time().process_bind_param(moment, sqlite.dialect())
    again = Time().process_result_value(stored, sqlite.dialect())
    assert again == moment
    assert again is not None
    assert again.tzinfo is UTC


def test_a_time_without_a_zone_is_refused_and_none_stays_none() -> None:
    with pytest.raises(ValueError, match="zone"):
        Time().process_bind_param(datetime(2026, 1, 1), sqlite.dialect())  # noqa: DTZ001
    assert Time().process_bind_param(None, sqlite.dialect()) is None
    assert Time().process_result_value(None, sqlite.dialect()) is None
