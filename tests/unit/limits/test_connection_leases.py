"""Several processes that share the connections of an account: never too many together, and each its part."""

import asyncio
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, StaticPool, create_engine

from relay.limits.connection_leases import ConnectionLease, ConnectionLeases
from relay.limits.shares import Grant, OneMachine, Rule
from relay.store.cluster import account_limits as table
from relay.store.db.errors import StoreError
from relay.store.db.tables import metadata
from relay.store.queue.claims import Lease
from tests.peers.moments import a_while

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
SCOPE = "acmejets/jane"
LEASE = timedelta(seconds=120)
ENGINES: list[Engine] = []


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    """Close what the worlds have opened."""
    yield
    for engine in ENGINES:
        engine.dispose()
    ENGINES.clear()


@dataclass
class World:
    """A store in memory, its time, and what happens while a process waits for it."""

    engine: Engine = field(default_factory=lambda: create_engine("sqlite://", poolclass=StaticPool))
    seconds: float = 0.0
    is_down: bool = False
    answers: asyncio.Event | None = None
    meanwhile: list["Process"] = field(default_factory=list)

    def __post_init__(self) -> None:
        ENGINES.append(self.engine)
        metadata.create_all(self.engine, tables=[metadata.tables["shares"]])

    def timer(self) -> float:
        return self.seconds

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def held(self) -> int:
        """What all have by the store."""
        with self.engine.begin() as connection:
            rows = connection.execute(metadata.tables["shares"].select()).all()
        return sum(row.held for row in rows if row.until > self.now)


@dataclass
class Kept:
    """What one process sees of the store."""

    world: World
    owner: str

    async def adjust_shares(self, rules: Mapping[str, Rule]) -> dict[str, Grant]:
        self.reach()
        if self.world.answers is not None:
            await self.world.answers.wait()
        with self.world.engine.begin() as connection:
            grants = table.adjust(connection, rules, self.lease, self.world.now)
        for process in self.world.meanwhile:  # it is written, and not yet known
            process.open_all()
        return grants

    async def lacking_shares(self) -> frozenset[str]:
        self.reach()
        with self.world.engine.begin() as connection:
            return table.lacking(connection)

    async def renew_shares(self) -> int:
        self.reach()
        with self.world.engine.begin() as connection:
            return table.renew(connection, self.lease, self.world.now)

    async def drop_shares(self) -> None:
        self.reach()
        with self.world.engine.begin() as connection:
            table.drop(connection, self.owner)

    @property
    def lease(self) -> Lease:
        return Lease(self.owner, self.world.now + LEASE)

    def reach(self) -> None:
        if self.world.is_down:
            raise StoreError("the store does not answer")


class Process:
    """One process with slots of its own: it opens what it may for those who want it, and closes when told."""

    def __init__(self, world: World, name: str, workers: int, limit: int, others: OneMachine | None = None) -> None:
        self.told = 0
        self.limit = limit
        self.wanted = 0
        self.is_open = 0
        self.shares = ConnectionLeases(
            Kept(world, name),
            name,
            others or OneMachine(workers),
            lease=LEASE.total_seconds(),
            tell=self.tell,
            timer=world.timer,
        )
        self.share: ConnectionLease = self.shares.allowance(SCOPE)
        self.share.watch(self.open_all)

    def tell(self) -> None:
        self.told += 1

    @property
    def room(self) -> int:
        return min(self.limit, self.share.granted)

    def want(self, wanted: int) -> None:
        self.wanted = wanted
        self.share.report(self.limit, wanted, self.is_open)

    def open_all(self) -> None:
        """Open a connection for each who wants one, as far as that is granted."""
        if self.is_open < min(self.room, self.wanted):
            self.is_open = min(self.room, self.wanted)
            self.share.report(self.limit, self.wanted, self.is_open)

    def close(self, most: int) -> None:
        """What comes back and is not granted any more is closed, and so is what nobody wants."""
        surplus = self.is_open - min(self.room, self.wanted)
        self.is_open -= max(0, min(most, surplus))
        self.share.report(self.limit, self.wanted, self.is_open)


async def settle(world: World, processes: list[Process], seconds: float = 5) -> None:
    """Let them all go on for some seconds: they tell each other, look, open and close."""
    end = world.seconds + seconds
    while world.seconds < end:
        for process in processes:
            told = process.told
            await process.shares.step()
            process.open_all()
            process.close(100)
            if process.told > told:
                for other in processes:
                    other.shares.look()
        world.seconds += 0.05


def cast(world: World, count: int, limit: int) -> list[Process]:
    return [Process(world, f"worker {number}", count, limit) for number in range(count)]


async def test_who_is_alone_leaves_the_others_their_part_for_a_second() -> None:
    world = World()
    one, _ = cast(world, 2, 10)
    one.want(30)
    await one.shares.step()
    assert one.share.granted == 5
    await settle(world, [one], 2)
    assert one.share.granted == 10


