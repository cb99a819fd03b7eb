"""How long a client's message is waited for: as long as it has patience, and less where the relay is stopping."""

import asyncio
from typing import Any


class Patience:
    """One for a submission. It ends for good by `hurry`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._hurried: asyncio.Future[None] = self._loop.create_future()
        self._answer_at = 0.0

    @property
    def is_over(self) -> bool:
        """Whether somebody hurries: nothing is waited for any more but the answer of a server that has the message."""
        return self._hurried.done()

    def hurry(self, seconds: float) -> None:
        """End it now. What only the server can say is waited for `seconds` more."""
        self._answer_at = self._loop.time() + seconds
        if not self._hurried.done():
            self._hurried.set_result(None)

    async def wait(self, task: asyncio.Task[Any], seconds: float | None = None) -> bool:
        """Wait for a task as long as patience lasts, at most `seconds`; return whether it is done."""
        await asyncio.wait({task, self._hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return task.done()

    async def wait_to_the_last(self, task: asyncio.Task[Any]) -> bool:
        """Wait for a task that nothing can take the place of, however long it takes; return whether it is done."""
        if not task.done() and not await self.wait(task):
            await asyncio.wait({task}, timeout=max(self._answer_at - self._loop.time(), 0.0))
        return task.done()
