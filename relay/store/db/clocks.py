"""The clocks by which the store counts: one of this machine that does not jump, and that of a database that is shared.

Nobody sets the time since the machine was started (CLOCK_BOOTTIME; it also counts while the machine sleeps). The
steady clock is that, and a number that stays the same over restarts of the relay: one row of the table `clock` has it,
with the start of the machine for which it is true. After another start of the machine the wall clock is all there is:
it counts forward, and where it went back no time has passed.

What is due is kept by the wall clock, since people read it. Where that jumps, it is moved by as much.

Where several machines share the store, none of their own clocks counts for all: the time is the database's.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import BigInteger, Connection, insert, select, type_coerce, update

from relay.store.db.database import Database
from relay.store.db.queue_tables import holds, is_open, is_waiting, messages
from relay.store.db.tables import clock

# What a clock is set by to be no jump: it is set a little at a time, and two looks differ by less than this.
_STEP_SECONDS = 2.0
# How old the moment is at which the store knows the relay to have been there, while it writes anything.
_SEEN_SECONDS = 60.0
# So long after a step nothing is deleted for its age.
_SETTLED_SECONDS = 86400.0


_boot_seconds = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def _boot() -> str:
    """Return a name of this start of the machine."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class SteadyClock:
    """Seconds since 1970 as the wall clock would have them if nobody had set it."""

    def __init__(self, wall: Callable[[], float] = time.time, timer: Callable[[], float] = _boot_seconds) -> None:
        self.wall = wall
        self.timer = timer
        self.offset = wall() - timer()

    def now(self) -> datetime:
        """Return the time, aware."""
        return datetime.fromtimestamp(self.timer() + self.offset, UTC)

    def ahead(self) -> float:
        """Return by how many seconds the wall clock is ahead of this one."""
        return round(self.wall() - self.timer() - self.offset, 3)


@dataclass(slots=True)
class ClockWatch:
    """Follows the wall clock of a machine that has its store to itself."""

    database: Database
    steady: SteadyClock
    boot: Callable[[], str] = _boot
    _ahead: float = 0.0
    _seen: float = 0.0
    _stepped: float = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether the wall clock was not set within the last day: it may be set back yet."""
        return self.steady.now().timestamp() - self._stepped >= _SETTLED_SECONDS

    async def resume(self, longest: float) -> float:
        """Go on with the steady clock of the last run; return by how many seconds what is due was moved.

        `longest`: in so many seconds is due whatever waits. Raises StoreError.
        """
        wall, boot = self.steady.wall(), self.boot()

        def job(connection: Connection) -> tuple[float, float, float]:
            return _resume(connection, boot, wall, self.steady.timer(), longest)

        self.steady.offset, moved, self._stepped = await self.database.write(job)
        self._ahead, self._seen = self.steady.ahead(), self.steady.timer()
        return moved

    async def look(self, longest: float, *, has_written: bool = False) -> float:
        """Look whether the wall clock was set; move what is due by as much, and return that. Raises StoreError.

        Of several processes one moves it; each returns by how much.
        """
        ahead = self.steady.ahead()
        step = ahead - self._ahead
        is_old = has_written and self.steady.timer() - self._seen >= _SEEN_SECONDS
        if abs(step) < _STEP_SECONDS:
            if is_old:
                await self.database.write(lambda c: _see(c, self.steady.wall()))
                self._seen = self.steady.timer()
            return 0.0
        stepped = self.steady.now().timestamp()
        await self.database.write(lambda c: _follow(c, ahead, self.steady.wall(), stepped, longest))
        self._ahead, self._stepped = ahead, stepped
        return step


def _resume(connection: Connection, boot: str, wall: float, timer: float, longest: float) -> tuple[float, float, float]:
    """Return the offset of the steady clock, by how much the wall clock was set, and when it was set last."""
    row = connection.execute(select(clock)).one_or_none()
    if row is None:
        connection.execute(
            insert(clock).values(id=1, boot=boot, offset=wall - timer, ahead=0.0, seen=wall, stepped=0.0)
        )
        return wall - timer, 0.0, 0.0
    offset, away = row.offset, wall - row.seen
    if not boot or row.boot != boot:
        offset = row.seen - row.ahead + max(0.0, away) - timer
        _excuse(connection, away - longest)
    ahead = wall - timer - offset
    step, stepped = ahead - row.ahead, row.stepped
    if abs(step) < _STEP_SECONDS:
        step = 0.0
    else:
        move(connection, step)
        stepped = timer + offset
    pull_in(connection, wall, longest)
    connection.execute(update(clock).values(boot=boot, offset=offset, ahead=ahead, seen=wall, stepped=stepped))
    return offset, step, stepped


def _follow(connection: Connection, ahead: float, wall: float, stepped: float, longest: float) -> None:
    row = connection.execute(select(clock)).one()
    if abs(ahead - row.ahead) >= _STEP_SECONDS:  # no other process was faster
        move(connection, ahead - row.ahead)
        connection.execute(update(clock).values(ahead=ahead, seen=wall, stepped=stepped))
    pull_in(connection, wall, longest)


def _see(connection: Connection, wall: float) -> None:
    connection.execute(update(clock).values(seen=wall))


def _excuse(connection: Connection, seconds: float) -> None:
    """Count no waiting for so long: the machine was off, and had no chance to send, or its clock was set meanwhile."""
    if seconds > 0:
        excused = messages.c.held_seconds + seconds
        connection.execute(update(messages).where(is_open).values(held_seconds=excused))


def move(connection: Connection, seconds: float) -> None:
    """Move what is due, and since when something is held, by so many seconds."""
    step = int(seconds * 1_000_000)
    # What is under way is due by its outcome, which comes.
    for column, which in (
        (messages.c.next_attempt, is_waiting),
        (messages.c.held_since, messages.c.held_since.is_not(None)),
        (holds.c.since, holds.c.since.is_not(None)),
        (holds.c.until, holds.c.until.is_not(None)),
        (holds.c.next_probe, holds.c.next_probe.is_not(None)),
    ):
        moved = type_coerce(column, BigInteger) + step
        connection.execute(update(column.table).where(which).values({column: moved}))


def pull_in(connection: Connection, wall: float, longest: float) -> int:
    """Make due what would wait for longer than anything may; return how many messages."""
    now = datetime.fromtimestamp(wall, UTC)
    is_far = messages.c.next_attempt > now + timedelta(seconds=longest)
    return connection.execute(update(messages).where(is_waiting, is_far).values(next_attempt=now)).rowcount


class StoreClock:
    """Goes on from what the store said last, by a timer that nobody sets. Before that it is the clock of this machine.

    May be told and asked by different threads.
    """

    def __init__(self, own: Callable[[], datetime], timer: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._timer = timer
        self._heard: tuple[datetime, float] | None = None

    def heard(self, now: datetime) -> None:
        """Go by this from now on."""
        self._heard = (now, self._timer())

    def now(self) -> datetime:
        """Return the time, aware."""
        if self._heard is None:
            return self._own()
        moment, at = self._heard
        return moment + timedelta(seconds=self._timer() - at)
