"""The history of messages that were handed over while their client waited, written behind and in batches.

It costs the healthy way nothing: a crash may lose the last moments of it, and with them no message. What webhooks are
to be told of these messages stands in a journal until then, where there is one. While the store is away so much is kept
as memory has room for; what is let go then is counted, and the log says how many.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from relay import log
from relay.store.db.errors import StoreError
from relay.store.queue.messages import Attempt, NewEvent, NewMessage, StoredMessage
from relay.store.queue.queue import Queue

_PAUSE_SECONDS = 0.5
# Entries kept while the store does not answer, some 3 KB each; older ones are let go.
_MOST = 10_000
_BATCH = 1000


class Journal(Protocol):
    """What keeps events over a kill until they are in the store (`relay.webhooks.journal`). Raises nothing."""

    def keep(self, events: Sequence[NewEvent], /) -> None:
        """Keep events."""

    def turn(self) -> None:
        """What is kept from now on stands apart from what was kept before."""

    def forget(self) -> None:
        """What was kept before that is in the store."""


class History:
    """Collects entries. `run` writes them for ever, `flush` at once. `lost` is told how many were let go.

    `journal` keeps what webhooks are told of them until it is written; None where there is no webhook.
    """

    def __init__(self, queue: Queue, lost: Callable[[int], None] = lambda _: None) -> None:
        self._queue = queue
        self._lost = lost
        self._entries: deque[NewMessage] = deque()
        self._has_some = asyncio.Event()
        self._is_awake = False
        self._let_go = 0  # since the store is away
        self._is_well = True
        self.journal: Journal | None = None

    def record(self, message: StoredMessage, attempt: Attempt) -> None:
        """Take one entry: a message that is over, and its one attempt."""
        events = None
        if (subscribers := self._queue.subscribers) is not None:
            events = subscribers.events(message.state, message, attempt)
            if events and self.journal is not None:
                self.journal.keep(events)
        self._entries.append(NewMessage(message=message, content=None, attempt=attempt, events=events))
        if len(self._entries) > _MOST:
            self._bound()
        if not self._is_awake:
            self._is_awake = True
            self._has_some.set()

    async def run(self) -> None:
        """Write what has come, a batch each half second, for ever."""
        while True:
            await self._has_some.wait()
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what has come so far. What comes meanwhile is of the next batch, else each commit would have a few."""
        self._has_some.clear()
        self._is_awake = False
        if self.journal is not None:
            self.journal.turn()
        left = len(self._entries)
        while count := min(_BATCH, left, len(self._entries)):
            batch = [self._entries.popleft() for _ in range(count)]
            left -= count
            try:
                await self._queue.record(batch, again=not self._is_well)
            except StoreError as error:
                self._entries.extendleft(reversed(batch))
                self._bound()
                self._has_some.set()
                if self._is_well:
                    log.broken(str(error), waiting=len(self._entries))
                self._is_well = False
                return
            self._tell_well()
        if self.journal is not None:
            self.journal.forget()

    def _bound(self) -> None:
        over = len(self._entries) - _MOST
        if over <= 0:
            return
        if not self._let_go:
            log.broken(f"the store is away for too long: of the history only the last {_MOST} messages are kept")
        for _ in range(over):
            self._entries.popleft()
        self._let_go += over
        self._lost(over)

    def _tell_well(self) -> None:
        if self._let_go:
            log.broken(f"the history lacks {self._let_go} messages that were handed over while the store was away")
        self._let_go, self._is_well = 0, True
