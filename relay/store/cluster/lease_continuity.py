"""Whether the store has heard of us without a break: only who was there all the time may say that others were not.

Where a database was away for longer than a lease, the leases of all have expired when it is back. Nobody is dead for
that: each waits for as long as a lease lasts, in which the others renew theirs.
"""

import time
from collections.abc import Callable

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
