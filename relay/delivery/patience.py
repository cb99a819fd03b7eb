"""How long a client's message is waited for: as long as it has patience, and less where the relay is stopping."""

import asyncio
from typing import Any


class Patience:
    """One for a submission. It ends for good by `hurry`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None  # whoever waits now
        self._answer_at = 0.0
        self.is_over = False  # nothing is waited for any more but the answer of a server that has the message

    def hurry(self, seconds: float) -> None:
        """End it now. What only the server can say is waited for `seconds` more."""
        self._answer_at = self._loop.time() + seconds
        self.is_over = True
        self._wake()

    async def wait(self, task: asyncio.Task[Any], seconds: float | None = None) -> bool:
        """Wait for a task as long as patience lasts, at most `seconds`; return whether it is done. One at a time."""
        # As asyncio.wait for two futures, at a third of its cost: this is on the way of every message.
        if task.done() or self.is_over:
            return task.done()
        self._waiter = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self._wake)
        task.add_done_callback(self._wake)
        try:
            await self._waiter
        finally:
            task.remove_done_callback(self._wake)
            if timer is not None:
                timer.cancel()
        return task.done()

    async def wait_to_the_last(self, task: asyncio.Task[Any]) -> bool:
        """Wait for a task that nothing can take the place of, however long it takes; return whether it is done."""
        if not task.done() and not await self.wait(task):
            await asyncio.wait({task}, timeout=max(self._answer_at - self._loop.time(), 0.0))
        return task.done()

    def _wake(self, _: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
