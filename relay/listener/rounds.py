"""Whose turn it is to work on what has come: where much comes to many at once, one works in each round of the loop.

Otherwise each round would take as long as the work of all of them, and everybody else would wait for that.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Final

_MUCH: Final = 32 * 1024  # octets; less is quickly done
_NO_WAIT: Final = nullcontext()


class Rounds:
    """All sessions have one. A share is a context; what is in it is all the work on much that its round has."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def share(self, octets: bytes) -> AbstractAsyncContextManager[object]:
        """Return the share of a round in which these octets may be worked on."""
        return self if len(octets) >= _MUCH else _NO_WAIT

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            self._lock.release()
