import asyncio
import contextlib
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from relay.store.db import sqlite
from relay.store.db import sqlite as module
from relay.store.db.database import Database, open_database
from relay.store.db.errors import StoreBusy, StoreCorrupt, StoreError, StoreExposed, StoreFull, StoreNewer, named_faults
from relay.store.db.sqlite import store_files
from relay.store.db.tables import HEAD, vault
from tests.peers.moments import a_while


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(tmp_path / "relay.db")
    yield database
    await database.close()


async def pragma(database: Database, name: str, *, writing: bool) -> object:
    run = database.write if writing else database.read
    return await run(lambda connection: connection.execute(text(f"PRAGMA {name}")).scalar())


async def key_ids(database: Database) -> list[str]:
    return await database.read(lambda connection: list(connection.execute(select(vault.c.key_id)).scalars()))


def put_key(key_id: str, *, id_: int = 1) -> Callable[[Connection], None]:
    """A job that makes this the key of an empty store."""

    def job(connection: Connection) -> None:
        connection.execute(insert(vault).values(id=id_, key_id=key_id))

    return job


def set_key(key_id: str) -> Callable[[Connection], None]:
    def job(connection: Connection) -> None:
        connection.execute(vault.update().values(key_id=key_id))

    return job


def one_sentence(error: BaseException) -> bool:
    return "\n" not in str(error) and "sqlalche" not in str(error) and "SELECT" not in str(error)


def spoil(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.mark.parametrize("writing", [True, False])
async def test_every_connection_is_durable_and_waits_for_others(store: Database, *, writing: bool) -> None:
    assert await pragma(store, "journal_mode", writing=writing) == "wal"
    assert await pragma(store, "synchronous", writing=writing) == 2  # FULL
    assert await pragma(store, "busy_timeout", writing=writing) == 10_000
    assert await pragma(store, "foreign_keys", writing=writing) == int(writing)
    assert await pragma(store, "query_only", writing=writing) == int(not writing)


async def test_all_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "relay.db"
    database = await open_database(path)
    await database.write(put_key("a"))
    there = [file for file in store_files(path) if file.exists()]
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in there}
    await database.close()
    assert modes == {"relay.db": 0o600, "relay.db-wal": 0o600, "relay.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_a_file_that_others_could_open_is_refused(tmp_path: Path, suffix: str) -> None:
    await (await open_database(tmp_path / "relay.db")).close()
    file = tmp_path / f"relay.db{suffix}"
    file.touch()
    file.chmod(0o640)
    with pytest.raises(StoreExposed, match=f"run: chmod 600 {file}$"):
        await open_database(tmp_path / "relay.db")


async def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    for expected in ([], ["a"]):
        database = await open_database(tmp_path / "relay.db")
        assert await key_ids(database) == expected
        if not expected:
            await database.write(put_key("a"))
        await database.close()
    assert [file.name for file in store_files(tmp_path / "relay.db") if file.exists()] == ["relay.db"]


async def test_an_exception_undoes_the_whole_transaction(store: Database) -> None:
    def change_my_mind(connection: Connection) -> None:
        put_key("a")(connection)
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await store.write(change_my_mind)
    assert await key_ids(store) == []


async def test_writers_take_turns_and_readers_see_one_state(store: Database) -> None:
    await store.write(put_key("0"))

    def count_up(connection: Connection) -> None:
        count = int(connection.execute(select(vault.c.key_id)).scalar_one())
        time.sleep(0.001)  # so that others have their turn
        set_key(str(count + 1))(connection)

    counting = threading.Event()

    def look_twice(connection: Connection) -> set[str]:
        seen = {connection.execute(select(vault.c.key_id)).scalar_one()}
        counting.wait(10)
        return {*seen, connection.execute(select(vault.c.key_id)).scalar_one()}

    looking = asyncio.create_task(store.read(look_twice))
    await asyncio.gather(*(store.write(count_up) for _ in range(20)), key_ids(store))
    counting.set()
    assert len(await looking) == 1
    assert await key_ids(store) == ["20"]


async def test_more_readers_than_connections_wait_for_each_other(store: Database) -> None:
    assert await asyncio.gather(*(key_ids(store) for _ in range(30))) == [[]] * 30


async def test_a_reader_cannot_write(store: Database) -> None:
    with pytest.raises(StoreError):
        await store.read(put_key("a"))


async def test_a_job_whose_caller_is_cancelled_ends_and_leaves_the_turn_to_the_next(store: Database) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        put_key("held")(connection)
        inside.set()
        go_on.wait(10)

    task = asyncio.create_task(store.write(hold))
    await asyncio.to_thread(inside.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    next_one = asyncio.create_task(store.write(set_key("next")))
    await a_while(0.01)
    assert not next_one.done()
    go_on.set()
    await next_one
    assert await key_ids(store) == ["next"]


async def test_writers_that_are_cancelled_at_any_moment_break_nothing(store: Database) -> None:
    await store.write(put_key("0"))
    for turns in range(60):
        task = asyncio.create_task(store.write(set_key(str(turns))))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.write(set_key("1000"))
    assert await key_ids(store) == ["1000"]


async def test_closing_waits_for_what_is_under_way(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "relay.db")

    def slow(connection: Connection) -> None:
        time.sleep(0.05)  # a slow write
        put_key("slow")(connection)

    writing = asyncio.create_task(database.write(slow))
    await asyncio.sleep(0)
    await database.close()
    await writing
    database = await open_database(tmp_path / "relay.db")
    assert await key_ids(database) == ["slow"]
    await database.close()


async def test_no_value_of_a_row_is_in_an_exception(store: Database) -> None:
    with pytest.raises(IntegrityError) as caught:
        await store.write(put_key("CANARY", id_=2))
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"this is no database, but a letter\n" * 100,
        b"SQLite format 3\0" + bytes(4080),
        b"SQLite format 3\0" + b"\xff" * 4080,
        b"\0" * 8192,
    ],
)
async def test_what_is_no_database_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    fill(tmp_path / "relay.db", content)
    with pytest.raises(StoreCorrupt, match=rf"^the store {tmp_path}/relay\.db is ") as caught:
        await open_database(tmp_path / "relay.db")
    assert one_sentence(caught.value)
    assert (tmp_path / "relay.db").read_bytes() == content


