"""Limits over everything that ends a process or cuts it off: no minute and no day holds more than the limit.

One process that is alone, or three that share: each is killed, stopped, refused by the store and cut off from it at any
moment. What a provider counts is counted here.
"""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.directory.model import Account, Server
from relay.limits.constants import DAY, PIECE, TIDY_SECONDS
from relay.limits.ledger import LedgerError
from tests.unit.limits.limits_kit import (
    JANE,
    JOHN,
    LEDGERS,
    SERVER,
    Disk,
    Process,
    most_in_a_day,
    most_in_a_minute,
    some_turns,
)

pytestmark = pytest.mark.slow
_MOST_WAITING = 40


@dataclass
class Mail:
    """A message that the provider saw begin, and for how many recipients it counts it."""

    at: float
    recipients: int


@dataclass
class World:
    """Messages that are sent by processes, each followed by its next run, and what the provider counts."""

    server: Server
    kind: str
    number: int
    dice: random.Random
    steps: tuple[float, ...]
    accounts: tuple[Account, ...] = (JANE,)
    within: float = 0.0005
    gives_up: float = 0.1  # who has a permit and sends nothing
    mails: list[Mail] = field(default_factory=list)
    starts: int = 0

    def __post_init__(self) -> None:
        self.disk = Disk(dice=self.dice)
        self.processes = [Process(self.disk, self.kind, str(number)) for number in range(self.number)]
        self.tidied = [0.0] * self.number

    async def run(self, seconds: float, *, kill: float = 0.04) -> None:
        """Let so much time pass; at each step something happens to a process with that probability."""
        end = self.disk.now + seconds
        while self.disk.now < end:
            number = self.dice.randrange(self.number)
            for _ in range(self.dice.randrange(4)):
                self._begin(self.processes[number])
            await some_turns(self.dice, 6)
            await self._let_happen(number, kill)
            await self._tidy()
            self.disk.now += self.dice.choice(self.steps)
        for process in self.processes:
            await process.kill()

    def _begin(self, process: Process) -> None:
        if len(process.tasks) >= _MOST_WAITING:
            return
        task = asyncio.create_task(self._message(process, self.dice.choice(self.accounts)))
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)

    async def _let_happen(self, number: int, kill: float) -> None:
        process, fate = self.processes[number], self.dice.random()
        if fate < kill:
            self.processes[number] = await process.kill()
            self.starts += 1
        elif fate < kill * 1.25:
            process.reach.is_there = True
            await process.stop()
            self.processes[number] = await process.kill()
            self.starts += 1
        elif fate < kill * 1.5:
            self.disk.refusals.append(self.dice.choice(["before", "behind"]))
        elif fate < kill * 1.75:
            process.reach.is_there = not process.reach.is_there
        elif fate > 1 - kill / 4:
            process.shown_ahead = self.dice.choice([-1e6, 0.0, 1e6])
        if not process.reach.is_there and self.dice.random() < 0.01:
            process.reach.is_there = True

    async def _tidy(self) -> None:
        """Do what each process does of itself, as often as it does."""
        for number, process in enumerate(self.processes):
            if self.disk.now - self.tidied[number] >= TIDY_SECONDS - 1e-6:
                self.tidied[number] = self.disk.now
                with suppress(LedgerError):  # it waits for the next time
                    await process.limiter.tidy()

    async def _message(self, process: Process, account: Account) -> None:
        used = 0
        try:
            permit = await process.limiter.permit(self.server, account, None, within=self.within)
        except LedgerError:
            return
        if permit is None:
            return
        try:
            charged = await permit.charge(self.dice.randint(1, 5))
            if charged and self.dice.random() >= self.gives_up:
                await some_turns(self.dice, 5)
                await permit.begin()
                mail = Mail(self.disk.now, charged)
                self.mails.append(mail)
                await some_turns(self.dice, 5)  # where the process is killed here, all of them got it
                used = mail.recipients = self.dice.randint(0, charged) if self.dice.random() < 0.3 else charged
        except LedgerError:
            pass
        finally:
            permit.end(used)

    def most_in_a_minute(self) -> int:
        return most_in_a_minute(sorted(mail.at for mail in self.mails))

    def most_in_a_day(self) -> int:
        return most_in_a_day([(mail.at, mail.recipients) for mail in self.mails])


PROCESSES = pytest.mark.parametrize(("kind", "number"), [("local", 1), ("shared", 1), ("shared", 3)])


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.limits.limiter._LOOK_SECONDS", 0.0005)


@PROCESSES
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**32), st.booleans())
def test_no_minute_holds_too_many_whatever_happens(
    kind: str, number: int, limit: int, seed: int, is_shared: bool
) -> None:
    server = replace(SERVER, messages_per_minute=limit, shared_limits=is_shared)
    steps = (0.01, 0.1, 0.3, 3.0) if kind == "local" else (0.01, 0.1, 0.3, 0.5)
    world = World(server, kind, number, random.Random(seed), steps, (JANE, JOHN) if is_shared else (JANE,))
    asyncio.run(world.run(200))
    assert world.starts
    assert world.most_in_a_minute() <= limit


@PROCESSES
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 500), st.integers(0, 2**32), st.booleans())
def test_no_day_holds_too_many_whatever_happens(kind: str, number: int, limit: int, seed: int, is_shared: bool) -> None:
    server = replace(SERVER, recipients_per_day=limit, shared_limits=is_shared)
    accounts = (JANE, JOHN) if is_shared else (JANE,)
    world = World(server, kind, number, random.Random(seed), (0.01, 20.0, 200.0, 900.0), accounts)
    asyncio.run(world.run(2.5 * DAY))
    assert world.starts
    assert world.most_in_a_day() <= limit


@pytest.mark.parametrize("kind", LEDGERS)
@pytest.mark.parametrize("limit", [60, 600])
async def test_with_few_kills_nearly_all_that_is_allowed_is_used(kind: str, limit: int) -> None:
    """A kill in two minutes, or in a hundred steps of a day, costs less than a twentieth while mail waits."""
    server = replace(SERVER, messages_per_minute=limit)
    # A step is a twentieth of the time between two messages: a wait is over with the next step.
    world = World(server, kind, 1, random.Random(1), (3 / limit,), within=inf, gives_up=0)
    for _ in range(3):
        await world.run(120, kill=0)
        world.processes = [await world.processes[0].kill()]
    margin = 60 / 61 if kind == "local" else 60 / 62
    assert len(world.mails) >= 0.95 * margin * limit * 6
    assert world.most_in_a_minute() <= limit
    server = replace(SERVER, recipients_per_day=limit * 10)
    world = World(server, kind, 1, random.Random(1), (60.0,))
    for _ in range(4):
        await world.run(DAY / 4 - PIECE, kill=0)
        world.processes = [await world.processes[0].kill()]
    assert sum(mail.recipients for mail in world.mails) >= min(0.95 * limit * 10, 1000)
