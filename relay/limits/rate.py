"""How many messages of an account may begin in a minute: a rate limit. Pure.

Law: no window of a minute holds more messages than the limit, however it is laid, since providers count that. Behind a
small burst the messages keep an even distance (the "generic cell rate algorithm", GCRA, ITU-T I.371), so that the limit
is not used up in one second and followed by a minute of silence.

A message begins with MAIL, which may be long after it was let go: a connection is opened, a login made. Until it has
said when it began it counts in every window. Times are seconds of one clock that never goes back.

Where several processes send for an account, what counts comes from rows in the store, and a message counts there from
the moment when it was let go (`begin`). While it has not begun its row is moved on, more than once a second; the window
is longer by that, so that also what a process had under way when it died counts.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Protocol

from relay.limits import constants
from relay.limits.rows import Row, Taken

# How many seconds' worth of an account's messages one process takes at once.
_AT_ONCE_SECONDS = 0.1
# How soon is looked again where all of an account's rate is kept back for others.
_LEFT_FREE_SECONDS = 2.0


class RateLimit:
    """The messages of one account. `begun`: when those of the last minute began, where an earlier run made some.

    `window` is the stretch of time, in seconds, that holds no more than the limit: a minute and a margin.
    """

    def __init__(self, per_minute: int, begun: Iterable[float] = (), window: float | None = None) -> None:
        self.per_minute = per_minute  # may be set anew at any time
        self._window = constants.MINUTE + constants.RATE_GUARD_SECONDS if window is None else window
        self._begun = deque(sorted(begun))
        self._under_way = 0
        self._even = -inf  # when the next would begin, if there were no burst

    @property
    def interval(self) -> float:
        """The even distance of two messages, in seconds."""
        return self._window / self.per_minute

    @property
    def burst(self) -> int:
        """How many may begin at once after a rest."""
        return max(1, self.per_minute // constants.BURST_PARTS)

    def next(self, now: float) -> float:
        """Return when one more may be let go: now or later; infinity where only those under way can tell."""
        self._forget(now)
        even = self._even - (self.burst - 1) * self.interval
        surplus = self._under_way + len(self._begun) - self.per_minute
        if surplus < 0:
            return max(now, even)
        if surplus >= len(self._begun):
            return inf
        return max(now, even, self._begun[surplus] + self._window)

    def let_go(self, now: float) -> None:
        """Count one more as under way; to be asked for with `next` before."""
        self._under_way += 1
        self._even = max(self._even, now) + self.interval

    def began(self, now: float) -> None:
        """One that was under way begins now."""
        self._under_way -= 1
        insort(self._begun, now)

    def take_back(self) -> None:
        """One that was let go never began: another may, in its place."""
        self._under_way -= 1
        self._even -= self.interval

    def take_off(self) -> None:
        """One that was let go counts in no window, as it is too long ago; what comes next minds the even distance."""
        self._under_way -= 1

    def _forget(self, now: float) -> None:
        while self._begun and self._begun[0] + self._window <= now:
            self._begun.popleft()


@dataclass(frozen=True, slots=True)
class Begun(Taken):
    """So many may begin now, at the moment `since`, and one more at `next` (seconds since 1970)."""

    next: float


class BeginRule(Protocol):
    """A rule that also heeds how many of the limit are kept back for others."""

    def __call__(self, rows: Sequence[Row], now: datetime, /, *, kept_back: int) -> Begun:
        """Say what is taken."""


def shared_window() -> float:
    """Return the stretch of time, in seconds, that holds no more than the limit."""
    return constants.MINUTE + constants.SHARED_RATE_GUARD_SECONDS


def seen_seconds() -> float:
    """Return of how many seconds the rows are looked at."""
    return shared_window() + constants.SEEN_BEFORE_SECONDS


def begin(rows: Sequence[Row], now: datetime, *, per_minute: int, wanted: int, kept_back: int = 0) -> Begun:
    """Return how many of those that wait may begin now, and when the next may. `rows` are of `seen_seconds`.

    `kept_back` of the limit are left free, for processes that may go by them without the store.
    """
    if per_minute <= kept_back:
        return Begun(0, now, now.timestamp() + _LEFT_FREE_SECONDS)
    per_minute -= kept_back
    # In seconds from now: seconds since 1970 have no digits left for what adds up exactly.
    limit = replayed(per_minute, [at for since, count in rows for at in [_seconds(since, now)] * count])
    most, count = at_once(per_minute, wanted), 0
    while count < most and limit.next(0.0) <= 0.0:
        limit.let_go(0.0)
        limit.began(0.0)
        count += 1
    return Begun(count, now, now.timestamp() + limit.next(0.0))


def at_once(per_minute: int, wanted: int) -> int:
    """Return how many of those that wait one process lets go together, so that the others have their part."""
    return min(wanted, max(1, int(per_minute * _AT_ONCE_SECONDS / constants.MINUTE)))


def replayed(per_minute: int, begun: Sequence[float]) -> RateLimit:
    """Return the rate limit of messages that began so many seconds before now, first one first, as negative numbers.

    What began later than now is of a clock that was set back.
    """
    limit = RateLimit(per_minute, window=shared_window())
    known = [min(at, 0.0) for at in begun if at <= shared_window()]
    if known and known[0] <= -shared_window():
        for _ in range(limit.burst - 1):  # there may be more before, of which nobody told us
            limit.let_go(known[0])
            limit.take_off()
    for at in known:
        limit.let_go(at)
        limit.began(at)
    return limit


def _seconds(since: datetime, now: datetime) -> float:
    """Return when a message began, at the latest: what one process alone wrote says only the second."""
    return (since - now).total_seconds() + (0.0 if since.microsecond else 1.0)
