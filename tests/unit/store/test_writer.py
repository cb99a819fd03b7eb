import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from relay.store.db import writer as module
from relay.store.db.database import Database, open_database
from relay.store.db.errors import StoreCorrupt, StoreError, StoreFull
from relay.store.db.tables import secrets
from relay.store.db.writer import Batch, Writer
from tests.unit.store.store_kit import NOW

Job = Callable[[Connection], str]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(tmp_path / "relay.db")
    yield opened
    await opened.close()


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    made = Writer(database)
    yield made
    await made.aclose()


def put(owner: str, sealed: bytes = b"") -> Job:
    def job(connection: Connection) -> str:
        connection.execute(insert(secrets).values(owner=owner, sealed=sealed, changed=NOW))
        return owner

    return job


async def owners(database: Database) -> set[str]:
    return await database.read(lambda connection: set(connection.execute(select(secrets.c.owner)).scalars()))


def commits_of(database: Database) -> list[int]:
    """A list that grows with every commit by what is stored then."""
    seen: list[int] = []

    @event.listens_for(database._writer._engine, "commit")
    def committed(connection: object) -> None:
        assert hasattr(connection, "execute")
        seen.append(connection.execute(select(func.count()).select_from(secrets)).scalar_one())

    return seen


async def test_a_job_gives_its_result(writer: Writer, database: Database) -> None:
    assert await writer.run(put("a")) == "a"
    assert await owners(database) == {"a"}


async def test_jobs_that_wait_share_a_commit(writer: Writer, database: Database) -> None:
    seen = commits_of(database)
    names = [str(number) for number in range(50)]
    assert await asyncio.gather(*(writer.run(put(name)) for name in names)) == names
    # The task starts when all have been queued, so one group holds them all.
    assert seen == [50]


async def test_what_comes_during_a_commit_is_the_next_group(writer: Writer, database: Database) -> None:
    seen = commits_of(database)
    later: list[asyncio.Task[str]] = []

    loop = asyncio.get_running_loop()
    have_come = threading.Event()

    def come() -> None:
        later.extend(asyncio.create_task(writer.run(put(str(number)))) for number in range(20))
        loop.call_soon(have_come.set)  # behind their first steps

    def first(connection: Connection) -> str:
        loop.call_soon_threadsafe(come)
        have_come.wait(10)
        return put("first")(connection)

    await writer.run(first)
    await asyncio.gather(*later)
    assert seen == [1, 21]


async def test_groups_are_bounded_by_jobs_and_by_content(writer: Writer, database: Database) -> None:
    seen = commits_of(database)
    await asyncio.gather(*(writer.run(put(str(number))) for number in range(450)))
    assert seen == [200, 400, 450]
    sizes = (5, 5, 2, 9, 1)
    await asyncio.gather(*(writer.run(put(f"s{number}"), octets=mib << 20) for number, mib in enumerate(sizes)))
    assert seen[3:] == [451, 453, 454, 455]


async def test_nobody_goes_on_before_the_commit(writer: Writer, database: Database) -> None:
    """A reader sees only what is committed; every caller looks for its own at once."""

    async def run(name: str) -> bool:
        await writer.run(put(name))
        return name in await owners(database)

    assert all(await asyncio.gather(*(run(str(number)) for number in range(50))))


