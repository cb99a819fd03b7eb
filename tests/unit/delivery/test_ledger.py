"""Limits over a kill: whatever moment it comes at, no minute and no day holds more than the limit."""

import asyncio
import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery.ledger import Kind, LocalLedger
from relay.delivery.pacing import Pacing
from relay.directory.model import Account, Server
from relay.limits.constants import DAY, PIECE
from relay.store.cluster.day_quotas import Spent
from relay.store.db.errors import StoreError
from tests.unit.delivery.delivery_kit import most_in_a_minute

pytestmark = pytest.mark.slow

SERVER = Server(name="acmejets", host="h")
JANE, JOHN = Account("acmejets", "jane"), Account("acmejets", "john")
START = 1_800_000_000.25


@dataclass
class Disk:
    """The rows, as a kill leaves them. A write takes some turns of the loop, before and behind its commit."""

    dice: random.Random = field(default_factory=lambda: random.Random(0))
    rows: dict[tuple[str, str, float], int] = field(default_factory=dict)
    writes: int = 0
    refusals: list[str] = field(default_factory=list)  # of the next writes: "before" or "behind" the commit

    def spent(self) -> list[Spent]:
        rows = self.rows.items()
        return [replace(_spent(since, count), username=username, kind=kind) for (username, kind, since), count in rows]

    def total(self, kind: Kind) -> int:
        return sum(count for (_, of, _), count in self.rows.items() if of == kind)

    async def write(self, spent: list[Spent]) -> None:
        self.writes += 1
        refusal = self.refusals.pop(0) if self.refusals else ""
        await self._wait()
        if refusal == "before":
            raise StoreError("the disk is full")
        for one in spent:
            key = (one.username, one.kind, one.since.timestamp())
            self.rows[key] = self.rows.get(key, 0) + one.count
        await self._wait()
        if refusal == "behind":
            raise StoreError("the answer was lost")

    async def _wait(self) -> None:
        for _ in range(self.dice.randrange(3)):
            await asyncio.sleep(0)


def _spent(since: float, count: int) -> Spent:
    return Spent(server="acmejets", username="", kind="", since=datetime.fromtimestamp(since, UTC), count=count)


@dataclass
class Life:
    """One run of a process, from its start to its kill. `clock` is the time for all of them."""

    disk: Disk
    clock: list[float]
    is_dead: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ledger = LocalLedger(self, wall=self.now)
        self.pacing = Pacing(self.ledger, self.disk.spent(), wall=self.now, timer=self.now)

    def now(self) -> float:
        return self.clock[0]

    async def spend(self, spent: list[Spent], forget: dict[str, datetime]) -> None:
        if not self.is_dead:
            writing = asyncio.create_task(self.disk.write(spent))
            self.tasks.add(writing)
            await asyncio.shield(writing)

    async def kill(self) -> None:
        """It ends between two steps of any of its tasks: nothing that it does from here on counts."""
        self.is_dead = True
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class Mail:
    """A message that the provider saw begin, and for how many recipients it counts it."""

    at: float
    account: Account
    recipients: int


