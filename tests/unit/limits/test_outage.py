"""The pace of accounts while processes cannot reach the store: never more than allowed, and never nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from relay.directory.model import Server
from relay.limits.constants import AWAY_SECONDS, KEPT_BACK_SECONDS, MINUTE, USED_PART
from relay.limits.ledger import LedgerError
from relay.limits.rate import shared_window
from relay.limits.shares import OneMachine, is_away, limit_of, part
from tests.unit.limits.limits_kit import JANE, LEASE, Disk, Process
from tests.unit.limits.limits_kit import SERVER as UNLIMITED

SERVER = replace(UNLIMITED, messages_per_minute=60)


@dataclass
class House:
    """Processes that send as much as they may, step by step; `begun` is what the provider saw."""

    server: Server
    number: int
    others: OneMachine | None = None
    disk: Disk = field(default_factory=Disk)
    begun: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processes = [Process(self.disk, "shared", str(number), self.others) for number in range(self.number)]
        self.reach = [process.reach for process in self.processes]
        self.limiters = [process.limiter for process in self.processes]

    async def send(self, number: int, most: int = 100) -> int:
        for count in range(most):
            got = await self.limiters[number].permit(self.server, JANE, "jane", within=0.001)
            if got is None:
                return count
            await got.charge(1)
            await got.begin()
            got.end(1)
            self.begun.append((self.disk.now, number))
        return most

    async def tidy(self, number: int) -> None:
        try:
            await self.limiters[number].tidy()
        except LedgerError:
            assert not self.reach[number].is_there

    async def go(self, seconds: float, senders: Sequence[int], step: float = 0.5) -> None:
        end = self.disk.now + seconds
        while self.disk.now < end:
            self.disk.now += step
            for number in range(self.number):
                await self.tidy(number)
            for number in senders:
                await self.send(number)

    def most_in_a_minute(self) -> int:
        times = sorted(at for at, _ in self.begun)
        return max((sum(at <= other < at + MINUTE for other in times) for at in times), default=0)

    def since(self, moment: float, number: int | None = None) -> int:
        return sum(at >= moment and number in (None, one) for at, one in self.begun)

    async def aclose(self) -> None:
        for limiter in self.limiters:
            await limiter.aclose()


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.limits.limiter._LOOK_SECONDS", 0.001)


# The rules


@pytest.mark.parametrize(
    ("limit", "others", "mine"),
    [(60, (), 60), (60, (60,), 0), (60, (30,), 30), (60, (20, 20), 20), (1, (), 1), (1, (1,), 0), (2, (1, 1), 0)],
)
def test_a_part_is_fair_and_no_more_than_others_leave(limit: int, others: tuple[int, ...], mine: int) -> None:
    assert part(limit, others) == mine


def test_a_part_is_used_after_others_keep_it_back_and_before_its_lease_is_over() -> None:
    assert AWAY_SECONDS > KEPT_BACK_SECONDS
    assert not is_away(0.0, 1.0, AWAY_SECONDS, LEASE)
    assert is_away(0.0, 1.0, 1.0 + AWAY_SECONDS, LEASE)
    assert not is_away(0.0, 1.0, USED_PART * LEASE, LEASE)


def test_of_a_part_as_much_may_go_as_leaves_the_minute() -> None:
    now = 1000.0
    pace = limit_of(3, [now - 50, now - 20], now)
    assert pace.next(now) == now - 50 + shared_window()
    pace.let_go(now + 13)
    pace.began(now + 13)
    assert pace.next(now + 13) == pytest.approx(now - 20 + shared_window())
    assert limit_of(2, [], now).next(now) == now + shared_window()


# All together


async def test_who_used_its_part_goes_on_with_it_and_the_others_a_minute_later() -> None:
    house = House(SERVER, 2)
    await house.go(70, [0, 1])  # both tell that they are there
    for one in house.reach:
        one.is_there = False
    lost = house.disk.now
    await house.go(AWAY_SECONDS + 70, [0, 1])
    assert house.since(lost + AWAY_SECONDS) >= 30
    begun = house.since(lost + AWAY_SECONDS)
    await house.go(60, [0, 1])
    assert house.since(lost + AWAY_SECONDS) - begun >= 50
    assert house.most_in_a_minute() <= 60
    for one in house.reach:
        one.is_there = True
    await house.go(1, [])
    minute_ago = house.disk.now - MINUTE
    counted = sum(n for (*_, at), n in house.disk.rows.items() if at >= minute_ago)
    assert counted == house.since(minute_ago), "what was sent meanwhile is written down"
    await house.go(120, [0, 1])
    assert house.most_in_a_minute() <= 60
    await house.aclose()


async def test_who_was_quiet_has_its_part_a_minute_later() -> None:
    house = House(SERVER, 2)
    await house.go(10, [0, 1])
    await house.go(70, [])
    for one in house.reach:
        one.is_there = False
    lost = house.disk.now
    await house.go(AWAY_SECONDS + shared_window() + 5, [0, 1])
    assert house.since(lost) > 0
    await house.go(60, [0, 1])
    assert house.since(lost + AWAY_SECONDS + shared_window()) >= 50
    assert house.most_in_a_minute() <= 60
    await house.aclose()


async def test_one_that_is_cut_off_and_the_others_stay_within_the_limit_together() -> None:
    house = House(SERVER, 3)
    await house.go(70, [0, 1, 2])
    house.reach[0].is_there = False
    lost = house.disk.now
    await house.go(180, [0, 1, 2])
    assert house.since(lost + 120, 0) >= 15, "it uses its part"
    assert house.since(lost + 120, 1) >= 10, "the others have theirs"
    house.reach[0].is_there = True
    await house.go(130, [0, 1, 2])
    assert house.most_in_a_minute() <= 60
    await house.aclose()


async def test_after_its_lease_a_part_is_used_no_more() -> None:
    house = House(SERVER, 2)
    await house.go(70, [0, 1])
    house.reach[0].is_there = False
    lost = house.disk.now
    await house.go(LEASE + 10, [0], step=2.0)
    assert house.since(lost + 0.9 * LEASE + 1, 0) == 0
    await house.aclose()


@pytest.mark.parametrize("seed", range(12))
async def test_whoever_is_cut_off_whenever_the_limit_holds(seed: int) -> None:
    chance = Random(seed)
    house = House(replace(SERVER, messages_per_minute=chance.choice([2, 7, 60])), chance.choice([2, 3]))
    everybody = range(house.number)
    for _ in range(12):
        for one in house.reach:
            one.is_there = chance.random() < 0.6
        if chance.random() < 0.3:
            for one in house.reach:
                one.is_there = chance.random() < 0.1
        senders = [number for number in everybody if chance.random() < 0.7]
        await house.go(chance.choice([3, 12, 25, 80]), senders, step=chance.choice([0.5, 1.0]))
    assert house.most_in_a_minute() <= house.server.messages_per_minute
    for one in house.reach:
        one.is_there = True
    await house.go(70, everybody)
    assert house.most_in_a_minute() <= house.server.messages_per_minute
    await house.aclose()


async def test_who_is_alone_goes_on_at_once_with_all() -> None:
    house = House(SERVER, 1, others=OneMachine())
    await house.go(70, [0])
    house.reach[0].is_there = False
    lost = house.disk.now
    await house.go(90, [0])
    assert house.since(lost, 0) >= 75
    house.reach[0].is_there = True
    await house.go(70, [0])
    assert house.most_in_a_minute() <= 60
    await house.aclose()


async def test_the_days_recipients_go_on_as_far_as_what_was_taken_ahead() -> None:
    house = House(replace(SERVER, messages_per_minute=0, recipients_per_day=1000), 1)
    assert await house.send(0, 3) == 3
    house.reach[0].is_there = False
    house.disk.now += 60
    await house.tidy(0)
    assert await house.send(0, 7) == 7
    with pytest.raises(LedgerError):
        await house.send(0, 1)
    house.reach[0].is_there = True
    assert await house.send(0, 1) == 1
    await house.aclose()
    assert sum(house.disk.rows.values()) == 11 + 3, "what a failed write was to give back is not given back"


async def test_a_permit_that_was_not_used_while_the_store_was_away_is_the_next_ones() -> None:
    house = House(replace(SERVER, messages_per_minute=1), 1)
    await house.go(2, [0])
    await house.go(70, [])
    house.reach[0].is_there = False
    await house.go(AWAY_SECONDS + shared_window() + 1, [])
    limiter = house.limiters[0]
    unused = await limiter.permit(house.server, JANE, "jane", within=0.001)
    if unused is None:  # the part of who was quiet counts from the first question on
        await house.go(shared_window() + 1, [])
        unused = await limiter.permit(house.server, JANE, "jane", within=0.001)
    assert unused is not None
    assert await limiter.permit(house.server, JANE, "jane", within=0.001) is None
    unused.end()
    async with asyncio.timeout(10):
        again = await limiter.permit(house.server, JANE, "jane", within=1.0)
    assert again is not None
    await again.begin()
    again.end(1)
    await house.aclose()
