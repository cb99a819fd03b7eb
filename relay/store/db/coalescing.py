"""One look for all who ask in the same turn of the event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

Found = TypeVar("Found")

# Who are answered by one look.
_MOST = 20


class Together(Generic[Found]):
    """Asks for what has keys. `look` finds some of them; what it raises, all raise who asked."""

    def __init__(self, look: Callable[[Sequence[str]], Awaitable[Mapping[str, Found]]]) -> None:
        self._look = look
        self._keys: list[str] = []
        self._looking: asyncio.Task[Mapping[str, Found]] | None = None

    async def ask(self, key: str) -> Found | None:
        """Return what a key has; None where that was not found."""
        if self._looking is None or len(self._keys) >= _MOST:
            self._keys = []
            self._looking = asyncio.create_task(self._look_for(self._keys))
        self._keys.append(key)
        # Who is cancelled takes it from nobody else.
        return (await asyncio.shield(self._looking)).get(key)

    async def _look_for(self, keys: list[str]) -> Mapping[str, Found]:
        if self._keys is keys:
            self._looking = None
        return await self._look(keys)
