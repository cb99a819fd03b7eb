"""Tells all open pages together when something may have changed, at most once a second.

One watcher looks for everybody, and only while somebody listens. What changed, each page finds out by reading itself.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

_LOOKS_EVERY = 1.0
_QUIET = 15.0  # so often something is said anyhow, by which both sides notice that the other is gone
_MOST_LISTENERS = 100


class ChangeWatcher:
    """Tells listeners when `look` returns another value than before. `aclose` ends them all."""

    def __init__(self, look: Callable[[], object], *, looks_every: float = _LOOKS_EVERY) -> None:
        self._look = look
        self._looks_every = looks_every
        self._changed = asyncio.Event()  # set once, with the next change; then there is another one
        self._count = 0
        self._listeners = 0
        self._is_closed = False
        self._watcher: asyncio.Task[None] | None = None

    @property
    def is_watching(self) -> bool:
        """Whether the watcher looks."""
        return self._watcher is not None

    @property
    def is_full(self) -> bool:
        """Whether as many listen as may."""
        return self._listeners >= _MOST_LISTENERS

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Let the watcher look meanwhile."""
        self._listeners += 1
        if self._watcher is None and not self._is_closed:
            self._watcher = asyncio.get_running_loop().create_task(self._watch(self._look()), name="change_watcher")
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                await self._stop()

    async def changes(self, quiet: float = _QUIET) -> AsyncGenerator[bool]:
        """Yield True at each change, and False when `quiet` seconds passed without one, until `aclose`."""
        seen = self._count
        while not self._is_closed:
            if self._count == seen:
                await self._next(quiet)
            if not self._is_closed:
                # What changed while the listener was busy counts too.
                is_change, seen = self._count != seen, self._count
                yield is_change

    async def aclose(self) -> None:
        """End every listener's `changes`, and the watcher."""
        self._is_closed = True
        self._changed.set()
        await self._stop()

    async def _next(self, quiet: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(quiet):
                await self._changed.wait()

    async def _stop(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    async def _watch(self, seen: object) -> None:
        while True:
            await asyncio.sleep(self._looks_every)
            now = self._look()
            if now != seen:
                seen = now
                self._count += 1
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
