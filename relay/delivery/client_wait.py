"""The client of one message waits: for a permit of its account, or until something is recorded.

It may leave at any moment. A relay that stops hurries: nothing is waited for any more but the answer of a server that
has the message, and the client has its reply in time.
"""

import asyncio
from typing import Any

from relay.delivery import replies
from relay.delivery.preparation import Refused, at_once
from relay.directory.routing import Route
from relay.limits.limiter import Limiter, Permit


class ClientWait:
    """One for a submission. `answer_at`: by when the client is to have its reply, in the loop's time, once we hurry."""

    has_left = False
    is_hurried = False
    answer_at = 0.0
    _permit: asyncio.Task[Permit | None] | None = None  # that is waited for
    _waiter: asyncio.Future[None] | None = None

    def leave(self) -> None:
        """The client has gone: no permit is wanted any more."""
        self.has_left = True
        if self._permit is not None:
            self._permit.cancel()

    def hurry(self, seconds: float) -> None:
        """Let the client have its reply within so many seconds, and before if it can."""
        self.answer_at = asyncio.get_running_loop().time() + seconds
        self.is_hurried = True
        self._wake()

    async def until(self, task: asyncio.Task[Any], seconds: float | None = None) -> bool:
        """Wait for a task, at most `seconds` and not once we hurry; return whether it is done. One at a time."""
        if task.done() or self.is_hurried:
            return task.done()
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._wake)
        task.add_done_callback(self._wake)
        try:
            await self._waiter
        finally:
            task.remove_done_callback(self._wake)
            if timer is not None:
                timer.cancel()
        return task.done()

    async def permit(self, limits: Limiter, route: Route, recipients: int, patience: float) -> Permit | None:
        """Wait for a permit of an account with limits, and charge it with those of the recipients that go at once.

        None where that takes longer than `patience` seconds. Raises Refused where the client leaves, StoreError.
        """
        server, number = route.server, at_once(route.server, recipients)
        profile = route.profile.name if route.profile else None
        waiting = limits.permit(server, route.account, profile, recipients=number, within=patience)
        permit = await self._given(asyncio.create_task(waiting))
        if permit is None:
            return None
        is_charged = False
        try:
            is_charged = await permit.charge(number) == number
        finally:
            if not is_charged:
                permit.end()
        return permit if is_charged else None

    async def _given(self, waiting: asyncio.Task[Permit | None]) -> Permit | None:
        self._permit = waiting
        is_ours = False
        try:
            is_ours = await self.until(waiting) and not self.has_left
        finally:
            # One that nobody waits for any more is ended, or the wait for it.
            if not is_ours and not waiting.cancel() and not waiting.cancelled() and (permit := waiting.result()):
                permit.end()
        if self.has_left:
            raise Refused(replies.CLIENT_LEFT)
        return waiting.result() if is_ours else None

    def _wake(self, _: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
