"""The lead of several relays at one store: who has it counts by its own clock, and never for longer than the store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cluster import leader_election
from relay.cluster.leader_election import LASTS_SECONDS, TRUSTED_SECONDS, Elected, Tenure
from relay.store.cluster.leases import LeaseTable, NamedLease, Unrivalled
from relay.store.db.database import Database, open_database
from relay.store.db.errors import StoreError

DUTY = NamedLease("lead", "one", 1)


@dataclass
class Clock:
    """The time of all, in seconds."""

    seconds: float = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def forward(self, seconds: float) -> None:
        self.seconds += seconds


class Table(LeaseTable):
    """A table that can be away, or say nothing; where it `loses_answers`, it has done what it does not say."""

    is_away = False
    loses_answers = False

    async def take(self, name: str, seconds: float) -> NamedLease | None:
        await self._answer()
        return await super().take(name, seconds)

    async def renew(self, lease: NamedLease, seconds: float) -> bool:
        if self.loses_answers:
            await super().renew(lease, seconds)
        await self._answer()
        return await super().renew(lease, seconds)

    async def _answer(self) -> None:
        if self.is_away or self.loses_answers:
            raise StoreError("the store is away")


@dataclass
class House:
    """Two relays at one store. `told` is what each was told."""

    clock: Clock
    tables: list[Table]
    leads: list[Elected]
    told: list[list[bool]] = field(default_factory=list)

    async def step(self, *which: int) -> list[bool]:
        """Let some look, or both, and return who leads then."""
        for index in which or (0, 1):
            await self.leads[index]._step()
        return self.are

    @property
    def are(self) -> list[bool]:
        return [one.is_ours for one in self.leads]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(tmp_path / "relay.db")
    yield opened
    await opened.close()


@pytest.fixture
def house(database: Database) -> House:
    clock = Clock()
    tables = [Table(database, owner, clock=clock.now) for owner in ("one", "two")]
    house = House(clock, tables, [Elected(table, timer=lambda: clock.seconds) for table in tables], [[], []])

    def teller(index: int) -> Callable[[], object]:
        async def tell() -> None:
            house.told[index].append(house.leads[index].is_ours)

        return tell

    for index, one in enumerate(house.leads):
        one.on_change = teller(index)  # type: ignore[assignment]
    return house


@given(st.floats(0, 1e9), st.floats(0, 40))
def test_a_tenure_is_over_before_the_store_lets_another_have_it(asked_at: float, later: float) -> None:
    tenure, now = Tenure(DUTY, asked_at), asked_at + later
    if later >= LASTS_SECONDS:
        assert tenure.is_over(now)
    if later <= TRUSTED_SECONDS - 0.001:
        assert not tenure.is_over(now)
        assert tenure.pause(now) <= TRUSTED_SECONDS - later + 0.001, "no longer than it lasts"


def test_a_tenure_leaves_time_for_several_tries() -> None:
    now, tries = 0.0, 0
    tenure = Tenure(DUTY, 0.0)
    while not tenure.is_over(now):
        now += tenure.pause(now)
        tries += 1
    assert tries >= 5


async def test_one_leads_for_as_long_as_it_renews(house: House) -> None:
    assert await house.step() == [True, False]
    for _ in range(10):
        house.clock.forward(5)
        assert await house.step() == [True, False]
    assert house.told == [[True], []]
    assert house.leads[0].lease == NamedLease("lead", "one", 1)


async def test_who_was_stopped_knows_before_another_can_lead(house: House) -> None:
    await house.step()
    house.clock.forward(TRUSTED_SECONDS)
    assert house.are == [False, False], "without asking anybody"
    assert await house.step(1) == [False, False], "and nobody has it yet"
    house.clock.forward(LASTS_SECONDS - TRUSTED_SECONDS)
    assert await house.step(1) == [False, True]
    assert await house.step(0) == [False, True]
    assert house.told == [[True, False], [True]]
    assert house.leads[1].lease == NamedLease("lead", "two", 2)


async def test_who_was_stopped_while_nobody_else_was_there_goes_on(house: House) -> None:
    await house.step(0)
    house.clock.forward(3600)
    assert await house.step(0) == [True, False]
    assert await house.step(1) == [True, False]
    assert house.told == [[True], []]


async def test_without_the_store_the_lead_ends_and_comes_back(house: House) -> None:
    await house.step()
    for table in house.tables:
        table.is_away = True
    for _ in range(12):
        house.clock.forward(1)
        await house.step()
    assert house.are == [False, False]
    assert house.told == [[True, False], []]
    for table in house.tables:
        table.is_away = False
    assert await house.step() == [True, False]


async def test_an_answer_that_is_lost_makes_nobody_lead_for_longer(house: House) -> None:
    await house.step()
    house.tables[0].loses_answers = True
    house.clock.forward(8)
    assert await house.step() == [True, False]
    house.clock.forward(5)
    assert await house.step() == [False, False], "the store counts from the second time, who leads from the first"


async def test_who_resigns_ends_its_work_first_and_stands_no_more(house: House) -> None:
    await house.step()
    free: list[bool] = []

    async def end() -> None:
        free.append(await house.tables[1].take("lead", 1.0) is not None)

    house.leads[0].on_change = end
    await house.leads[0].resign()
    assert free == [False], "as long as it is being ended"
    assert await house.step() == [False, True]


async def test_who_rests_lets_others_lead_and_may_again(house: House) -> None:
    await house.step()
    house.leads[0].rest(is_wanted=True)
    assert await house.step() == [False, True]
    house.leads[0].rest(is_wanted=False)
    assert await house.step() == [False, True]
    await house.leads[1].resign()
    assert await house.step(0) == [True, False]


async def test_a_store_that_says_nothing_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.step()
    monkeypatch.setattr(leader_election, "_PATIENCE_SECONDS", 0.05)

    async def never(*_: object) -> bool:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(house.tables[0], "renew", never)
    house.clock.forward(13)
    assert await house.step() == [False, False]
    assert house.told[0] == [True, False]


async def test_what_is_wrong_with_who_is_told_ends_nothing(house: House) -> None:
    async def broken() -> None:
        raise RuntimeError("a fault of ours")

    house.leads[0].on_change = broken
    assert await house.step() == [True, False]
    await house.leads[0].resign()
    assert await house.step() == [False, True]


async def test_it_goes_on_by_itself(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_election, "_LOOK_SECONDS", 0.02)
    first, second = (Elected(LeaseTable(database, owner)) for owner in ("one", "two"))
    async with going_on(first):
        await until(lambda: first.is_ours)
        async with going_on(second):
            await first.resign()
            await until(lambda: second.is_ours)
            assert not first.is_ours


@asynccontextmanager
async def going_on(one: Elected) -> AsyncIterator[None]:
    task = asyncio.create_task(one.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - threads of the store are waited for
            await asyncio.sleep(0.01)


def test_where_no_machines_share_the_store_the_first_worker_leads() -> None:
    for is_first in (True, False):
        one = Unrivalled(is_ours=is_first)
        assert (one.is_ours, one.lease) == (is_first, None)
