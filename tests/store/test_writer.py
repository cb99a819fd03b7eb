import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import event, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.store.database import Database, open_database
from relay.store.errors import StoreCorrupt, StoreError, StoreFull
from relay.store.tables import secrets
from relay.store.writer import Writer
from tests.store.store_kit import NOW

Job = Callable[[AsyncConnection], Awaitable[str]]


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
    async def job(connection: AsyncConnection) -> str:
        await connection.execute(insert(secrets).values(owner=owner, sealed=sealed, changed=NOW))
        return owner

    return job


async def owners(database: Database) -> set[str]:
    async with database.read() as connection:
        return set((await connection.execute(select(secrets.c.owner))).scalars())


def commits_of(database: Database) -> list[int]:
    """A list that grows with every commit by what is stored then."""
    seen: list[int] = []

    @event.listens_for(database._writer.sync_engine, "commit")
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

    async def first(connection: AsyncConnection) -> str:
        later.extend(asyncio.create_task(writer.run(put(str(number)))) for number in range(20))
        return await put("first")(connection)

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
    async with database.write() as connection:
        driver = (await connection.get_raw_connection()).driver_connection

    async def fail() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    assert driver is not None
    monkeypatch.setattr(driver, "commit", fail)
    answers = await asyncio.gather(*(writer.run(put(str(number))) for number in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreError] * 3
    assert len({id(answer) for answer in answers}) == 3
    monkeypatch.undo()
    assert await owners(database) == set()
    assert await writer.run(put("after")) == "after"


async def test_a_job_that_fails_undoes_itself_alone(writer: Writer, database: Database) -> None:
    async def half(connection: AsyncConnection) -> str:
        await put("half")(connection)
        raise LookupError("the other half is missing")

    jobs = (put("a"), half, put("b"), put("a"), put("c"))
    answers = await asyncio.gather(*(writer.run(job) for job in jobs), return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, LookupError, str, IntegrityError, str]
    assert await owners(database) == {"a", "b", "c"}


async def test_a_fault_of_the_database_in_a_job_is_named(writer: Writer) -> None:
    async def read_nonsense(connection: AsyncConnection) -> str:
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    with pytest.raises(StoreCorrupt):
        await writer.run(read_nonsense)


async def test_jobs_whose_transaction_another_job_undid_are_run_again(writer: Writer, database: Database) -> None:
    async def undo_all(connection: AsyncConnection) -> str:
        await connection.exec_driver_sql("ROLLBACK")
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
    async with database.write() as connection:
        pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
        await connection.execute(text(f"PRAGMA max_page_count = {pages + 20}"))
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
    inside = asyncio.Event()

    async def wait(connection: AsyncConnection) -> str:
        inside.set()
        await asyncio.Event().wait()
        return ""

    tasks = [asyncio.create_task(writer.run(job)) for job in (wait, put("a"))]
    await inside.wait()
    assert writer._task is not None
    writer._task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 2
    assert await writer.run(put("b")) == "b"
    await writer.aclose()
