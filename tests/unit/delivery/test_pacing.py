"""Who may hand a message over now, who waits, and what is said about it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from relay.delivery.ledger import LocalLedger
from relay.delivery.pacing import Pacing
from relay.directory.model import Account, Server
from relay.store.cluster.day_quotas import Spent

SERVER = Server(name="acmejets", host="h", messages_per_minute=30, recipients_per_day=10)
QUICK = replace(SERVER, messages_per_minute=6000, recipients_per_day=0)
JANE, JOHN = Account("acmejets", "jane"), Account("acmejets", "john")
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Kept:
    """Keeps what is spent, and gives it to the next run."""

    rows: list[Spent] = field(default_factory=list)

    async def spend(self, spent: list[Spent], forget: dict[str, datetime]) -> None:
        assert forget.keys() == {"message", "recipient"}
        counts = Counter({replace(row, count=0): row.count for row in self.rows})
        counts.update({replace(row, count=0): row.count for row in spent})
        self.rows = [replace(row, count=count) for row, count in counts.items()]


@dataclass
class Bench:
    timer: Clock = field(default_factory=Clock)
    wall: Clock = field(default_factory=lambda: Clock(NOON.timestamp()))
    kept: Kept = field(default_factory=Kept)

    def ledger(self) -> LocalLedger:
        return LocalLedger(self.kept, wall=self.wall)

    def pacing(self, ledger: LocalLedger | None = None) -> Pacing:
        return Pacing(ledger, self.kept.rows, wall=self.wall, timer=self.timer)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def sent(pacing: Pacing, server: Server, account: Account = JANE, recipients: int = 1) -> bool:
    """Send one message that may go now; False where none may."""
    turn = await pacing.turn(server, account, "jane", recipients=recipients, within=0)
    if turn is None:
        return False
    await turn.charge(recipients)
    await turn.begin()
    turn.end(recipients)
    return True


async def test_an_account_without_limits_never_waits(bench: Bench) -> None:
    pacing, free = bench.pacing(), Server(name="free", host="h")
    assert all([await sent(pacing, free) for _ in range(1000)])
    assert pacing.reason(free, JANE) == ""
    assert pacing.next(free, JANE) is None


async def test_the_minute_and_the_day_say_what_is_waited_for(bench: Bench) -> None:
    pacing = bench.pacing()
    assert [await sent(pacing, SERVER) for _ in range(3)] == [True, True, False]
    assert pacing.reason(SERVER, JANE) == "waits for acmejets/jane: 30 messages a minute, next in 3 s"
    bench.timer.now += 3
    assert await sent(pacing, SERVER, recipients=8)
    bench.timer.now += 3
    assert not await sent(pacing, SERVER)
    assert pacing.reason(SERVER, JANE) == "waits for acmejets/jane: 10 recipients a day, next at 12:10 UTC tomorrow"
    assert pacing.next(SERVER, JANE) == NOON.replace(day=3, minute=10)


async def test_each_account_has_its_own_pace_unless_the_server_counts_all(bench: Bench) -> None:
    pacing, shared = bench.pacing(), replace(SERVER, shared_limits=True)
    assert [await sent(pacing, SERVER, who) for who in [JANE, JOHN] * 2] == [True] * 4
    pacing = bench.pacing()
    assert [await sent(pacing, shared, who) for who in (JANE, JOHN, JOHN)] == [True, True, False]
    assert pacing.reason(shared, JOHN) == "waits for acmejets: 30 messages a minute, next in 3 s"
    bench.timer.now += 60
    assert await sent(pacing, shared, JANE, recipients=4)
    assert pacing.room(shared, JOHN) == 4
    assert not await sent(pacing, shared, JOHN, recipients=5)


async def test_who_would_wait_longer_than_it_can_is_told_at_once(bench: Bench) -> None:
    pacing = bench.pacing()
    for _ in range(2):
        assert await sent(pacing, SERVER)
    assert await asyncio.wait_for(pacing.turn(SERVER, JANE, "jane", within=1.9), 1) is None


async def test_who_waits_goes_in_order_each_profile_in_turn() -> None:
    pacing, order = Pacing(), list[str]()
    server = replace(QUICK, messages_per_minute=600)
    for _ in range(40):
        assert await sent(pacing, server)

    async def go(profile: str) -> None:
        turn = await pacing.turn(server, JANE, profile)
        assert turn is not None
        order.append(profile)
        await turn.begin()
        turn.end()

    async with asyncio.timeout(20):
        await asyncio.gather(*map(go, ["campaign"] * 6 + ["support", "sales", "support"]))
    assert order == ["campaign", "support", "sales", "campaign", "support", *["campaign"] * 4]


async def test_a_cancelled_wait_leaves_its_place_to_the_next() -> None:
    pacing, server = Pacing(), replace(QUICK, messages_per_minute=600)
    for _ in range(40):
        assert await sent(pacing, server)
    waiting = [asyncio.create_task(pacing.turn(server, JANE, None)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[:4]:
        task.cancel()
    async with asyncio.timeout(20):
        assert await waiting[4] is not None


async def test_a_turn_that_never_begins_is_anothers() -> None:
    pacing, server = Pacing(), replace(SERVER, messages_per_minute=1, recipients_per_day=0)
    first = await pacing.turn(server, JANE, None)
    assert first is not None
    waiting = asyncio.create_task(pacing.turn(server, JANE, None))
    await asyncio.sleep(0)
    first.end()
    async with asyncio.timeout(20):
        assert await waiting is not None


async def test_nobody_waits_any_more_when_it_closes() -> None:
    pacing, server = Pacing(), replace(SERVER, messages_per_minute=1)
    assert await sent(pacing, server)
    waiting = asyncio.create_task(pacing.turn(server, JANE, None))
    await asyncio.sleep(0)
    pacing.close()
    assert await waiting is None
    assert await pacing.turn(server, JANE, None) is None


async def test_a_restart_forgets_neither_the_minute_nor_the_day(bench: Bench) -> None:
    ledger = bench.ledger()
    pacing = bench.pacing(ledger)
    server = replace(SERVER, recipients_per_day=100)
    for _ in range(25):
        assert await sent(pacing, server, recipients=2)
        bench.timer.now += 2.05
        bench.wall.now += 2.05
    await ledger.flush()
    after = bench.pacing()
    assert after.room(server, JANE) == 50
    count = 0
    while await sent(after, server):
        count += 1
    assert count == 2  # 25 are within the minute, and two may go at once
    bench.timer.now += 61
    assert await sent(after, server)


async def test_recipients_that_nobody_got_are_given_back_and_kept_so(bench: Bench) -> None:
    ledger = bench.ledger()
    pacing = bench.pacing(ledger)
    turn = await pacing.turn(SERVER, JANE, None, recipients=8)
    assert turn is not None
    assert await turn.charge(8) == 8
    assert pacing.room(SERVER, JANE) == 2
    turn.end(used=3)
    turn.end()
    assert pacing.room(SERVER, JANE) == 7
    await ledger.flush()
    assert bench.pacing().room(SERVER, JANE) == 7


async def test_a_new_limit_counts_for_those_who_come_next(bench: Bench) -> None:
    pacing = bench.pacing()
    for _ in range(2):
        assert await sent(pacing, SERVER)
    waiting = asyncio.create_task(pacing.turn(SERVER, JANE, None))
    await asyncio.sleep(0)
    pacing.disband()
    assert await waiting is None
    bench.timer.now += 0.1
    assert await sent(pacing, replace(SERVER, messages_per_minute=6000))