@pytest.mark.parametrize("keep", [100, 2000, 4096, 9000])
async def test_a_database_that_was_cut_short_is_one_sentence(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "relay.db"
    await (await open_database(path)).close()
    fill(path, path.read_bytes()[:keep])
    with pytest.raises(StoreCorrupt, match="is damaged; stop relay and put back a backup") as caught:
        await open_database(path)
    assert one_sentence(caught.value)


async def test_damage_in_a_table_is_one_sentence_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await (await open_database(path)).close()
    connection = sqlite3.connect(path)
    page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'vault'").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xa5" * size
    fill(path, bytes(content))
    database = await open_database(path)
    with pytest.raises(StoreCorrupt, match="is damaged"):
        await key_ids(database)
    await database.close()


async def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "relay.db")
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    (tmp_path / "relay.db").chmod(0o600)
    with pytest.raises(StoreCorrupt, match="is a database of another program"):
        await open_database(tmp_path / "relay.db")


async def test_a_store_of_a_newer_relay_is_one_sentence_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    await (await open_database(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.commit()
    connection.close()
    for _ in range(2):
        with pytest.raises(
            StoreNewer, match=rf"made by a newer relay \(schema 0999, and this one knows {HEAD}\)"
        ) as caught:
            await open_database(path)
    assert one_sentence(caught.value)


async def test_a_store_that_cannot_be_made_or_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made: "):
        await open_database(tmp_path / "file" / "relay.db")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="is no file"):
        await open_database(tmp_path / "folder")


async def test_a_store_that_another_process_keeps_locked_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    database = await open_database(tmp_path / "relay.db")
    other = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy, match="is locked by another process"):
        await database.write(put_key("a"))
    assert await key_ids(database) == []
    other.execute("ROLLBACK")
    other.close()
    await database.write(put_key("a"))
    await database.close()


async def test_a_full_store_is_told_apart_and_heals(store: Database) -> None:
    """max_page_count stands for the full disk: SQLite gives the same code."""
    pages = await pragma(store, "page_count", writing=True)
    await pragma(store, f"max_page_count = {pages}", writing=True)
    with pytest.raises(StoreFull, match="the disk is full; make room on it"):
        await store.write(put_key("x" * 100_000))
    assert await key_ids(store) == []
    await pragma(store, "max_page_count = 1000000", writing=True)
    await store.write(put_key("x" * 100_000))


def test_an_error_that_is_our_own_mistake_keeps_its_class(tmp_path: Path) -> None:
    with pytest.raises(DBAPIError), named_faults(tmp_path):
        raise DBAPIError("SELECT nonsense", None, sqlite3.ProgrammingError("no such column"))


OPEN_AND_ADD = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import text
from relay.store.db.database import open_database

async def main():
    database = await open_database(Path(sys.argv[1]))
    add = text("INSERT INTO secrets (owner, sealed, changed) VALUES (:owner, x'00', 0)")
    await database.write(lambda connection: connection.execute(add, {"owner": sys.argv[2]}))
    await database.close()

asyncio.run(main())
"""


def test_several_processes_may_make_the_store_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "relay.db"
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN_AND_ADD, path, str(number)], stderr=subprocess.PIPE)
        for number in range(4)
    ]
    said = [process.communicate(timeout=60)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM secrets").fetchone() == (4,)
    connection.close()


KILLED_AFTER_COMMIT = """
import asyncio, os, signal, sys
from pathlib import Path
from sqlalchemy import text
from relay.store.db.database import open_database
from tests.peers.moments import a_while
from tests.peers.moments import a_while
from tests.peers.moments import a_while

async def main():
    database = await open_database(Path(sys.argv[1]))
    add = text("INSERT INTO secrets (owner, sealed, changed) VALUES (:owner, x'00', 0)")
    for number in range(3):
        def job(connection):
            connection.execute(add, {"owner": str(number)})
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        await database.write(job)

asyncio.run(main())
"""


def run(*command: str | Path) -> int:
    return subprocess.run(command, check=False, timeout=60).returncode


async def test_a_killed_process_loses_only_what_was_not_committed(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    assert run(sys.executable, "-c", KILLED_AFTER_COMMIT, path) == -signal.SIGKILL
    assert (tmp_path / "relay.db-wal").exists()
    database = await open_database(path)
    found = text("SELECT owner FROM secrets")
    owners = await database.read(lambda connection: connection.execute(found).scalars().all())
    await database.close()
    assert owners == ["0", "1"]


async def test_a_path_with_strange_letters_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "50% off?mode=ro#x ü" / "file:relay.db"
    await (await open_database(path)).close()
    assert path.is_file()
    shutil.rmtree(path.parent)


async def test_a_large_store_is_looked_through_for_what_rules_all_the_mail(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a start takes no longer for a long history."""
    await store.check()
    monkeypatch.setattr(sqlite, "_CHECKED_OCTETS", 1)
    await store.check()
    with contextlib.closing(sqlite3.connect(store.name)) as other:
        page = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'secrets'").fetchone()[0]
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spoil(Path(store.name), page)
    with pytest.raises(StoreCorrupt, match="is damaged; stop relay and put back a backup of it") as raised:
        await store.check()
    assert one_sentence(raised.value)