async def test_no_answer_comes_from_a_commit_that_fails(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(database._writer._engine.dialect, "do_commit", fail)
        answers = await asyncio.gather(*(writer.run(put(str(number))) for number in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreError] * 3
    assert len({id(answer) for answer in answers}) == 3
    assert await owners(database) == set()
    assert await writer.run(put("after")) == "after"


async def test_a_job_that_fails_undoes_itself_alone(writer: Writer, database: Database) -> None:
    def half(connection: Connection) -> str:
        put("half")(connection)
        raise LookupError("the other half is missing")

    jobs = (put("a"), half, put("b"), put("a"), put("c"))
    answers = await asyncio.gather(*(writer.run(job) for job in jobs), return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, LookupError, str, IntegrityError, str]
    assert await owners(database) == {"a", "b", "c"}


async def test_a_fault_of_the_database_in_a_job_is_named(writer: Writer) -> None:
    def read_nonsense(connection: Connection) -> str:
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    with pytest.raises(StoreCorrupt):
        await writer.run(read_nonsense)


async def test_jobs_whose_transaction_another_job_undid_are_run_again(writer: Writer, database: Database) -> None:
    def undo_all(connection: Connection) -> str:
        connection.exec_driver_sql("ROLLBACK")
        raise StoreError("the disk failed")

    jobs = (put("a"), undo_all, put("b"))
    answers = await asyncio.gather(*(writer.run(job) for job in jobs), return_exceptions=True)
    assert answers[0] == "a"
    assert isinstance(answers[1], StoreError)
    assert answers[2] == "b"
    assert await owners(database) == {"a", "b"}


async def test_one_job_that_is_too_large_for_the_disk_does_not_hurt_the_small_ones(
    writer: Writer, database: Database
) -> None:

    def shrink(connection: Connection) -> None:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages + 20}"))

    await database.write(shrink)
    jobs = (put("a"), put("large", b"x" * 1_000_000), put("b"))
    answers = await asyncio.gather(*(writer.run(job) for job in jobs), return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, StoreFull, str]
    assert await owners(database) == {"a", "b"}


async def test_a_cancelled_caller_breaks_nothing(writer: Writer, database: Database) -> None:
    tasks = [asyncio.create_task(writer.run(put(str(number)))) for number in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[2], asyncio.CancelledError)
    assert await owners(database) == {"0", "1", "2", "3", "4"}


async def test_closing_writes_what_waits_and_takes_no_more(database: Database) -> None:
    writer = Writer(database)
    tasks = [asyncio.create_task(writer.run(put(str(number)))) for number in range(5)]
    await asyncio.sleep(0)
    await writer.aclose()
    assert await owners(database) == {"0", "1", "2", "3", "4"}
    assert all(task.done() for task in tasks)
    with pytest.raises(StoreError, match="is closed"):
        await writer.run(put("late"))
    await writer.aclose()


async def test_a_cancelled_writer_leaves_nobody_waiting(database: Database) -> None:
    writer = Writer(database)
    inside, go_on = threading.Event(), threading.Event()

    def wait(connection: Connection) -> str:
        inside.set()
        go_on.wait(10)
        return ""

    tasks = [asyncio.create_task(writer.run(job)) for job in (wait, put("a"))]
    await asyncio.to_thread(inside.wait, 10)
    assert writer._task is not None
    writer._task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 2
    go_on.set()
    assert await writer.run(put("b")) == "b"
    await writer.aclose()


def together(calls: list[int]) -> Batch[str]:
    """A batch that has one statement for all, and notes how many they were."""

    def batch(connection: Connection, names: Sequence[str]) -> None:
        calls.append(len(names))
        connection.execute(insert(secrets), [{"owner": name, "sealed": b"", "changed": NOW} for name in names])

    return batch


async def test_items_of_one_batch_are_written_by_one_call(writer: Writer, database: Database) -> None:
    calls, seen = list[int](), commits_of(database)
    batch = together(calls)
    alone = asyncio.create_task(writer.run(put("c")))
    await asyncio.sleep(0)
    await asyncio.gather(alone, *(writer.run_together(batch, name) for name in ("a", "b")))
    assert (calls, seen) == ([2], [3])
    assert await owners(database) == {"a", "b", "c"}


async def test_what_a_batch_returns_is_told_to_each_of_its_callers(writer: Writer) -> None:
    def doubled(connection: Connection, numbers: Sequence[int]) -> list[int]:
        return [number * 2 for number in numbers]

    waiting = [writer.run_together(doubled, number) for number in (1, 2, 3)]
    assert await asyncio.gather(writer.run(put("a")), *waiting, writer.run(put("b"))) == ["a", 2, 4, 6, "b"]


async def test_an_item_that_fails_in_its_batch_does_not_hurt_the_others(writer: Writer, database: Database) -> None:
    await writer.run(put("b"))
    calls = list[int]()
    batch = together(calls)
    waiting = [writer.run_together(batch, name) for name in ("a", "b", "c")]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), IntegrityError, type(None)]
    assert calls == [3, 1, 1, 1]
    assert await owners(database) == {"a", "b", "c"}


async def test_behind_a_large_group_the_next_waits_for_company(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.2)
    seen = commits_of(database)
    loop, late = asyncio.get_running_loop(), list[asyncio.Task[str]]()

    def come(connection: Connection) -> str:
        loop.call_soon_threadsafe(lambda: late.append(asyncio.create_task(writer.run(put("late")))))
        return put("first")(connection)

    await asyncio.gather(writer.run(come), *(writer.run(put(str(number))) for number in range(3)))
    assert await asyncio.gather(*late, writer.run(put("later"))) == ["late", "later"]
    assert seen == [4, 6]
