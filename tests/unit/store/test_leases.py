"""What one process of all does: until when, who comes too late, and who may say of others that they are dead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from relay.store.cluster.leases import LeaseContinuity, LeaseLost, LeaseTable, NamedLease, require
from relay.store.db.clocks import StoreClock
from relay.store.db.database import Database, open_database
from relay.store.queue.claims import Living
from tests.unit.store.store_kit import StorePlace

LONG = 60.0


@pytest.fixture
async def databases(place: StorePlace) -> AsyncIterator[list[Database]]:
    """Two processes at one store."""
    async with AsyncExitStack() as stack:
        opened = [await open_database(place) for _ in range(2)]
        for database in opened:
            stack.push_async_callback(database.close)
        yield opened


@pytest.fixture
def one(databases: list[Database]) -> LeaseTable:
    return LeaseTable(databases[0], "node-1/run-1/0/1", Living("node-1/run-1/", "node-1/run-1/0/", "node-1/"))


@pytest.fixture
def two(databases: list[Database]) -> LeaseTable:
    return LeaseTable(databases[1], "node-2/run-2/0/1", Living("node-2/run-2/", "node-2/run-2/0/", "node-2/"))


async def had(table: LeaseTable, seconds: float = LONG, name: str = "lead") -> NamedLease:
    held = await table.take(name, seconds)
    assert held is not None
    return held


async def taken_at_last(table: LeaseTable) -> NamedLease:
    async with asyncio.timeout(10):
        while (held := await table.take("lead", LONG)) is None:  # noqa: ASYNC110 - the store's clock says when
            await asyncio.sleep(0.02)
    return held


async def test_one_has_a_duty_and_others_have_others(one: LeaseTable, two: LeaseTable) -> None:
    assert await had(one) == NamedLease("lead", "node-1/run-1/0/1", 1)
    assert await two.take("lead", LONG) is None
    assert await had(two, name="token/a") == NamedLease("token/a", "node-2/run-2/0/1", 1)
    assert (await had(one)).fence == 2, "who has it may take it anew"


async def test_of_many_who_take_it_at_once_one_has_it(databases: list[Database]) -> None:
    tables = [LeaseTable(databases[number % 2], f"run-{number}") for number in range(8)]
    found = await asyncio.gather(*(table.take("lead", LONG) for table in tables))
    assert len([held for held in found if held is not None]) == 1


async def test_a_duty_ends_by_itself_and_the_next_has_a_higher_fence(one: LeaseTable, two: LeaseTable) -> None:
    await had(one)
    assert await two.take("lead", LONG) is None
    late = await had(one, 0.3)
    after = await taken_at_last(two)
    assert after.fence == late.fence + 1
    assert not await one.renew(late, LONG), "it is another's"
    await one.give_up(late)
    assert await one.take("lead", LONG) is None, "who comes too late gives up nothing of another's"


async def test_a_renewed_duty_goes_on_also_where_it_had_ended(one: LeaseTable, two: LeaseTable) -> None:
    held = await had(one, 0.0)
    assert await one.renew(held, LONG)
    assert await two.take("lead", LONG) is None


async def test_what_is_given_up_is_free_at_once(one: LeaseTable, two: LeaseTable) -> None:
    held = await had(one)
    await one.give_up(held)
    assert (await had(two)).fence == held.fence + 1


async def test_who_takes_the_place_of_one_that_died_waits_for_nothing(
    one: LeaseTable, two: LeaseTable, databases: list[Database]
) -> None:
    await had(one)
    assert await two.take("lead", LONG) is None
    beside = LeaseTable(databases[1], "node-1/run-1/1/1", Living("node-1/run-1/", "node-1/run-1/1/", "node-1/"))
    assert await beside.take("lead", LONG) is None, "the first worker of the same relay lives"
    after = LeaseTable(databases[1], "node-1/run-1/0/2", Living("node-1/run-1/", "node-1/run-1/0/", "node-1/"))
    assert await after.take("lead", LONG) is not None
    restarted = LeaseTable(databases[0], "node-1/run-9/0/1", Living("node-1/run-9/", "node-1/run-9/0/", "node-1/"))
    assert await restarted.take("lead", LONG) is not None, "an earlier run of the same node"
    assert await two.take("lead", LONG) is None


async def test_a_late_owner_writes_nothing_by_its_duty(
    one: LeaseTable, two: LeaseTable, databases: list[Database]
) -> None:
    late = await had(one, 0.0)
    await databases[0].write_beside(lambda c: require(c, late))  # it has ended, and nobody took it
    after = await taken_at_last(two)
    with pytest.raises(LeaseLost, match="'lead' is another process's by now"):
        await databases[0].write_beside(lambda c: require(c, late))
    await databases[1].write_beside(lambda c: require(c, after))
    await databases[1].write_beside(lambda c: require(c, None))


NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


class Timer:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_who_was_heard_of_all_the_time_may_judge() -> None:
    timer = Timer()
    attendance = LeaseContinuity(60, timer)
    seen = [attendance.is_complete]
    for seconds in (0, 20, 20, 20):
        timer.now += seconds
        seen.append(attendance.is_complete)
        attendance.note()
    for seconds in (0, 35, 2):  # after more than that for all that it knows nobody was heard of
        timer.now += seconds
        seen.append(attendance.is_complete)
    assert seen == [False] * 5 + [True, True, False]


def test_after_a_break_it_takes_as_long_as_at_the_start() -> None:
    timer = Timer()
    attendance = LeaseContinuity(60, timer)
    for pause in (20, 20, 20, 20, 37, 20, 20):
        attendance.note()
        timer.now += pause
    attendance.note()
    seen = [attendance.is_complete]
    timer.now += 20
    attendance.note()
    assert [*seen, attendance.is_complete] == [False, True]


def test_the_clock_of_a_store_goes_on_from_what_it_said_last() -> None:
    timer = Timer()
    clock = StoreClock(lambda: NOON, timer)
    assert clock.now() == NOON
    clock.heard(NOON + timedelta(days=1))
    timer.now += 2.5
    assert clock.now() == NOON + timedelta(days=1, seconds=2.5)
