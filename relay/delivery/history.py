"""The history of messages that were handed over while their client waited, written behind and in batches.

It costs the healthy way nothing: a crash may lose the last moments of it, and with them no message.
"""

import asyncio

from relay import log
from relay.store.errors import StoreError
from relay.store.messages import Attempt, NewMessage, StoredMessage
from relay.store.queue import Queue

_PAUSE_SECONDS = 0.5
_MOST = 1000  # entries kept while the store does not answer; older ones are let go


class History:
    """Collects entries. `run` writes them for ever, `flush` at once."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._entries: list[NewMessage] = []
        self._has_some = asyncio.Event()

    def record(self, message: StoredMessage, attempt: Attempt) -> None:
        """Take one entry: a message that is over, and its one attempt."""
        self._entries.append(NewMessage(message=message, content=None, attempt=attempt))
        self._has_some.set()

    async def run(self) -> None:
        """Write what has come, a batch each half second, for ever."""
        while True:
            await self._has_some.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what has come."""
        self._has_some.clear()
        entries, self._entries = self._entries, []
        if not entries:
            return
        try:
            await self._queue.record(entries)
        except StoreError as error:
            log.broken(str(error))
            self._entries = (entries + self._entries)[-_MOST:]
            self._has_some.set()
