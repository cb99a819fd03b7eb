"""When the next message of an account may begin: never more than so many in a minute, and spread over it. Pure.

Two rules together. No window of a minute holds more than the limit, however it is laid: providers count that. And
behind a small burst the messages keep an even distance (the "generic cell rate algorithm", ITU-T I.371), so that the
limit is not used up in one second and followed by a minute of silence.

A message begins with MAIL, which may be long after it was let go: a connection is opened, a login made. Until it has
said when it began it counts in every window. Times are seconds of one clock that never goes back.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterable
from math import inf

MINUTE = 60.0
# MAIL takes different times to reach the server. Two that begin a minute apart must not arrive within one.
_GUARD = 1.0
# A fifteenth of the limit may begin at once, so that a few messages now and then do not wait. The minute behind it
# lacks as many, and so still has more than nine tenths of the limit.
_BURST_SHARE = 15


def minute() -> float:
    """Return how many seconds the minute has that a limit is about. To be asked for each time."""
    return MINUTE


class Pace:
    """The messages of one account. `begun`: when those of the last minute began, where an earlier run made some.

    `window` is the stretch of time, in seconds, that holds no more than the limit: a minute and a margin.
    """

    def __init__(self, per_minute: int, begun: Iterable[float] = (), window: float | None = None) -> None:
        self.per_minute = per_minute  # may be set anew at any time
        self._window = minute() + _GUARD if window is None else window
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
        return max(1, self.per_minute // _BURST_SHARE)

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
