"""What processes at one store have leased and used up of their accounts: kept until it is given back or ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import BigInteger, Connection, text, type_coerce, update

from relay.limits.ledger import Purpose, Spent
from relay.limits.rows import Taken
from relay.limits.shares import Grant, Share
from relay.store.cluster.leases import LeaseContinuity
from relay.store.db.database import open_database
from relay.store.db.tables import shares
from relay.store.queue.queue import Queue
from tests.peers.postgres import NEEDS
from tests.unit.store.store_kit import MINUTE, NOW, StorePlace


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


def has(held: int, wanted: int = 0) -> Grant:
    """What a rule decides here."""
    return Grant(held=held, wanted=wanted, granted=held)


@dataclass
class House:
    """Two processes over one store."""

    one: Queue
    two: Queue
    clock: Clock = field(default_factory=Clock)

    async def let_pass(self, seconds: int) -> None:
        """Bring the end of all shares nearer: nobody can set the clock of a database."""
        left = type_coerce(shares.c.until, BigInteger) - seconds * 1_000_000
        await self.one._write(lambda c: c.execute(update(shares).values(until=left)))

    async def judge(self, queue: Queue) -> None:
        """Let the store have heard of a process for long enough."""
        queue._continuity = LeaseContinuity(0, timer=lambda: 0)
        await queue.renew_leases()

    async def seen(self, scope: str = "acme") -> tuple[Share, ...]:
        """What a third one sees, in the order of the owners."""
        found: list[Share] = []

        def look(others: Sequence[Share], _: datetime) -> Grant:
            found[:] = others
            return has(0)

        await Queue(self.one._database, "third", clock=self.clock).adjust_shares({scope: look})
        return tuple(found)


@pytest.fixture
async def house(place: StorePlace) -> AsyncIterator[House]:
    clock = Clock()
    async with AsyncExitStack() as stack:
        queues: list[Queue] = []
        for owner in ("one", "two"):
            database = await open_database(place)
            stack.push_async_callback(database.close)
            queues.append(Queue(database, owner, clock=clock))
            stack.push_async_callback(queues[-1].aclose)
        yield House(queues[0], queues[1], clock)


async def put(queue: Queue, held: int, wanted: int = 0, *scopes: str) -> None:
    await queue.adjust_shares({scope: lambda _, __: has(held, wanted) for scope in scopes or ("acme",)})


async def test_each_sees_what_the_others_have(house: House) -> None:
    await put(house.one, 3, 5)
    await put(house.two, 2)
    await put(house.two, 9, 9, "other")
    assert await house.seen() == (
        Share(owner="one", held=3, wanted=5),
        Share(owner="two", held=2, wanted=0),
    )
    await put(house.one, 1, 1)
    await put(house.two, 0)
    assert await house.seen() == (Share(owner="one", held=1, wanted=1),)


async def test_two_that_take_at_once_see_each_other(house: House) -> None:
    def all_that_is_left(others: Sequence[Share], _: datetime) -> Grant:
        return has(min(3, 4 - sum(each.held for each in others)), 3)

    both = await asyncio.gather(*(queue.adjust_shares({"acme": all_that_is_left}) for queue in (house.one, house.two)))
    assert sorted(one["acme"].held for one in both) == [1, 3]


async def test_a_share_ends_by_itself_unless_it_is_renewed(house: House) -> None:
    await put(house.one, 3)
    await put(house.two, 2, 4)
    await house.let_pass(800)
    await house.judge(house.one)
    assert await house.one.renew_shares() == 1
    assert await house.two.lacking_shares() == {"acme"}
    await house.let_pass(101)
    assert await house.one.renew_shares() == 1
    assert [each.owner for each in await house.seen()] == ["one"]
    assert await house.two.lacking_shares() == frozenset()
    assert await house.two.renew_shares() == 0  # forgotten: whoever comes back so late must look again


@pytest.mark.needs(*NEEDS)
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
async def test_who_was_not_there_all_the_time_says_of_nobody_that_it_is_dead(house: House) -> None:
    """Where the database was away, the shares of all have expired, and each still uses its own."""
    await put(house.one, 3)
    await put(house.two, 2)
    await house.let_pass(1000)
    await house.two.renew_leases()
    await house.two.renew_shares()
    assert [each.owner for each in await house.seen()] == ["one", "two"]
    await house.judge(house.two)
    await house.two.renew_shares()
    assert [each.owner for each in await house.seen()] == ["two"]


async def test_what_a_process_that_died_had_is_free_at_once(house: House) -> None:
    await put(house.one, 3, 3, "acme", "other")
    await put(house.two, 2)
    await house.two.drop_shares("one")
    assert [each.owner for each in await house.seen()] == ["two"]
    assert await house.seen("other") == ()
    await house.two.drop_shares()
    assert await house.seen() == ()
    await put(house.one, 3)
    await house.two.drop_dead_shares()
    assert await house.seen() == ()


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)  # how the file is read is looked at
async def test_who_lacks_something_is_found_without_a_look_at_the_others(house: House) -> None:
    await put(house.one, 1, 1, *(f"acme/{number}" for number in range(300)))
    await put(house.two, 0, 1, "acme/7")
    assert await house.one.lacking_shares() == {"acme/7"}

    def plan(connection: Connection) -> str:
        found = "SELECT DISTINCT scope FROM shares WHERE wanted > held AND until > 0"
        return " ".join(row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {found}")))

    assert "USING COVERING INDEX ix_shares_lacking" in await house.one._database.read(plan)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)  # how the file is read is looked at
async def test_what_does_not_change_is_not_written(house: House) -> None:
    async def changes() -> int:
        return int(await house.one._write(lambda c: c.execute(text("SELECT total_changes()")).scalar_one()))

    await put(house.one, 3, 5)
    before = await changes()
    await put(house.one, 3, 5)
    assert await changes() == before


SPENT = Spent(server="acmejets", username="jane", kind="recipient", since=NOW, count=3)


async def test_what_is_spent_adds_up_and_can_be_given_back(queue: Queue) -> None:
    assert await queue.spent() == ()
    later, other = replace(SPENT, since=NOW + MINUTE), replace(SPENT, since=NOW + 2 * MINUTE, username="john")
    await queue.spend([SPENT, later, other], {})
    await queue.spend([replace(SPENT, count=4), replace(later, count=-1), replace(SPENT, kind="message", count=9)], {})
    assert set(await queue.spent()) == {
        replace(SPENT, count=7),
        replace(later, count=2),
        other,
        replace(SPENT, kind="message", count=9),
    }


async def test_what_counts_no_more_is_dropped_by_kind(queue: Queue) -> None:
    message, old = replace(SPENT, kind="message"), replace(SPENT, since=NOW - timedelta(days=2))
    await queue.spend([SPENT, message, old], {})
    await queue.spend([], {"recipient": NOW, "message": NOW + MINUTE})
    assert await queue.spent() == (SPENT,)


def purpose(username: str = "jane", *, is_shared: bool = False) -> Purpose:
    return Purpose("acmejets", username, "message", NOW - MINUTE, is_shared)


async def test_what_a_rule_takes_it_takes_by_what_all_have_taken(queue: Queue) -> None:
    def up_to_five(rows: Sequence[tuple[datetime, int]], now: datetime) -> Taken:
        return Taken(max(0, min(3, 5 - sum(count for _, count in rows))), now)

    taken = await asyncio.gather(*(queue.take(purpose(), up_to_five) for _ in range(3)))
    assert sorted(one.count for one in taken) == [0, 2, 3]
    spent = await queue.spent()
    assert {replace(one, since=NOW, count=0) for one in spent} == {replace(SPENT, kind="message", count=0)}
    assert sum(one.count for one in spent) == 5
    assert (await queue.take(purpose("john"), up_to_five)).count == 3
    assert (await queue.take(purpose("john", is_shared=True), up_to_five)).count == 0


async def test_what_counts_is_found_by_its_time_and_by_who_shares_it(queue: Queue) -> None:
    jane, john = replace(SPENT, kind="message"), replace(SPENT, kind="message", username="john", count=2)
    await queue.spend([jane, john, replace(jane, since=NOW - MINUTE), SPENT, replace(jane, server="other")], {})
    assert await queue.spent_for(purpose()) == [(NOW, 3)]
    assert sorted(await queue.spent_for(purpose(is_shared=True))) == [(NOW, 2), (NOW, 3)]
    await queue.spend([replace(jane, count=-3)], {})
    assert await queue.spent_for(purpose()) == []
    assert jane not in await queue.spent()