@dataclass
class World:
    """Messages that are sent by one process after the other, and what the provider counts."""

    server: Server
    dice: random.Random
    steps: tuple[float, ...]
    accounts: tuple[Account, ...] = (JANE,)
    clock: list[float] = field(default_factory=lambda: [START])
    mails: list[Mail] = field(default_factory=list)
    starts: int = 0

    def __post_init__(self) -> None:
        self.disk = Disk(self.dice)
        self.life = Life(self.disk, self.clock)

    async def run(self, seconds: float, *, kill: float = 0.04) -> None:
        """Let so much time pass; at each step the process is killed with that probability."""
        end = self.clock[0] + seconds
        while self.clock[0] < end:
            for _ in range(self.dice.randrange(4)):
                task = asyncio.create_task(self._message(self.life, self.dice.choice(self.accounts)))
                self.life.tasks.add(task)
                task.add_done_callback(self.life.tasks.discard)
            await some_turns(self.dice, 6)
            fate = self.dice.random()
            if fate < kill:
                await self.life.kill()
                self._start()
            elif fate < kill * 1.25:
                await self._stop()
                self._start()
            elif fate < kill * 1.5:
                self.disk.refusals.append(self.dice.choice(["before", "behind"]))
            elif fate > 0.95:
                await self.life.ledger.flush()
            self.clock[0] += self.dice.choice(self.steps)
        await self.life.kill()

    def _start(self) -> None:
        self.clock[0] += self.dice.choice([0.0, 0.5, *self.steps])
        self.life = Life(self.disk, self.clock)
        self.starts += 1

    async def _stop(self) -> None:
        self.life.pacing.close()
        await asyncio.gather(*self.life.tasks, return_exceptions=True)
        await self.life.ledger.aclose()

    async def _message(self, life: Life, account: Account) -> None:
        turn = await life.pacing.turn(self.server, account, None, within=0)
        if turn is None:
            return
        used = 0
        try:
            charged = await turn.charge(self.dice.randint(1, 5))
            if charged and self.dice.random() < 0.9:
                await some_turns(self.dice, 5)
                await turn.begin()
                mail = Mail(self.clock[0], account, charged)
                self.mails.append(mail)
                await some_turns(self.dice, 5)  # where the process is killed here, all of them got it
                used = mail.recipients = self.dice.randint(0, charged) if self.dice.random() < 0.3 else charged
        except StoreError:
            pass
        finally:
            turn.end(used)

    def most_in_a_minute(self) -> int:
        return most_in_a_minute([mail.at for mail in self.mails])

    def most_in_a_day(self) -> int:
        """The most recipients that any day holds, wherever it ends."""
        ends = [mail.at for mail in self.mails]
        return max((sum(one.recipients for one in self.mails if end - DAY < one.at <= end) for end in ends), default=0)


async def some_turns(dice: random.Random, most: int) -> None:
    for _ in range(dice.randrange(most)):
        await asyncio.sleep(0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**32), st.booleans())
def test_no_minute_holds_too_many_whenever_it_is_killed(limit: int, seed: int, is_shared: bool) -> None:
    server = replace(SERVER, messages_per_minute=limit, shared_limits=is_shared)
    world = World(server, random.Random(seed), (0.01, 0.1, 0.3, 3.0), (JANE, JOHN) if is_shared else (JANE,))
    asyncio.run(world.run(300))
    assert world.starts
    assert world.most_in_a_minute() <= limit


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 500), st.integers(0, 2**32), st.booleans())
def test_no_day_holds_too_many_whenever_it_is_killed(limit: int, seed: int, is_shared: bool) -> None:
    server = replace(SERVER, recipients_per_day=limit, shared_limits=is_shared)
    world = World(server, random.Random(seed), (0.01, 20.0, 200.0, 900.0), (JANE, JOHN) if is_shared else (JANE,))
    asyncio.run(world.run(2.5 * DAY))
    assert world.starts
    assert world.most_in_a_day() <= limit


@pytest.mark.parametrize("limit", [60, 600])
async def test_with_few_kills_nearly_all_that_is_allowed_is_used(limit: int) -> None:
    """One kill in ten minutes, or in a hundred steps of a day, costs less than a twentieth."""
    server = replace(SERVER, messages_per_minute=limit)
    world = World(server, random.Random(1), (0.05,))
    for _ in range(3):
        await world.run(300, kill=0)
        world.life = Life(world.disk, world.clock)
    assert len(world.mails) >= 0.95 * 0.95 * limit * 15  # the first factor is the pace's own
    assert world.most_in_a_minute() <= limit
    server = replace(SERVER, recipients_per_day=limit * 10)
    world = World(server, random.Random(1), (60.0,))
    for _ in range(4):
        await world.run(DAY / 4 - PIECE, kill=0)
        world.life = Life(world.disk, world.clock)
    assert sum(mail.recipients for mail in world.mails) >= min(0.95 * limit * 10, 1000)


