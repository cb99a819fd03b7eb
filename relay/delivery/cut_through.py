"""Cut-through: a large message that still comes may be on its way already (Exim's term).

Nothing here decides anything. Where a message may not go ahead, for whatever reason, it is sent when it is there; then
its client, or the queue, is told why it cannot go.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from relay import log
from relay.delivery.attempt import Attempts
from relay.delivery.preparation import Refused, Submitted, at_once, header_of
from relay.directory.model import Mode
from relay.directory.routing import Route
from relay.limits.limiter import is_limited
from relay.mail.content import Content, GrowingBody
from relay.mail.header import Header
from relay.upstream.cut_through import Arriving
from relay.upstream.transaction import BegunTransaction


@dataclass(slots=True)
class CutThrough:
    """One message, with what has come of it; its body grows. `begin` is called once; `take` or `abandon` is its end.

    `route_of` returns its route, `mode_of` the mode of a route; the first raises Refused.
    """

    attempts: Attempts
    submitted: Submitted
    body: GrowingBody
    route_of: Callable[[Header], Route]
    mode_of: Callable[[Route], Mode]
    _task: asyncio.Task[None] | None = None
    _arriving: Arriving | None = None
    _cut_through: BegunTransaction | None = None

    def begin(self) -> None:
        """Let it go ahead, if it may."""
        self._task = asyncio.get_running_loop().create_task(self._begin())

    def more(self) -> None:
        """More of it has come."""
        if self._arriving is not None:
            self._arriving.more()

    def take(self) -> BegunTransaction | None:
        """Return the head start that it has, for whoever hands it over now."""
        self._stop()
        taken, self._cut_through = self._cut_through, None
        return taken

    def abandon(self) -> None:
        """It goes no further by itself."""
        self._stop()
        if self._cut_through is not None:
            self._cut_through.abandon()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _begin(self) -> None:
        try:
            await self._go()
        except Refused:
            pass  # said at the end
        except Exception:
            # Whatever it was, the message is sent when it is there.
            log.broken("a message could not go ahead", id=self.submitted.arrival.id, exc_info=True)

    async def _go(self) -> None:
        attempts, submitted = self.attempts, self.submitted
        header = header_of(submitted.content)
        route = self.route_of(header)
        if not self._may_go(route):
            return
        prepared = attempts.prepare(submitted, header, route)
        secret = await attempts.secret_of(route)
        outgoing = prepared.outgoing.content.header
        self._arriving = Arriving(outgoing, self.body)
        transfer = prepared.transfer(submitted.envelope, secret, all_or_none=True)
        transfer = replace(transfer, content=Content(outgoing), arriving=self._arriving)
        self._cut_through = attempts.upstream.begin_cut_through(transfer)

    def _may_go(self, route: Route) -> bool:
        """Whether this account may have it while nobody knows whether it will be sent.

        Not where a message that is not sent uses up what others could have sent.
        """
        server, accounts, number = route.server, self.attempts.accounts, len(self.submitted.envelope.recipients)
        if self.mode_of(route) is Mode.QUEUED or is_limited(server) or at_once(server, number) < number:
            return False
        is_slow = accounts.slowness_of(route.account, self.attempts.recorder.clock()) is not None
        return not is_slow and accounts.hold_of(route.account, route.identity) is None
