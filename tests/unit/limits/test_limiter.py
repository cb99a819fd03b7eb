"""Who may hand a message over now, who waits, and what is said about it: the same over both ledgers; the fair queue."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.directory.model import Server
from relay.limits.constants import DAY, PIECE
from relay.limits.ledger import Kind, LedgerError
from relay.limits.limiter import FairQueue
from tests.unit.limits.limits_kit import JANE, JOHN, LEDGERS, NOON, SERVER, Disk, Process

BOTH = replace(SERVER, messages_per_minute=30, recipients_per_day=10)
MINUTE = replace(SERVER, messages_per_minute=30)


@dataclass
class Bench:
    """Processes over one store. `process` is the first one."""

    kind: str
    stack: AsyncExitStack
    disk: Disk = field(default_factory=Disk)

    def __post_init__(self) -> None:
        self.process = self.start()

    def start(self) -> Process:
        process = Process(self.disk, self.kind)
        self.stack.push_async_callback(process.limiter.aclose)
        return process

    async def fill(self, server: Server) -> None:
        """Send what may go at once."""
        while await self.process.send(server):
            pass


@pytest.fixture(params=LEDGERS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(request.param, stack)


async def test_an_account_without_limits_never_waits(bench: Bench) -> None:
    limiter = bench.process.limiter
    assert all([await bench.process.send(SERVER) for _ in range(1000)])
    assert limiter.reason(SERVER, JANE) == ""
    assert limiter.next(SERVER, JANE) is None
    assert bench.disk.writes == 0


async def test_the_minute_and_the_day_say_what_is_waited_for(bench: Bench) -> None:
    process, limiter = bench.process, bench.process.limiter
    assert [await process.send(BOTH) for _ in range(3)] == [True, True, False]
    assert limiter.reason(BOTH, JANE) == "waits for acmejets/jane: 30 messages a minute, next in 3 s"
    bench.disk.now += 3
    assert await process.send(BOTH, recipients=8)
    bench.disk.now += 3
    assert not await process.send(BOTH)
    assert limiter.reason(BOTH, JANE) == "waits for acmejets/jane: 10 recipients a day, next at 12:10 UTC tomorrow"
    assert limiter.next(BOTH, JANE) == NOON.replace(day=3, minute=10)


async def test_each_account_has_its_own_rate_unless_the_server_counts_all(bench: Bench) -> None:
    process, shared = bench.process, replace(BOTH, shared_limits=True)
    assert [await process.send(BOTH, who) for who in [JANE, JOHN] * 2] == [True] * 4
    bench.disk.rows.clear()
    process = bench.start()
    assert [await process.send(shared, who) for who in (JANE, JOHN, JOHN)] == [True, True, False]
    assert process.limiter.reason(shared, JOHN) == "waits for acmejets: 30 messages a minute, next in 3 s"
    bench.disk.now += 62
    assert await process.send(shared, JANE, recipients=4)
    assert process.limiter.room(shared, JOHN) == 4
    assert not await process.send(shared, JOHN, recipients=5)


async def test_who_would_wait_longer_than_it_can_is_told_at_once(bench: Bench) -> None:
    await bench.fill(BOTH)
    assert await asyncio.wait_for(bench.process.limiter.permit(BOTH, JANE, "jane", within=1.9), 1) is None


async def test_who_waits_goes_in_order_each_profile_in_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.limits.limiter._LOOK_SECONDS", 0.001)
    limiter, order = bench.process.limiter, list[str]()
    await bench.fill(MINUTE)

    async def go(profile: str) -> None:
        permit = await limiter.permit(MINUTE, JANE, profile)
        assert permit is not None
        order.append(profile)
        await permit.begin()
        permit.end()

    waiting = [asyncio.create_task(go(name)) for name in ["campaign"] * 6 + ["support", "sales", "support"]]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while not all(task.done() for task in waiting):
            bench.disk.now += 0.25
            await limiter.tidy()
            await asyncio.sleep(0.002)
    assert order == ["campaign", "support", "sales", "campaign", "support", *["campaign"] * 4]


async def test_a_cancelled_wait_leaves_its_place_to_the_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.limits.limiter._LOOK_SECONDS", 0.001)
    await bench.fill(MINUTE)
    waiting = [asyncio.create_task(bench.process.limiter.permit(MINUTE, JANE, None)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[:4]:
        task.cancel()
    bench.disk.now += 3
    async with asyncio.timeout(20):
        assert await waiting[4] is not None


async def test_a_permit_that_never_begins_is_anothers(bench: Bench) -> None:
    limiter, server = bench.process.limiter, replace(SERVER, messages_per_minute=1)
    first = await limiter.permit(server, JANE, None, within=1)
    assert first is not None
    waiting = asyncio.create_task(limiter.permit(server, JANE, None))
    await asyncio.sleep(0.01)  # as a server that has some work with it
    assert not waiting.done()
    first.end()
    async with asyncio.timeout(20):
        assert await waiting is not None


async def test_nobody_waits_any_more_when_it_closes(bench: Bench) -> None:
    limiter, server = bench.process.limiter, replace(SERVER, messages_per_minute=1)
    assert await bench.process.send(server)
    waiting = asyncio.create_task(limiter.permit(server, JANE, None))
    await asyncio.sleep(0)
    limiter.close()
    assert await waiting is None
    assert await limiter.permit(server, JANE, None) is None


async def test_a_restart_forgets_neither_the_minute_nor_the_day(bench: Bench) -> None:
    server = replace(BOTH, recipients_per_day=100)
    for _ in range(25):
        assert await bench.process.send(server, recipients=2)
        bench.disk.now += 2.09
    await bench.process.stop()
    after = bench.start()
    assert await after.room(server) == 50
    count = 0
    while await after.send(server):
        count += 1
    assert count <= 2  # 25 are within the minute, and two may go at once
    bench.disk.now += 63
    assert await after.send(server)


async def test_recipients_that_nobody_got_are_given_back_and_kept_so(bench: Bench) -> None:
    limiter = bench.process.limiter
    permit = await limiter.permit(BOTH, JANE, None, recipients=8, within=1)
    assert permit is not None
    assert await permit.charge(8) == 8
    assert limiter.room(BOTH, JANE) == 2
    permit.end(used=3)
    permit.end()
    assert limiter.room(BOTH, JANE) == 7
    await bench.process.stop()
    assert await bench.start().room(BOTH) == 7


async def test_a_new_limit_counts_for_those_who_come_next(bench: Bench) -> None:
    await bench.fill(MINUTE)
    waiting = asyncio.create_task(bench.process.limiter.permit(MINUTE, JANE, None))
    await asyncio.sleep(0)
    bench.process.limiter.disband()
    assert await waiting is None
    bench.disk.now += 0.2
    assert await bench.process.send(replace(MINUTE, messages_per_minute=6000))


async def test_a_message_takes_as_many_recipients_as_the_day_has(bench: Bench) -> None:
    """Who waits in the queue asks for one, and learns with the message how many there are."""
    day = replace(SERVER, recipients_per_day=3)
    permit = await bench.process.limiter.permit(day, JANE, None)
    assert permit is not None
    assert await permit.charge(5) == 3
    assert await bench.process.limiter.permit(day, JANE, None) is None


async def test_what_is_used_is_on_disk_a_piece_at_a_time(bench: Bench) -> None:
    disk, day = bench.disk, replace(SERVER, recipients_per_day=1000)
    assert await bench.process.send(day)
    assert disk.total(Kind.RECIPIENT) == 10
    for _ in range(9):
        assert await bench.process.send(day)
    assert (disk.writes, disk.total(Kind.RECIPIENT)) == (1, 10)
    assert await bench.process.send(day, recipients=50)
    assert (disk.writes, disk.total(Kind.RECIPIENT)) == (2, 60)


async def test_a_stop_in_order_gives_the_rest_back_and_a_kill_loses_it(bench: Bench) -> None:
    server = replace(SERVER, recipients_per_day=1000, messages_per_minute=600)
    assert await bench.process.send(server, recipients=3)
    assert await bench.start().room(server) == 990
    await bench.process.stop()
    assert (bench.disk.total(Kind.RECIPIENT), bench.disk.total(Kind.MESSAGE)) == (3, 1)
    assert await bench.start().room(server) == 997


async def test_many_at_once_share_a_write(bench: Bench) -> None:
    server = replace(SERVER, recipients_per_day=60)
    assert all(await asyncio.gather(*(bench.process.send(server, recipients=2) for _ in range(20))))
    assert bench.disk.writes <= 2
    assert bench.disk.total(Kind.RECIPIENT) == 40


@pytest.mark.parametrize("refusal", ["before", "behind"])
async def test_where_the_store_fails_nothing_leaves_and_nothing_is_forgotten(bench: Bench, refusal: str) -> None:
    bench.disk.refusals.append(refusal)
    server = replace(SERVER, recipients_per_day=1000)
    with pytest.raises(LedgerError):
        await bench.process.send(server, recipients=5)
    assert bench.process.limiter.room(server, JANE) == 1000
    assert await bench.process.send(server, recipients=5)
    assert bench.disk.total(Kind.RECIPIENT) >= 10
    assert bench.process.limiter.room(server, JANE) == (995 if refusal == "before" else 985)


async def test_who_gives_up_while_it_waits_for_the_disk_uses_nothing(bench: Bench) -> None:
    bench.disk.dice = random.Random(3)
    server = replace(SERVER, recipients_per_day=60)
    permit = await bench.process.limiter.permit(server, JANE, None)
    assert permit is not None
    waiting = asyncio.create_task(permit.charge(7))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    permit.end()
    assert await bench.process.send(server, recipients=7)
    assert bench.disk.total(Kind.RECIPIENT) == 7
    assert bench.disk.writes == 2  # one that was asked for, and what was taken for the one that left


async def test_recipients_count_in_the_piece_of_the_day_in_which_they_are_named(bench: Bench) -> None:
    server = replace(SERVER, recipients_per_day=10)
    permit = await bench.process.limiter.permit(server, JANE, None)
    assert permit is not None
    assert await permit.charge(10) == 10
    bench.disk.now += PIECE  # it waits for a connection
    await permit.begin()
    permit.end(10)
    for process in (bench.process, bench.start()):
        assert await process.room(server) == 0
        moment = process.limiter.next(server, JANE)
        assert moment is not None
        assert moment.timestamp() >= bench.disk.now + DAY


async def test_a_clock_that_is_set_changes_what_is_said_and_not_what_may_be_sent(bench: Bench) -> None:
    process = bench.process
    await bench.fill(MINUTE)
    process.shown_ahead = 86400.0 * 30
    assert not await process.send(MINUTE)
    moment = process.limiter.next(MINUTE, JANE)
    assert moment is not None
    assert moment > datetime.fromtimestamp(bench.disk.now, NOON.tzinfo).replace(month=2, day=1)
    process.shown_ahead = -86400.0
    bench.disk.now += 2.1
    assert await process.send(MINUTE)


PROFILES = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=40)


def served_by_hand(joined: list[str | None]) -> list[int]:
    """Go round the profiles in the order in which they came, one message of each, until none is left."""
    rounds: dict[str | None, list[int]] = {}
    for number, profile in enumerate(joined):
        rounds.setdefault(profile, []).append(number)
    served: list[int] = []
    while any(rounds.values()):
        served += [numbers.pop(0) for numbers in rounds.values() if numbers]
    return served


@given(PROFILES)
def test_each_profile_has_one_turn_before_any_has_another(joined: list[str | None]) -> None:
    async def serve() -> list[int]:
        queue, places = FairQueue[str](), dict[asyncio.Future[str | None], int]()
        for number, profile in enumerate(joined):
            places[queue.join(profile)] = number
        assert len(queue) == len(joined)
        served = []
        while (place := queue.next()) is not None:
            served.append(places[place])
        assert queue.is_empty
        return served

    assert asyncio.run(serve()) == served_by_hand(joined)


@given(PROFILES, st.sampled_from(["a", "b", "c", None]))
def test_so_many_are_served_before_one_that_joins_as_was_said(joined: list[str | None], profile: str | None) -> None:
    async def serve() -> tuple[int, int]:
        queue = FairQueue[str]()
        for each in joined:
            queue.join(each)
        said, mine, before = queue.ahead_of(profile), queue.join(profile), 0
        while queue.next() is not mine:
            before += 1
        return said, before

    said, before = asyncio.run(serve())
    # A profile that has just had its turn stands behind the others of the round, one that waits may stand before them.
    assert before <= said <= before + len(set(joined))


@given(PROFILES, st.sets(st.integers(0, 39)))
def test_who_leaves_is_never_served_and_delays_nobody(joined: list[str | None], leaving: set[int]) -> None:
    async def serve() -> list[int]:
        queue = FairQueue[str]()
        places = [queue.join(profile) for profile in joined]
        for number in leaving & set(range(len(joined))):
            queue.leave(joined[number], places[number])
        served = []
        while (place := queue.next()) is not None:
            served.append(places.index(place))
        return served

    served = asyncio.run(serve())
    assert sorted(served) == sorted(set(range(len(joined))) - leaving)
    for profile in set(joined):
        own = [number for number in served if joined[number] == profile]
        assert own == sorted(own)
