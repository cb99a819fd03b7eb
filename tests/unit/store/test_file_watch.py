"""What the watch over the files of a store sees, without a relay."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from relay.store.db.database import Database, open_database
from relay.store.db.errors import StoreError, StoreGone
from relay.store.db.file_watch import MAGIC, FileWatch
from relay.store.db.health import StoreHealth
from tests.unit.store.store_kit import new, open_queue


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[FileWatch, sqlite3.Connection, Path]]:
    path = tmp_path / "state" / "relay.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("CREATE TABLE lines (line TEXT)")
        watch = FileWatch(path)
        watch.begin()
        yield watch, store, path
        watch.close()


def test_what_sqlite_itself_does_is_no_trouble(watched: tuple[FileWatch, sqlite3.Connection, Path]) -> None:
    watch, store, path = watched
    for number in range(300):
        store.execute("INSERT INTO lines VALUES (?)", (str(number) * 2000,))
        watch.look()
        if number % 50 == 0:
            store.execute(f"PRAGMA wal_checkpoint({('PASSIVE', 'RESTART', 'TRUNCATE')[number // 50 % 3]})")
            watch.look()
    store.execute("DELETE FROM lines")
    store.execute("VACUUM")
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    watch.look()
    with closing(sqlite3.connect(path)) as other:
        other.execute("INSERT INTO lines VALUES ('other')")
        other.commit()
    watch.look()


def test_what_sqlite_does_in_other_threads_is_no_trouble_while_it_is_looked_at(
    watched: tuple[FileWatch, sqlite3.Connection, Path],
) -> None:
    watch, _, path = watched

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as store:
            for number in range(200):
                store.execute("INSERT INTO lines VALUES (?)", ("x" * 3000,))
                if number % 10 == 0:
                    store.execute(f"PRAGMA wal_checkpoint({('PASSIVE', 'RESTART', 'TRUNCATE')[number // 10 % 3]})")

    with ThreadPoolExecutor() as threads:
        writing = [threads.submit(write) for _ in range(2)]
        while not all(one.done() for one in writing):
            watch.look_before_commit()
            watch.look()
        for one in writing:
            one.result()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.rename(path.with_suffix(".aside"))])
def test_a_file_that_leaves_its_place_is_noticed(
    suffix: str, harm: Callable[[Path], object], watched: tuple[FileWatch, sqlite3.Connection, Path]
) -> None:
    watch, store, path = watched
    store.execute("INSERT INTO lines VALUES ('one')")
    harm(Path(f"{path}{suffix}"))
    with pytest.raises(StoreGone, match="was deleted or moved away"):
        watch.look()


def written_over(path: Path) -> None:
    path.write_bytes(MAGIC + b"\0" * 8192)


def cut_behind_its_header(path: Path) -> None:
    os.truncate(f"{path}-wal", 32)


# What a commit would hide or be lost in; what else there is, the look behind the commit sees.
BEFORE_COMMIT: Mapping[str, Callable[[Path], object]] = {
    "database deleted": Path.unlink,
    "database moved": lambda path: path.rename(path.with_suffix(".aside")),
    "database replaced": lambda path: Path(shutil.copy(path, path.with_suffix(".new"))).replace(path),
    "database written over": written_over,
    "WAL deleted": lambda path: Path(f"{path}-wal").unlink(),
    "WAL cut": cut_behind_its_header,
    "folder moved": lambda path: path.parent.rename(path.parent.with_suffix(".aside")),
}


@pytest.mark.parametrize("harm", BEFORE_COMMIT)
def test_what_a_commit_would_hide_is_noticed_before_it(
    harm: str, watched: tuple[FileWatch, sqlite3.Connection, Path]
) -> None:
    watch, store, path = watched
    for _ in range(5):
        store.execute("INSERT INTO lines VALUES ('one')")
        watch.look_before_commit()
        watch.look()
    BEFORE_COMMIT[harm](path)
    with pytest.raises(StoreGone):
        watch.look_before_commit()


def test_a_wal_that_is_cut_is_noticed_also_behind_the_next_commit(
    watched: tuple[FileWatch, sqlite3.Connection, Path],
) -> None:
    watch, store, path = watched
    for _ in range(5):
        store.execute("INSERT INTO lines VALUES ('one')")
    os.truncate(f"{path}-wal", 0)
    store.execute("INSERT INTO lines VALUES ('two')")
    with pytest.raises(StoreGone, match="-wal was written over"):
        watch.look()


async def test_a_store_that_is_gone_is_copied_whole(tmp_path: Path) -> None:
    path, copy = tmp_path / "relay.db", tmp_path / "copy.db"
    async with open_queue(path) as queue:
        await queue.add(new(), new())
        database: Database = queue._database
        health = StoreHealth(database)
        path.unlink()
        with pytest.raises(StoreGone):
            await queue.add(new())
        assert health.is_gone
        copy.touch(0o600)
        await health.copy_to(copy)
    async with open_queue(copy) as queue:
        assert await queue.counts() == {"queued": 2}


async def test_the_health_follows_writes_looks_and_the_room(tmp_path: Path) -> None:
    path = tmp_path / "relay.db"
    database = await open_database(path)
    changes: list[str] = []
    now, room = [0.0], [""]
    health = StoreHealth(database, lambda: room[0], timer=lambda: now[0])
    health.on_change = lambda: changes.append(health.trouble.reason if health.trouble else "")
    try:
        await health.look()
        assert (health.trouble, changes) == (None, [])
        room[0] = "no room"
        await health.look()
        assert changes == ["full"]
        room[0] = ""
        path.rename(tmp_path / "aside")
        await health.look()
        (tmp_path / "aside").rename(path)
        await health.look()
        assert changes == ["full", "gone", ""]
        with pytest.raises(StoreError):  # a job's own refusal says nothing of the store
            await database.write(lambda _: (_ for _ in ()).throw(StoreError("the name is taken")))
        assert health.trouble is None
    finally:
        await database.close()


async def test_a_file_that_cannot_be_read_is_trouble_of_the_store_for_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "relay.db", [0.0]

    def broken(descriptor: int, octets: int, start: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with open_queue(path) as queue:
        health = StoreHealth(queue._database, timer=lambda: now[0])
        await queue.add(new())
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", broken)
            with pytest.raises(StoreError, match=rf"^the store {path} cannot be read; check the disk \(Input/output"):
                await queue.add(new())
            await health.look()
            assert getattr(health.trouble, "reason", "") == "broken"
        now[0] = 10.0
        await health.look()
        assert health.trouble is None
        await queue.add(new())