async def test_who_comes_later_has_its_part_as_connections_close() -> None:
    world = World()
    one, two = cast(world, 2, 10)
    one.want(10)
    await settle(world, [one], 3)
    one.is_open = 10
    two.want(10)
    await two.shares.step()
    assert two.share.granted == 0
    assert two.told == 1
    one.shares.look()
    await one.shares.step()
    assert one.share.granted == 5
    assert world.held() == 10
    one.close(2)
    await one.shares.step()
    assert one.told == 1
    await two.shares.step()
    assert two.share.granted == 0  # nobody told it, and its second is not over
    two.shares.look()
    await two.shares.step()
    assert two.share.granted == 2
    await settle(world, [one, two])
    assert (one.share.granted, two.share.granted) == (5, 5)


async def test_one_connection_for_three_goes_round() -> None:
    world = World()
    three = cast(world, 3, 1)
    for process in three:
        process.want(4)
    seen = []
    for _ in range(6):
        await settle(world, three, 10)
        seen.append([process.share.granted for process in three])
    assert all(sum(granted) == 1 for granted in seen)
    assert {granted.index(1) for granted in seen[:3]} == {0, 1, 2}


async def test_what_died_is_free_when_its_lease_is_over_or_it_is_forgotten() -> None:
    world = World()
    one, two = cast(world, 2, 4)
    one.want(4)
    await settle(world, [one], 3)
    two.want(4)
    await settle(world, [two], 60)
    assert two.share.granted == 0
    await settle(world, [two], 70)
    assert two.share.granted == 4
    await Kept(world, "worker 1").drop_shares()
    third = Process(world, "worker 2", 2, 4)
    third.want(4)
    await settle(world, [third], 3)
    assert third.share.granted == 4


@pytest.mark.parametrize(("workers", "most", "kept"), [(2, 500, 1), (4, 500, 1), (5, 500, 0), (2, 0, 0)])
async def test_what_is_unused_for_long_is_given_back_but_for_one_and_all_at_the_end(
    workers: int, most: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is kept where not everybody can have one, or of more accounts than can be renewed all the time."""
    monkeypatch.setattr("relay.limits.connection_leases._KEPT_UNUSED", most)
    world = World()
    one, two = (Process(world, name, workers, 4) for name in ("worker 0", "worker 1"))
    for process in (one, two):
        process.want(2)
    await settle(world, [one, two], 1)
    one.want(0)
    one.is_open = 0
    await settle(world, [one, two], 30)
    assert world.held() == 4
    await settle(world, [one, two], 301)
    assert (world.held(), one.share.granted) == (2 + kept, kept)
    two.want(4)
    await settle(world, [one, two], 3)
    assert (one.share.granted, two.share.granted, two.is_open) == (0, 4, 4), "it is given to who lacks it"
    await two.shares.aclose()
    assert world.held() == 0
    assert two.told


async def test_what_is_kept_of_an_unused_account_is_used_without_the_store() -> None:
    world = World()
    one, two = cast(world, 2, 4)
    one.want(2)
    await settle(world, [one, two], 1)
    one.want(0)
    one.is_open = 0
    await settle(world, [one, two], 1000)
    world.is_down = True
    one.want(2)
    one.open_all()
    with pytest.raises(StoreError):
        await one.shares.step()
    assert (one.is_open, world.held()) == (1, 1)


async def test_without_a_store_each_goes_on_with_what_it_has() -> None:
    world = World()
    one, two = cast(world, 2, 4)
    for process in (one, two):
        process.want(2)
    await settle(world, [one, two], 1)
    world.is_down = True
    one.want(4)
    for _ in range(50):
        world.seconds += 10
        for each in (one, two):
            with pytest.raises(StoreError):
                await each.shares.step()
    assert (one.share.granted, two.share.granted) == (2, 2)
    world.is_down = False
    two.want(0)
    two.is_open = 0
    await settle(world, [one, two], 3)
    assert (one.share.granted, two.share.granted) == (4, 0)


async def test_without_a_store_nothing_is_used_for_longer_than_other_nodes_leave_it() -> None:
    """They see one who is cut off no more than one who is dead, whose connections stay open for a while."""
    world = World()
    one = Process(world, "one", 1, 4, others=OneMachine(2, is_alone=False))
    one.want(4)
    await settle(world, [one], 2)
    world.is_down = True
    for seconds, granted in ((60, 4), (13, 4), (6, 0), (500, 0)):
        world.seconds += seconds
        with pytest.raises(StoreError):
            await one.shares.step()
        assert one.share.granted == granted
    world.is_down = False
    await settle(world, [one], 1)
    assert one.share.granted == 4


async def test_who_is_alone_has_all_without_a_store_too() -> None:
    """An account that nobody used in the last minutes has no share when the store goes away."""
    world = World(is_down=True)
    one = Process(world, "one", 1, 4)
    one.want(3)
    running = asyncio.create_task(one.shares.run())
    async with asyncio.timeout(10):
        while one.share.granted < 4:  # noqa: ASYNC110  what is waited for knows no event
            await asyncio.sleep(0.01)
    running.cancel()
    world.is_down = False
    await settle(world, [one], 1)
    assert (one.share.granted, one.is_open) == (4, 3)
    assert world.held() == 4


async def test_who_is_alone_waits_for_no_store_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has helped itself to the store knows as soon as it answers: another may come then."""
    monkeypatch.setattr("relay.limits.connection_leases._PATIENCE_SECONDS", 0.05)
    world = World(answers=asyncio.Event())
    one = Process(world, "one", 1, 4)
    one.want(1)
    running = asyncio.create_task(one.shares.run())
    async with asyncio.timeout(10):
        while one.is_open < 1:  # noqa: ASYNC110  what is waited for knows no event
            await asyncio.sleep(0.01)
        assert world.held() == 0
        one.want(4)
        one.open_all()
        assert one.is_open == 4
        assert world.answers is not None
        world.answers.set()
        while world.held() < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    assert one.is_open == 4


async def test_who_shares_takes_nothing_while_the_store_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.limits.connection_leases._PATIENCE_SECONDS", 0.01)
    world = World(answers=asyncio.Event())
    one = Process(world, "one", 2, 4)
    one.want(1)
    running = asyncio.create_task(one.shares.run())
    await a_while(0.1)
    running.cancel()
    await asyncio.wait({running})
    assert one.share.granted == 0


async def test_who_was_stopped_for_longer_uses_nothing_before_it_has_its_share_again() -> None:
    world = World()
    one, two = cast(world, 2, 4)
    one.want(4)
    await settle(world, [one], 3)
    assert (one.share.granted, one.is_open) == (4, 4)
    two.want(4)
    await settle(world, [two], 125)  # the first one is stopped
    assert two.is_open == 4
    assert one.share.granted == 0, "by the time alone, before anything else"
    await one.shares.step()
    assert one.share.granted == 0
    one.close(4)
    await settle(world, [one, two])
    assert (one.share.granted, two.share.granted) == (2, 2)


async def test_a_steady_process_writes_nothing_but_renewals() -> None:
    world, writes = World(), list[str]()
    one, two = cast(world, 2, 10)
    one.want(4)
    await settle(world, [one, two], 3)
    for name in ("adjust_shares", "renew_shares"):
        real = getattr(one.shares._keeper, name)

        async def counted(*args: object, name: str = name, real: object = real) -> object:
            writes.append(name)
            return await real(*args)  # type: ignore[operator]

        setattr(one.shares._keeper, name, counted)
    for number in range(100):
        one.want(number % 4)
        await settle(world, [one, two], 0.5)
    assert writes == ["renew_shares"]


async def test_a_lower_limit_counts_for_all_together() -> None:
    world = World()
    one, two = cast(world, 2, 10)
    for process in (one, two):
        process.want(5)
    await settle(world, [one, two], 2)
    assert (one.share.granted, two.share.granted) == (5, 5)
    for process in (one, two):
        process.limit = 4
        process.want(5)
    await settle(world, [one, two], 3)
    assert (one.share.granted, two.share.granted) == (2, 2)
    assert world.held() == 4


async def test_the_worker_goes_on_after_a_store_that_did_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.limits.connection_leases._LOOK_SECONDS", 0.01)
    world = World(is_down=True)
    process = Process(world, "worker 0", 2, 4)
    running = asyncio.create_task(process.shares.run())
    process.want(2)
    await a_while(0.05)
    assert process.share.granted == 0
    world.is_down = False
    async with asyncio.timeout(10):
        while process.share.granted < 2:
            world.seconds += 0.01
            await asyncio.sleep(0.01)
    running.cancel()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(2, 4), st.integers(0, 2**32))
