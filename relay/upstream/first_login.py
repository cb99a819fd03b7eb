"""The first login of a pool: one connection tries it while the others wait, and a refusal is everybody's who waited.

Providers lock accounts after a few wrong passwords, and a hundred messages may ask for a connection at once. The caller
holds the account as soon as it is told of a refusal; until then the refusal counts for whoever comes, too.
"""

import asyncio
from collections.abc import Awaitable, Callable

from relay.directory.model import Meaning
from relay.upstream.outcome import Failed, Failure


class FirstLogin:
    """Lets connections be opened one at a time until a login has worked, and all at once from then on."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._has_worked = False
        self.refusals = 0
        self._refusal: Failure | None = None
        self.untold: Failure | None = None  # a refusal that no caller has been told of yet

    async def open(self, opening: Callable[[], Awaitable[None]], since: int) -> None:
        """Open a connection in its turn. Raises Failed: what the opening raised, or a refusal that came meanwhile.

        `since` is what `refusals` was when the message began to wait.
        """
        if not self._has_worked:
            async with self._turn:
                if self._refusal is not None and self.refusals != since:
                    raise Failed(self._refusal)
                if not self._has_worked:
                    await self._open(opening)
                    return
        await self._open(opening)

    def told(self, failure: Failure) -> None:
        """A caller is told of a failure now."""
        if failure is self.untold:
            self.untold = None

    async def _open(self, opening: Callable[[], Awaitable[None]]) -> None:
        try:
            await opening()
        except Failed as failed:
            if failed.failure.meaning is Meaning.LOGIN_REFUSED:
                self._has_worked = False
                self.refusals += 1
                self._refusal = self.untold = failed.failure
            raise
        self._has_worked = True
        self.untold = None