async def one_message(life: Life, server: Server, recipients: int = 1) -> bool:
    turn = await life.pacing.turn(server, JANE, None, within=0)
    if turn is None:
        return False
    charged = await turn.charge(recipients)
    await turn.begin()
    turn.end(charged)
    return charged == recipients


async def test_what_is_used_is_on_disk_a_piece_at_a_time() -> None:
    life = Life(Disk(), [START])
    day = replace(SERVER, recipients_per_day=1000)
    assert await one_message(life, day)
    assert life.disk.total(Kind.RECIPIENT) == 10
    for _ in range(9):
        assert await one_message(life, day)
    assert (life.disk.writes, life.disk.total(Kind.RECIPIENT)) == (1, 10)
    assert await one_message(life, day, 50)
    assert (life.disk.writes, life.disk.total(Kind.RECIPIENT)) == (2, 60)
    minute = replace(SERVER, messages_per_minute=600)
    for _ in range(31):
        assert await one_message(life, minute)
    assert (life.disk.writes, life.disk.total(Kind.MESSAGE)) == (6, 40)


async def test_a_stop_in_order_gives_the_rest_back_and_a_kill_loses_it() -> None:
    server = replace(SERVER, recipients_per_day=1000, messages_per_minute=600)
    disk, clock = Disk(), [START]
    life = Life(disk, clock)
    assert await one_message(life, server, 3)
    killed = Life(disk, clock)
    assert killed.pacing.room(server, JANE) == 990
    await life.ledger.aclose()
    assert (disk.total(Kind.RECIPIENT), disk.total(Kind.MESSAGE)) == (3, 1)
    assert Life(disk, clock).pacing.room(server, JANE) == 997


async def test_an_account_without_limits_asks_nobody() -> None:
    life = Life(Disk(), [START])
    for _ in range(10):
        assert await one_message(life, SERVER)
    assert life.disk.writes == 0


async def test_many_at_once_share_a_write() -> None:
    life = Life(Disk(), [START])
    server = replace(SERVER, recipients_per_day=60)
    assert all(await asyncio.gather(*(one_message(life, server, 2) for _ in range(20))))
    assert life.disk.writes <= 2
    assert life.disk.total(Kind.RECIPIENT) == 40


@pytest.mark.parametrize("refusal", ["before", "behind"])
async def test_where_the_store_fails_nothing_leaves_and_nothing_is_forgotten(refusal: str) -> None:
    disk = Disk(refusals=[refusal])
    life = Life(disk, [START])
    server = replace(SERVER, recipients_per_day=1000)
    with pytest.raises(StoreError):
        await one_message(life, server, 5)
    assert life.pacing.room(server, JANE) == 1000
    assert await one_message(life, server, 5)
    assert disk.total(Kind.RECIPIENT) >= 10
    assert life.pacing.room(server, JANE) == 995


async def test_who_gives_up_while_it_waits_for_the_disk_uses_nothing() -> None:
    life = Life(Disk(random.Random(3)), [START])
    server = replace(SERVER, recipients_per_day=60)
    turn = await life.pacing.turn(server, JANE, None)
    assert turn is not None
    waiting = asyncio.create_task(turn.charge(7))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    turn.end()
    assert life.pacing.room(server, JANE) == 60
    assert await one_message(life, server, 7)
    assert life.disk.total(Kind.RECIPIENT) == 7
    assert life.disk.writes == 1  # what was taken for the one that left


async def test_recipients_count_in_the_piece_of_the_day_in_which_they_are_named() -> None:
    clock = [START]
    life = Life(Disk(), clock)
    server = replace(SERVER, recipients_per_day=10)
    turn = await life.pacing.turn(server, JANE, None)
    assert turn is not None
    assert await turn.charge(10) == 10
    clock[0] += PIECE  # it waits for a connection
    await turn.begin()
    turn.end(10)
    for world in (life, Life(life.disk, clock)):
        moment = world.pacing.next(server, JANE)
        assert moment is not None
        assert moment.timestamp() >= clock[0] + DAY
