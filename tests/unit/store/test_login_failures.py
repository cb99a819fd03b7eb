"""Bad logins that relays tell each other: each hears all of the others once, in their order, and none of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from relay.store.cluster.login_failures import FailureTable, LoginResult
from relay.store.db.database import Database, open_database
from relay.store.people.access import forget_outdated
from tests.unit.store.store_kit import StorePlace


@pytest.fixture
async def databases(place: StorePlace) -> AsyncIterator[list[Database]]:
    async with AsyncExitStack() as stack:
        opened = [await open_database(place) for _ in range(3)]
        for database in opened:
            stack.push_async_callback(database.close)
        yield opened


@pytest.fixture
def tables(databases: list[Database]) -> list[FailureTable]:
    return [FailureTable(database, f"node-{index}") for index, database in enumerate(databases)]


def guess(number: int, *, is_failure: bool = True) -> LoginResult:
    return LoginResult("listeners", f"192.0.2.{number}", is_failure)


async def test_each_hears_what_others_tell_from_its_first_look_on(tables: list[FailureTable]) -> None:
    one, two, three = tables
    await one.add([guess(0)])
    assert await two.news() == [], "what was before is over"
    await one.add([guess(1), guess(2), guess(1, is_failure=False)])
    await three.add([guess(3)])
    assert await two.news() == [guess(1), guess(2), guess(1, is_failure=False), guess(3)]
    assert await two.news() == []
    assert await one.news() == []
    await two.add([guess(4)])
    assert (await one.news(), await two.news()) == ([guess(4)], [])


async def test_nobody_misses_what_is_told_at_the_same_moment(tables: list[FailureTable]) -> None:
    *telling, hearing = tables
    heard = await hearing.news()
    done = asyncio.gather(*(table.add([guess(number)]) for number in range(40) for table in telling))
    while not done.done():
        heard += await hearing.news()
    await done
    heard += await hearing.news()
    assert sorted(heard) == sorted(guess(number) for number in range(40) for _ in telling)


async def test_they_are_forgotten(tables: list[FailureTable], databases: list[Database]) -> None:
    await tables[1].news()
    await tables[0].add([guess(1)])
    await forget_outdated(databases[0], datetime.now(UTC) + timedelta(hours=2))
    assert await tables[1].news() == []
