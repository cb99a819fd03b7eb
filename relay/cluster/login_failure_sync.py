"""Bad logins that all processes at one store count together: each writes its own there, and reads those of the others.

Nothing is written but for a login that failed, or the first good one after such. What another process saw counts here a
moment later, so whoever asks all of them at once has a few attempts more. While the store is away each counts for
itself; what could not be written then is not written later.
"""

import asyncio
from collections import deque
from functools import partial

from relay import log
from relay.listener.login_failures import LoginFailures
from relay.store.cluster.login_failures import FailureTable, LoginResult
from relay.store.db.errors import StoreError

_MOST_WAITING = 1000
_AT_ONCE = 200


class LoginFailureSync:
    """One for a process. `failures` returns what a door counts by; `run` writes for ever, `look` reads."""

    def __init__(self, table: FailureTable) -> None:
        self._table = table
        self._doors: dict[str, LoginFailures] = {}
        self._waiting: deque[LoginResult] = deque(maxlen=_MOST_WAITING)
        self._wake = asyncio.Event()
        self._is_well = True

    def failures(self, door: str, limit: int) -> LoginFailures:
        """Return the bad logins of a door, of which all processes tell each other."""
        failures = self._doors[door] = LoginFailures(limit, tell=partial(self._tell, door))
        return failures

    async def look(self) -> None:
        """Read what the others wrote. Raises StoreError."""
        for result in await self._table.news():
            if (failures := self._doors.get(result.door)) is not None:
                failures.heard(result.key, is_failure=result.is_failure)

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                try:
                    await self._table.add(some)
                    self._is_well = True
                except StoreError as error:
                    if self._is_well:
                        log.broken(f"other processes do not know of bad logins here: {error}")
                    self._is_well = False

    def _tell(self, door: str, key: str, is_failure: bool) -> None:
        self._waiting.append(LoginResult(door, key, is_failure))
        self._wake.set()
