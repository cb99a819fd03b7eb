"""Bad logins that all processes at one store count together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.cluster.login_failure_sync import LoginFailureSync
from relay.store.cluster.change_notifications import ChangeNotifications
from relay.store.cluster.login_failures import LISTENERS, PAGES, FailureTable, LoginResult
from relay.store.db.database import Database, Topic, open_database
from relay.store.db.errors import StoreError
from tests.unit.cluster.cluster_kit import until

SOMEWHERE = "10.0.0.1"


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[list[LoginFailureSync]]:
    """Two processes at one file that tell each other when to look, as workers do."""
    async with AsyncExitStack() as stack:
        loop = asyncio.get_running_loop()
        databases = [await open_database(tmp_path / "relay.db") for _ in range(2)]
        syncs, changes = list[LoginFailureSync](), list[ChangeNotifications]()
        for name, database in zip("ab", databases, strict=True):
            stack.push_async_callback(database.close)
            syncs.append(LoginFailureSync(FailureTable(database, name)))
            changes.append(ChangeNotifications(database))
            changes[-1].on(Topic.FAILURES, syncs[-1].look)
        for database, other in zip(databases, reversed(changes), strict=True):

            def announced(other: ChangeNotifications = other) -> None:
                loop.call_soon_threadsafe(other.wake)

            database.on_announced = announced
        for sync in syncs:
            await sync.look()
        jobs = [asyncio.create_task(run()) for run in (*(s.run for s in syncs), *(c.run for c in changes))]
        yield syncs
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)


async def test_bad_logins_are_known_to_all_and_a_good_one_takes_them_back(two: list[LoginFailureSync]) -> None:
    here, there = (sync.failures(LISTENERS, 3) for sync in two)
    pages = two[1].failures(PAGES, 3)
    for _ in range(3):
        here.add(SOMEWHERE)
    await until(lambda: there.is_barred(SOMEWHERE))
    assert not pages.is_barred(SOMEWHERE), "another door"
    there.forget(SOMEWHERE)
    await until(lambda: not here.is_barred(SOMEWHERE))


async def test_while_the_store_is_away_each_counts_for_itself(tmp_path: Path) -> None:
    class Away(FailureTable):
        is_away = True
        asked = 0

        async def add(self, results: list[LoginResult]) -> None:  # type: ignore[override]
            self.asked += 1
            if self.is_away:
                raise StoreError("the store is away")
            await super().add(results)

    database: Database = await open_database(tmp_path / "relay.db")
    table, other = Away(database, "a"), FailureTable(database, "b")
    await other.news()
    sync = LoginFailureSync(table)
    job = asyncio.create_task(sync.run())
    failures = sync.failures(LISTENERS, 2)
    failures.add(SOMEWHERE)
    failures.add(SOMEWHERE)
    await until(lambda: table.asked > 0)
    assert failures.is_barred(SOMEWHERE)
    table.is_away = False
    failures.forget(SOMEWHERE)
    await until(lambda: table.asked > 1)
    heard: list[LoginResult] = []
    async with asyncio.timeout(10):
        while not heard:
            heard = await other.news()
            await asyncio.sleep(0.01)
    assert heard == [LoginResult(LISTENERS, SOMEWHERE, False)], "what could not be written then is not written later"
    job.cancel()
    await database.close()
