"""Bad logins that all relays at one database count together: each tells its own, and hears those of the others.

What another relay saw counts here a moment later, so whoever asks all of them at once has a few attempts more. While
the database is away each counts for itself; what could not be told then is not told later.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from relay import log
from relay.store.cluster.login_failures import FailureTable, Guess
from relay.store.db.errors import StoreError

_MOST_WAITING = 1000
_AT_ONCE = 200


class Guessing:
    """One for a relay. `run` tells for ever, `look` hears; each door joins before."""

    def __init__(self, table: FailureTable) -> None:
        self._table = table
        self._doors: dict[str, Callable[[str, bool], None]] = {}
        self._waiting: deque[Guess] = deque(maxlen=_MOST_WAITING)
        self._wake = asyncio.Event()
        self._is_well = True

    def join(self, door: str, heard: Callable[[str, bool], None]) -> None:
        """Let something be called for each key and whether it failed, as other relays tell it of the same door."""
        self._doors[door] = heard

    def tell(self, door: str, key: str, *, is_failure: bool) -> None:
        """Tell the other relays what happened at a door of this one."""
        self._waiting.append(Guess(door, key, is_failure))
        self._wake.set()

    async def look(self) -> None:
        """Hear what the others told. Raises StoreError."""
        for guess in await self._table.news():
            if (heard := self._doors.get(guess.door)) is not None:
                heard(guess.key, guess.is_failure)

    async def run(self) -> None:
        """Tell for ever."""
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
                        log.broken(f"other relays do not know of bad logins here: {error}")
                    self._is_well = False
