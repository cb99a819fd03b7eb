"""Several processes that give permits for the same accounts: what all do together stays within the limits."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from relay.directory.model import Account, Server
from relay.limits.constants import TELL_SECONDS
from relay.limits.limiter import Limiter, Permit
from relay.limits.shared_ledger import SharedLedger
from relay.store.db.database import open_database
from relay.store.db.errors import StoreError
from relay.store.db.tables import shares
from relay.store.queue.queue import Queue
from tests.peers.moments import a_while

SERVER = Server(name="acmejets", host="h", messages_per_minute=30, recipients_per_day=10)
MINUTE = replace(SERVER, recipients_per_day=0)
DAY = replace(SERVER, messages_per_minute=0)
JANE, JOHN = Account("acmejets", "jane"), Account("acmejets", "john")
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    now: float = NOON.timestamp() + 0.25

    def __call__(self) -> float:
        return self.now

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)


@dataclass
class House:
    """Processes over one store, and their time."""

    clock: Clock
    queues: list[Queue]
    limiters: list[Limiter] = field(default_factory=list)

    async def counted(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for spent in await self.queues[0].spent():
            counts[spent.kind] = counts.get(spent.kind, 0) + spent.count
        return counts


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = Clock()
    async with AsyncExitStack() as stack:
        found = House(clock, [])
        for name in ("one", "two", "three"):
            database = await open_database(tmp_path / "relay.db")
            stack.push_async_callback(database.close)
            queue = Queue(database, name, clock=clock.moment)
            stack.push_async_callback(queue.aclose)
            found.queues.append(queue)
            found.limiters.append(Limiter(SharedLedger(queue, wall=clock), wall=clock))
            stack.push_async_callback(found.limiters[-1].aclose)
        yield found


async def permit_of(limiter: Limiter, server: Server, account: Account = JANE, recipients: int = 1) -> Permit | None:
    """A permit that may be had now: as soon as the store has said so, which a busy disk delays."""
    return await limiter.permit(server, account, "jane", recipients=recipients, within=2.0)


async def sent(limiter: Limiter, server: Server, account: Account = JANE, recipients: int = 1) -> bool:
    """Send one message that may go now; False where none may."""
    got = await permit_of(limiter, server, account, recipients)
    if got is None or await got.charge(recipients) < recipients:
        return False
    await got.begin()
    got.end(recipients)
    return True


async def test_what_one_sends_the_others_cannot(house: House) -> None:
    one, two, three = house.limiters
    assert [await sent(each, MINUTE) for each in (one, two, three)] == [True, True, False]
    assert three.reason(MINUTE, JANE) == "waits for acmejets/jane: 30 messages a minute, next in 3 s"
    house.clock.now += 2.1
    assert [await sent(each, MINUTE) for each in (three, one)] == [True, False]
    assert await sent(one, MINUTE, JOHN)
    moment = one.next(MINUTE, JANE)
    assert moment is not None
    assert moment.timestamp() == pytest.approx(NOON.timestamp() + 0.25 + 62 / 30 * 2, abs=0.001)


async def test_accounts_that_share_limits_share_them_over_all_processes(house: House) -> None:
    one, two, _ = house.limiters
    shared = replace(MINUTE, shared_limits=True)
    assert [await sent(one, shared, JANE), await sent(two, shared, JOHN), await sent(one, shared, JOHN)] == [
        True,
        True,
        False,
    ]
    assert one.reason(shared, JANE).startswith("waits for acmejets: 30 messages a minute")


async def test_a_permit_that_is_not_used_is_the_next_ones_or_is_taken_back(house: House) -> None:
    one, two, _ = house.limiters
    server = replace(MINUTE, messages_per_minute=1)
    first = await permit_of(one, server)
    assert first is not None
    waiting = asyncio.create_task(one.permit(server, JANE, None))
    await a_while(0.05)
    assert not waiting.done()
    first.end()
    async with asyncio.timeout(10):
        second = await waiting
    assert second is not None
    assert await permit_of(two, server) is None
    second.end()
    await one.tidy()
    assert await house.counted() == {}
    two.disband()  # it would wait for the moment that it was told
    assert await permit_of(two, server) is not None


async def test_who_leaves_the_line_leaves_nothing_behind(house: House) -> None:
    one, two, _ = house.limiters
    server = replace(MINUTE, messages_per_minute=1)
    assert await sent(one, server)
    waiting = [asyncio.create_task(two.permit(server, JANE, None)) for _ in range(3)]
    await a_while(0.05)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert await house.counted() == {"message": 1}
    waiting = [asyncio.create_task(two.permit(server, JANE, None)) for _ in range(2)]
    await a_while(0.05)
    two.close()
    assert [await each for each in waiting] == [None, None]
    assert await permit_of(two, server) is None


async def test_what_begins_late_counts_from_then(house: House) -> None:
    one, two, _ = house.limiters
    server = replace(MINUTE, messages_per_minute=1)
    late = await permit_of(one, server)
    assert late is not None
    for _ in range(70):  # a login takes its time
        house.clock.now += 1
        await one.tidy()
    assert await permit_of(two, server) is None
    house.clock.now += 0.3
    await late.begin()
    late.end()
    await one.tidy()
    house.clock.now += 61.9
    await one.tidy()  # it is alive, so that nothing is kept back for it
    two.disband()
    assert await permit_of(two, server) is None
    house.clock.now += 0.2
    assert await permit_of(two, server) is not None


async def test_what_a_process_had_when_it_died_counts_for_its_time(house: House) -> None:
    one, two, _ = house.limiters
    server = replace(SERVER, messages_per_minute=1, recipients_per_day=3)
    assert await permit_of(one, server, recipients=2) is not None  # it dies now
    assert await permit_of(two, server, recipients=1) is None
    house.clock.now += 62.1
    assert await permit_of(two, server, recipients=1) is not None
    assert await permit_of(two, server, recipients=1) is None  # of three two are lost for the day


async def test_the_day_holds_over_all_processes_and_says_when_it_ends(house: House) -> None:
    one, two, _ = house.limiters
    assert await sent(one, DAY, recipients=4)
    assert not await sent(two, DAY, recipients=7)
    assert await sent(two, DAY, recipients=6)
    assert not await sent(one, DAY)
    assert one.room(DAY, JANE) == 0
    assert one.reason(DAY, JANE) == "waits for acmejets/jane: 10 recipients a day, next at 12:10 UTC tomorrow"
    assert one.next(DAY, JANE) == NOON.replace(day=3, minute=10)
    for each in (one, two):
        await each.tidy()
    house.clock.now += 86400 + 600
    assert await sent(one, DAY)


async def test_what_is_taken_ahead_and_not_used_is_given_back(house: House) -> None:
    one, two, _ = house.limiters
    server = replace(DAY, recipients_per_day=1000)
    assert await sent(one, server)
    assert await house.counted() == {"recipient": 10}
    assert await sent(one, server, recipients=9)
    assert await house.counted() == {"recipient": 10}
    got = await permit_of(one, server, recipients=5)
    assert got is not None
    assert await got.charge(5) == 5
    await got.begin()
    got.end(3)
    house.clock.now += 11
    await one.tidy()
    assert await house.counted() == {"recipient": 20}  # for when the store is away
    house.clock.now += 600
    await one.tidy()
    assert await house.counted() == {"recipient": 13}
    assert await sent(two, server)
    await two.aclose()
    assert await house.counted() == {"recipient": 14}


async def test_what_others_may_lack_is_given_back_soon(house: House) -> None:
    one, two, _ = house.limiters
    server = replace(DAY, recipients_per_day=200)
    assert await sent(one, server, recipients=180)
    assert await sent(one, server)
    assert await house.counted() == {"recipient": 182}
    house.clock.now += 11
    await one.tidy()
    assert await house.counted() == {"recipient": 181}
    assert await sent(two, server, recipients=19)


async def test_what_is_taken_ahead_is_kept_filled_while_it_is_used(house: House) -> None:
    one, _, _ = house.limiters
    server = replace(DAY, recipients_per_day=1000)
    assert await sent(one, server, recipients=9)
    assert await house.counted() == {"recipient": 10}
    await one.tidy()
    assert await house.counted() == {"recipient": 20}
    await one.tidy()
    assert await house.counted() == {"recipient": 20}


async def test_recipients_that_are_promised_are_nobody_elses(house: House) -> None:
    one = house.limiters[0]
    first, second = [await permit_of(one, DAY, recipients=5) for _ in range(2)]
    assert first is not None
    assert second is not None
    assert await permit_of(one, DAY) is None
    assert await first.charge(10) == 5
    second.end()
    assert await permit_of(one, DAY) is not None


async def test_what_others_gave_back_is_seen_when_it_is_asked_for(house: House) -> None:
    one, two, _ = house.limiters
    got = await permit_of(one, DAY, recipients=10)
    assert got is not None
    assert not await sent(two, DAY)
    assert two.room(DAY, JANE) == 0
    got.end()
    await one.aclose()
    house.clock.now += 10
    assert two.room(DAY, JANE) == 0
    await two.tidy()
    assert two.room(DAY, JANE) == 10


async def test_a_store_that_does_not_answer_stops_nobody_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.limits.limiter._LOOK_SECONDS", 0.01)
    one = house.limiters[0]
    refusals = [StoreError("no"), ValueError("no")]

    def refusing(real: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def take(self: Queue, *given: object) -> object:
            if refusals:
                raise refusals.pop()
            return await real(self, *given)

        return take

    monkeypatch.setattr(Queue, "take", refusing(Queue.take))
    monkeypatch.setattr(Queue, "begin", refusing(Queue.begin))
    async with asyncio.timeout(10):
        assert await one.permit(MINUTE, JANE, None) is not None
    refusals.append(StoreError("no"))
    with pytest.raises(StoreError):
        await one.permit(DAY, JANE, None)


async def test_processes_agree_on_even_shares_for_an_outage(house: House) -> None:
    for _ in range(4):
        for limiter in house.limiters:
            assert await permit_of(limiter, replace(MINUTE, messages_per_minute=6000)) is not None
            await limiter.tidy()
        house.clock.now += TELL_SECONDS
    held = [
        await queue._database.read(lambda c: c.execute(select(shares.c.held)).scalars().all()) for queue in house.queues
    ]
    assert held == [[2000] * 3] * 3


async def test_all_processes_have_their_part_of_the_rate(tmp_path: Path) -> None:
    """In real time: 600 a minute, so ten a second behind the first forty."""
    counts, server = [0, 0, 0], replace(MINUTE, messages_per_minute=600)

    async def go(limiter: Limiter, number: int) -> None:
        while (got := await limiter.permit(server, JANE, "jane")) is not None:
            counts[number] += 1
            await got.begin()
            got.end()

    started = time.monotonic()
    async with AsyncExitStack() as stack:
        for number in range(3):
            database = await open_database(tmp_path / "relay.db")
            stack.push_async_callback(database.close)
            queue = Queue(database, f"worker {number}")
            stack.push_async_callback(queue.aclose)
            limiter = Limiter(SharedLedger(queue))
            task = asyncio.create_task(go(limiter, number))
            stack.push_async_callback(asyncio.wait, {task})
            stack.push_async_callback(limiter.aclose)
        began = time.monotonic()
        async with asyncio.timeout(20):
            while sum(counts) < 40 + 9.6 * (time.monotonic() - began) - 3:  # noqa: ASYNC110  what could be had at once is used up
                await asyncio.sleep(0.01)
        early = list(counts)
        async with asyncio.timeout(20):
            while sum(counts) - sum(early) < 34:  # noqa: ASYNC110  in four seconds, where nobody else is busy
                await asyncio.sleep(0.01)
        assert sum(counts) <= 40 + 10 * (time.monotonic() - started) + 1
        each = [count - before for count, before in zip(counts, early, strict=True)]
    assert min(each) >= 6
