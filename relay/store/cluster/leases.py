"""Leases in the store: what one process of all does at a time (leading, renewing tokens), and for how long.

Who leads has that by a lease, whose end is by the clock of the database, so that no machine's own clock counts, and
with a fence: a number that is higher with each new owner. Who was stopped for longer than the lease, and does not know
yet, writes nothing by it.

Where a database was away for longer than a lease, the leases of all have expired when it is back. Nobody is dead for
that: each waits for as long as a lease lasts, in which the others renew theirs (`LeaseContinuity`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, insert, or_, select, update

from relay.limits.constants import SHARE_LEASE_SECONDS
from relay.store.db.backend import Moment
from relay.store.db.database import Database
from relay.store.db.errors import StoreError
from relay.store.db.tables import duties
from relay.store.queue.claims import NOBODY, Living, is_dead

LEAD = "lead"
"""The lease of what one relay of all does (`relay.cluster.leader_election`)."""


class NamedLease(NamedTuple):
    """A lease that somebody has, or had."""

    name: str
    owner: str
    fence: int


class LeaseLost(StoreError):
    """A lease went to somebody else meanwhile; nothing was written."""


class Lead(Protocol):
    """Whether we do what one process of all does (`relay.cluster.leader_election`)."""

    @property
    def is_ours(self) -> bool:
        """Whether it is ours at this moment. Cheap: to be asked before each piece of such work."""

    @property
    def lease(self) -> NamedLease | None:
        """By what the work is written; None where nobody else could do it."""


@dataclass(frozen=True, slots=True)
class Unrivalled:
    """The lead where no other machine can use the store: one process has it for as long as the relay runs."""

    is_ours: bool = True
    lease: NamedLease | None = None


class LeaseTable:
    """The table `duties`, one transaction a method. Raises StoreError.

    `owner` names this process among all, and `living` says of whom it knows whether they are alive. Duties have a
    connection of their own: who has much to write keeps its own all the same.
    """

    def __init__(
        self,
        database: Database,
        owner: str,
        living: Living = NOBODY,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._owner = owner
        self._living = living
        self._clock = clock

    async def take(self, name: str, seconds: float) -> NamedLease | None:
        """Take a lease that is nobody's, ours, or that of who cannot be alive; None where another has it."""
        now, until = self._after(0), self._after(seconds)
        fence = await self._database.write_apart(lambda c: self._take(c, name, now, until))
        return NamedLease(name, self._owner, fence) if fence else None

    async def renew(self, lease: NamedLease, seconds: float) -> bool:
        """Have a lease for longer, though its time may be over; False where another has it."""
        until = self._after(seconds)
        return await self._database.write_apart(lambda c: bool(_change(c, lease, until)))

    async def give_up(self, lease: NamedLease) -> None:
        """Let others have a lease at once, if it is ours still."""
        now = self._after(0)
        await self._database.write_apart(lambda c: _change(c, lease, now))

    def _take(self, connection: Connection, name: str, now: Moment, until: Moment) -> int:
        """Return the new fence; 0 where another has the lease."""
        free = [duties.c.until <= now, duties.c.owner == self._owner]
        if self._living.run:
            free.append(is_dead(duties.c.owner, self._living))
        taken = update(duties).where(duties.c.name == name, or_(*free)).returning(duties.c.fence)
        values = {"owner": self._owner, "until": until, "fence": duties.c.fence + 1}
        fence = connection.execute(taken.values(values)).scalar_one_or_none()
        if fence is not None:
            return int(fence)
        if connection.execute(select(duties.c.name).where(duties.c.name == name)).first() is not None:
            return 0
        connection.execute(insert(duties).values(name=name, owner=self._owner, until=until, fence=1))
        return 1

    def _after(self, seconds: float) -> Moment:
        return self._database.after(timedelta(seconds=seconds), self._clock())


def require(connection: Connection, lease: NamedLease | None) -> None:
    """Raise LeaseLost where another has a lease. Nobody takes it from now until this transaction ends."""
    if lease is None:
        return
    ours = select(duties.c.fence).where(duties.c.name == lease.name).with_for_update(read=True)
    if connection.execute(ours).scalar_one_or_none() != lease.fence:
        raise LeaseLost(f"the lease '{lease.name}' is another process's by now; what was to be written is left to it")


def _change(connection: Connection, lease: NamedLease, until: Moment) -> int:
    same = (duties.c.name == lease.name, duties.c.owner == lease.owner, duties.c.fence == lease.fence)
    return connection.execute(update(duties).where(*same).values(until=until)).rowcount


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseDurations:
    """Seconds, each renewed long before they are over.

    `messages`: a message under way. `shares`: the connections of accounts. `nodes`: a node that says nothing for so
    long is silent, and another may have its name.
    """

    messages: float
    shares: float = SHARE_LEASE_SECONDS
    nodes: float = 20.0


# On one machine a restart knows who is dead, and takes over at once; a lease is the net below that.
ALONE = LeaseDurations(messages=900.0)
# From other machines messages are taken over by their leases alone.
TOGETHER = LeaseDurations(messages=60.0)


def lease_durations(is_shared: bool) -> LeaseDurations:
    """Return the durations of a store that several machines may use, or one."""
    return TOGETHER if is_shared else ALONE


# Of a lease. Others renew theirs each third of it, so that in a pause of that length nobody's can have expired.
_LONGEST_PAUSE = 0.6


class LeaseContinuity:
    """One for a process. `note` is called whenever the leases, which last for `seconds`, were renewed."""

    def __init__(self, seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._timer = timer
        self._since = self._last = timer()
        self._has_begun = False

    def note(self) -> None:
        """The store has heard of us now."""
        now = self._timer()
        if not self._has_begun or self._is_broken(now):
            self._since, self._has_begun = now, True
        self._last = now

    @property
    def is_complete(self) -> bool:
        """Whether it has for `seconds`, up to now."""
        now = self._timer()
        return self._has_begun and not self._is_broken(now) and self._last - self._since >= self._seconds

    def _is_broken(self, now: float) -> bool:
        return now - self._last > _LONGEST_PAUSE * self._seconds
