"""What one process of all may have at a time, by leases that end by themselves: the lead, the renewal of a token.

A lease has an end by the clock of the database, so that no machine's own clock counts, and a fence: a number that is
higher with each new owner. Who was stopped for longer than its lease, and does not know yet, writes nothing under it.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, insert, or_, select, update

from relay.store.backend import Moment
from relay.store.database import Database
from relay.store.errors import StoreError
from relay.store.tables import leases


class Held(NamedTuple):
    """A lease that somebody has, or had."""

    name: str
    owner: str
    fence: int


class LeaseLost(StoreError):
    """A lease went to somebody else meanwhile; nothing was written."""


class Lead(Protocol):
    """Whether we do what one process of all does (`relay.workers.lead`)."""

    @property
    def is_ours(self) -> bool:
        """Whether it is ours at this moment. Cheap: to be asked before each piece of such work."""

    @property
    def lease(self) -> Held | None:
        """What the work is written under; None where nobody else could have it."""


class Unrivalled:
    """The lead where there is no other process."""

    is_ours = True
    lease = None


class LeaseTable:
    """The table `leases`, one transaction a method. `owner` names this process among all. Raises StoreError."""

    def __init__(
        self, database: Database, owner: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._owner = owner
        self._clock = clock

    async def take(self, name: str, seconds: float, *, place: str = "") -> Held | None:
        """Take a lease that is nobody's or ours; None where another has it.

        Of owners that begin with `place`, if that is given, none but us can be alive.
        """
        now, until = self._after(0), self._after(seconds)
        fence = await self._database.write_beside(lambda c: _take(c, name, self._owner, place, now, until))
        return Held(name, self._owner, fence) if fence else None

    async def renew(self, held: Held, seconds: float) -> bool:
        """Have a lease for longer, though it may have ended; False where another has taken it."""
        until = self._after(seconds)
        return await self._database.write_beside(lambda c: bool(_change(c, held, until)))

    async def give_up(self, held: Held) -> None:
        """Let others have a lease at once, if it is ours still."""
        now = self._after(0)
        await self._database.write_beside(lambda c: _change(c, held, now))

    def _after(self, seconds: float) -> Moment:
        return self._database.after(timedelta(seconds=seconds), self._clock())


def require(connection: Connection, held: Held | None) -> None:
    """Raise LeaseLost where another has a lease. None takes it from now until this transaction ends."""
    if held is None:
        return
    ours = select(leases.c.fence).where(leases.c.name == held.name).with_for_update(read=True)
    if connection.execute(ours).scalar_one_or_none() != held.fence:
        raise LeaseLost(f"the lease '{held.name}' is another process's by now; what was to be written is left to it")


def _take(connection: Connection, name: str, owner: str, place: str, now: Moment, until: Moment) -> int:
    """Return the new fence; 0 where another has the lease."""
    free = [leases.c.until <= now, leases.c.owner == owner]
    if place:
        free.append(leases.c.owner.startswith(place, autoescape=True))
    taken = update(leases).where(leases.c.name == name, or_(*free))
    fence = connection.execute(
        taken.values(owner=owner, until=until, fence=leases.c.fence + 1).returning(leases.c.fence)
    ).scalar_one_or_none()
    if fence is not None:
        return int(fence)
    if connection.execute(select(leases.c.name).where(leases.c.name == name)).first() is not None:
        return 0
    connection.execute(insert(leases).values(name=name, owner=owner, until=until, fence=1))
    return 1


def _change(connection: Connection, held: Held, until: Moment) -> int:
    same = (leases.c.name == held.name, leases.c.owner == held.owner, leases.c.fence == held.fence)
    return connection.execute(update(leases).where(*same).values(until=until)).rowcount