def test_never_more_than_the_limit_whatever_happens(limit: int, count: int, seed: int) -> None:
    """Processes want, open, close, die, stop for long and are slow to hear, in any order; some keep what is unused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.limits.connection_leases._UNUSED_SECONDS", 5 if seed % 2 else 300)
        asyncio.run(_chaos(limit, count, random.Random(seed)))


async def _chaos(limit: int, count: int, dice: random.Random) -> None:
    world = World()
    alive, born = cast(world, count, limit), count
    for _ in range(250):
        world.seconds += dice.choice([0.0, 0.01, 0.1, 1.0, 5.0])
        process = dice.choice(alive)
        world.meanwhile = alive
        match dice.randrange(8):
            case 0 | 1:
                process.want(dice.choice([0, 1, limit, 3 * limit]))
            case 2:
                process.open_all()
            case 3:
                process.close(dice.randint(1, 3))
            case 4:
                process.shares.look()
                await process.shares.step()
            case 5 if dice.random() < 0.2:
                alive.remove(process)
                await process.shares._keeper.drop_shares()
                alive.append(Process(world, f"worker {born}", count, limit))
                born += 1
            case _:
                await process.shares.step()
        if world.seconds % 40 < 5:  # nobody is so slow that its lease ends
            for each in alive:
                await each.shares.step()
        assert sum(each.is_open for each in alive) <= limit
        assert sum(max(each.is_open, each.share.granted) for each in alive) <= world.held() <= limit
    for process in alive:
        process.want(limit)
    world.seconds += 11 - world.seconds % 10  # not where what cannot be divided goes to others
    await settle(world, alive, 4)
    granted = sorted(process.share.granted for process in alive)
    assert sum(granted) == limit
    assert granted[-1] - granted[0] <= 1
