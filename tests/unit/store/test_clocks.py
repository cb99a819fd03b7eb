"""The clock that does not jump, and what is moved where the wall clock does: over kills, restarts and reboots."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.store.db.clocks import ClockWatch, SteadyClock
from relay.store.db.database import Database, open_database
from relay.store.queue.messages import HoldRow, NewMessage
from relay.store.queue.queue import Queue
from tests.unit.store.store_kit import CONTENT, new_message

START = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
LONGEST = 4 * 3600 * 1.1
HOUR, DAY = 3600.0, 86400.0


@dataclass
class Machine:
    """A machine with its two clocks, and the name of its start."""

    database: Database
    wall: float = START.timestamp()
    timer: float = 1000.0
    boot: str = "first"
    watch: ClockWatch = field(init=False)

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.timer += seconds

    def reboot(self, seconds: float, name: str) -> None:
        """It is off for so long, as its clock has it."""
        self.wall += seconds
        self.timer, self.boot = 5.0, name

    async def start(self) -> float:
        steady = SteadyClock(lambda: self.wall, lambda: self.timer)
        self.watch = ClockWatch(self.database, steady, lambda: self.boot)
        moved = await self.watch.resume(LONGEST)
        self.queue = Queue(self.database, f"run {self.timer}", clock=self.now, steady=steady)
        return moved

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def steady(self) -> float:
        """Seconds since the beginning, by the steady clock."""
        return round(self.watch.steady.now().timestamp() - START.timestamp(), 3)

    async def due_in(self, id_: str = "one") -> float:
        message = await self.queue.message(id_)
        assert message is not None
        assert message.next_attempt is not None
        return round((message.next_attempt - self.now()).total_seconds(), 3)

    async def waited(self, id_: str = "one") -> float:
        message = await self.queue.message(id_)
        assert message is not None
        age = (self.now() - message.created).total_seconds()
        return round(age - (self.queue.ahead() - message.clock_ahead) - message.held_seconds, 3)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    tmp_path.chmod(0o700)
    database = await open_database(tmp_path / "relay.db")
    machine = Machine(database)
    assert await machine.start() == 0.0
    yield machine
    await machine.queue.aclose()
    await database.close()


async def put(machine: Machine, id_: str, due_in: float = 60.0) -> None:
    message = new_message(
        id_,
        created=machine.now(),
        next_attempt=machine.now() + timedelta(seconds=due_in),
        clock_ahead=machine.queue.came_ahead(),
    )
    await machine.queue.add(NewMessage(message=message, content=CONTENT))


@pytest.mark.parametrize("jump", [-2 * HOUR, 5 * DAY, -26 * 365 * DAY])
async def test_what_waits_is_due_as_before_where_the_clock_is_set_while_it_runs(machine: Machine, jump: float) -> None:
    await put(machine, "one")
    machine.pass_(10)
    assert await machine.watch.look(LONGEST) == 0.0
    machine.wall += jump
    assert await machine.watch.look(LONGEST) == jump
    assert await machine.watch.look(LONGEST) == 0.0
    assert (await machine.due_in(), await machine.waited(), machine.steady()) == (50, 10, 10)
    await put(machine, "two")
    machine.pass_(5)
    machine.wall -= jump
    assert await machine.watch.look(LONGEST) == -jump
    assert (await machine.due_in("two"), await machine.waited("two"), await machine.waited()) == (55, 5, 15)


@pytest.mark.parametrize("jump", [-2 * HOUR, 5 * DAY])
async def test_and_where_it_is_set_while_no_relay_runs(machine: Machine, jump: float) -> None:
    await put(machine, "one")
    machine.pass_(20)
    machine.wall += jump
    assert await machine.start() == pytest.approx(jump)
    assert (await machine.due_in(), await machine.waited(), machine.steady()) == (40, 20, 20)
    assert await machine.start() == 0.0


async def test_nothing_is_deleted_for_its_age_within_a_day_of_a_step(machine: Machine) -> None:
    def is_settled() -> bool:
        return machine.watch.is_settled

    assert is_settled()
    machine.wall += 5 * DAY
    await machine.watch.look(LONGEST)
    assert not is_settled()
    machine.pass_(DAY - 1)
    await machine.start()
    assert not is_settled()
    machine.pass_(1)
    assert is_settled()


async def test_of_several_processes_one_moves_what_waits(machine: Machine) -> None:
    await put(machine, "one")
    first = machine.watch
    await machine.start()
    machine.wall += DAY
    assert await first.look(LONGEST) == DAY
    assert await machine.watch.look(LONGEST) == DAY
    assert await machine.due_in() == 60


async def test_a_clock_that_goes_back_over_a_reboot_delays_nothing(machine: Machine) -> None:
    await put(machine, "one")
    machine.reboot(-26 * 365 * DAY, "second")  # no battery: it is 2000 again
    await machine.start()
    assert (await machine.due_in(), await machine.waited()) == (60, 0)
    machine.pass_(30)
    machine.wall += 26 * 365 * DAY  # the time comes by the network
    await machine.watch.look(LONGEST)
    assert (await machine.due_in(), await machine.waited()) == (30, 30)


async def test_a_reboot_counts_as_waiting_for_as_long_as_a_pause_at_most(machine: Machine) -> None:
    await put(machine, "one")
    machine.reboot(600, "second")
    await machine.start()
    assert (await machine.due_in(), await machine.waited(), machine.steady()) == (-540, 600, 600)
    machine.reboot(5 * DAY, "third")
    await machine.start()
    assert await machine.waited() == 600 + LONGEST
    assert machine.steady() == 600 + 5 * DAY  # a day's limit is free again


async def test_nothing_waits_longer_than_the_longest_pause(machine: Machine) -> None:
    await put(machine, "one", due_in=DAY)
    await put(machine, "two", due_in=HOUR)
    assert await machine.queue.pull_in(LONGEST) == 1
    assert (await machine.due_in(), await machine.due_in("two")) == (0, HOUR)


async def test_holds_end_when_they_would_have(machine: Machine) -> None:
    now = machine.now()
    hold = HoldRow(
        server="acmejets",
        username="jane",
        address="",
        meaning="quota",
        reason="full",
        since=now,
        until=now + timedelta(hours=1),
        probes=0,
        next_probe=None,
        secret_version="",
    )
    await machine.queue.put_hold(hold)
    machine.wall += DAY
    await machine.watch.look(LONGEST)
    (moved,) = await machine.queue.holds()
    assert moved.until == now + timedelta(days=1, hours=1)
    assert moved.since == now + timedelta(days=1)
