"""Processes with limiters of their own over one ledger in memory, one clock, and what a provider counts."""

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self, TypeVar

from relay.directory.model import Account, Server
from relay.limits.constants import DAY, MINUTE
from relay.limits.ledger import Kind, LedgerError, Purpose, Spent
from relay.limits.limiter import Limiter
from relay.limits.local_ledger import LocalLedger
from relay.limits.rate import BeginRule, Begun
from relay.limits.rows import Row, Taken, TakeRule
from relay.limits.shared_ledger import SharedLedger
from relay.limits.shares import Grant, Others, Rule, Share

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
SERVER = Server(name="acmejets", host="h")
JANE, JOHN = Account("acmejets", "jane"), Account("acmejets", "john")
LEASE = 600.0
T = TypeVar("T", bound=Taken)
R = TypeVar("R")
# A ledger of which only one process has all, and one that several share.
LEDGERS = ("local", "shared")


@dataclass
class Disk:
    """What is in the store, as a kill leaves it, and the one clock. A write takes some turns of the loop."""

    now: float = NOON.timestamp() + 0.25
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    rows: dict[tuple[str, str, str, float], int] = field(default_factory=dict)
    parts: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    writes: int = 0
    refusals: list[str] = field(default_factory=list)  # of the next writes: "before" or "behind" the commit

    def wall(self) -> float:
        return self.now

    def spent(self) -> list[Spent]:
        return [
            Spent(server=server, username=name, kind=kind, since=datetime.fromtimestamp(since, UTC), count=count)
            for (server, name, kind, since), count in self.rows.items()
        ]

    def total(self, kind: Kind) -> int:
        return sum(count for (_, _, of, _), count in self.rows.items() if of == kind)

    def seen(self, purpose: Purpose) -> list[Row]:
        found = [
            (datetime.fromtimestamp(since, UTC), count)
            for (server, name, kind, since), count in self.rows.items()
            if (server, kind) == (purpose.server, purpose.kind)
            and (purpose.is_shared or name == purpose.username)
            and since > purpose.after.timestamp()
            and count > 0
        ]
        return sorted(found)

    def add(self, server: str, username: str, kind: str, since: datetime, count: int) -> None:
        key = (server, username, kind, since.timestamp())
        self.rows[key] = self.rows.get(key, 0) + count

    async def write(self, job: Callable[[], R]) -> R:
        self.writes += 1
        refusal = self.refusals.pop(0) if self.refusals else ""
        await some_turns(self.dice, 3)
        if refusal == "before":
            raise LedgerError("the disk is full")
        result = job()
        await some_turns(self.dice, 3)
        if refusal == "behind":
            raise LedgerError("the answer was lost")
        return result


@dataclass
class Reach:
    """The store as one process has it. `is_there` says whether it is reached."""

    disk: Disk
    owner: str
    is_there: bool = True
    is_dead: bool = False
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    share_seconds: float = LEASE

    async def take(self, purpose: Purpose, rule: TakeRule[T]) -> T:
        def job() -> T:
            taken = rule(self.disk.seen(purpose), datetime.fromtimestamp(self.disk.now, UTC))
            if taken.count:
                self.disk.add(purpose.server, purpose.username, purpose.kind, taken.since, taken.count)
            return taken

        return await self._run(job)

    async def begin(self, purpose: Purpose, scope: str, quiet_seconds: float, rule: BeginRule) -> Begun:
        quiet = self.disk.now + LEASE - quiet_seconds
        kept_back = sum(
            held
            for (other, owner), (held, until) in self.disk.parts.items()
            if other == scope and owner != self.owner and until < quiet
        )
        return await self.take(purpose, partial(rule, kept_back=kept_back))

    async def spent_for(self, purpose: Purpose) -> list[Row]:
        await asyncio.sleep(0)
        self._reach()
        return self.disk.seen(purpose)

    async def spend(self, spent: Sequence[Spent], forget: Mapping[str, datetime]) -> None:
        def job() -> None:
            for one in spent:
                self.disk.add(one.server, one.username, one.kind, one.since, one.count)

        if spent:
            await self._run(job)

    async def adjust_outage(self, rules: Mapping[str, Rule]) -> dict[str, Grant]:
        def job() -> dict[str, Grant]:
            grants = {}
            for scope, rule in rules.items():
                others = [
                    Share(owner=owner, held=held, wanted=held)
                    for (other, owner), (held, _) in self.disk.parts.items()
                    if other == scope and owner != self.owner
                ]
                grants[scope] = rule(others, datetime.fromtimestamp(self.disk.now, UTC))
                self.disk.parts[scope, self.owner] = grants[scope].held, self.disk.now + LEASE
            return grants

        return await self._run(job)

    async def _run(self, job: Callable[[], R]) -> R:
        """Commit it even where its caller is cancelled, unless the process is killed before."""
        await asyncio.sleep(0)
        self._reach()
        task = asyncio.create_task(self.disk.write(job))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return await asyncio.shield(task)

    def _reach(self) -> None:
        if not self.is_there or self.is_dead:
            raise LedgerError("the store cannot be reached")


class Process:
    """One run of a process, from its start to its end, over a ledger of this kind."""

    def __init__(self, disk: Disk, kind: str, owner: str = "0", others: Others | None = None) -> None:
        self.disk, self.kind, self.owner = disk, kind, owner
        self.reach = Reach(disk, owner)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.shown_ahead = 0.0  # by how much somebody has set the clock that people read
        self.ledger: LocalLedger | SharedLedger = (
            LocalLedger(self.reach, disk.spent(), wall=disk.wall)
            if kind == "local"
            else SharedLedger(self.reach, others, wall=disk.wall)
        )
        self.limiter = Limiter(self.ledger, wall=disk.wall, shown=lambda: disk.now + self.shown_ahead)

    async def send(self, server: Server, account: Account = JANE, recipients: int = 1, within: float = 0.5) -> bool:
        """Send one message that may go now; False where none may."""
        permit = await self.limiter.permit(server, account, "jane", recipients=recipients, within=within)
        if permit is None:
            return False
        charged = await permit.charge(recipients)
        await permit.begin()
        permit.end(charged)
        return charged == recipients

    async def room(self, server: Server, account: Account = JANE) -> float:
        """Return how many recipients are left, after a look at what others have used."""
        self.limiter.room(server, account)
        await self.limiter.tidy()
        return self.limiter.room(server, account)

    async def stop(self) -> None:
        self.limiter.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.limiter.aclose()

    async def kill(self) -> Self:
        """End between two steps of any task: nothing that it does from here on counts. Return the next run."""
        self.reach.is_dead = True
        tasks = self.tasks | self.reach.tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.limiter.close()
        return type(self)(self.disk, self.kind, self.owner)


async def some_turns(dice: random.Random, most: int) -> None:
    for _ in range(dice.randrange(most)):
        await asyncio.sleep(0)


def most_in_a_minute(moments: Sequence[float]) -> int:
    """The most that any minute holds, wherever it begins."""
    return max((bisect_left(moments, start + MINUTE) - index for index, start in enumerate(moments)), default=0)


def most_in_a_day(sent: Sequence[tuple[float, int]]) -> int:
    """The most recipients that any day holds, wherever it ends."""
    return max((sum(count for at, count in sent if end - DAY < at <= end) for end, _ in sent), default=0)
