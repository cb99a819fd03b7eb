"""The time by the clock of the store, where several machines share it: none of their own counts for all."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta


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
