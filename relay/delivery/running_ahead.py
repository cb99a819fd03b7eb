"""A large message that still comes, and may be on its way already: what is looked at before it is judged as a whole.

Nothing here decides anything. Where a message may not go ahead, for whatever reason, it is handed over when it is
there; then its client, or the queue, is told why it cannot go.
"""

import asyncio
from dataclasses import dataclass, replace

from relay import log
from relay.delivery.handing import at_once
from relay.delivery.office import Office, Refused
from relay.delivery.pacing import is_limited
from relay.delivery.parcel import Handed, header_of, pack
from relay.delivery.postman import Postman
from relay.directory.model import Mode
from relay.directory.routing import Route
from relay.mail.content import Content, GrowingBody
from relay.upstream.arriving import Arriving
from relay.upstream.transfer import Ahead


@dataclass(slots=True)
class RunningAhead:
    """One message, with what has come of it; its body grows. `begin` is called once; `take` or `abandon` is its end."""

    office: Office
    postman: Postman
    handed: Handed
    body: GrowingBody
    _task: asyncio.Task[None] | None = None
    _arriving: Arriving | None = None
    _head_start: Ahead | None = None

    def begin(self) -> None:
        """Let it go ahead, if it may."""
        self._task = asyncio.get_running_loop().create_task(self._begin())

    def more(self) -> None:
        """More of it has come."""
        if self._arriving is not None:
            self._arriving.more()

    def take(self) -> Ahead | None:
        """Return the head start that it has, for whoever hands it over now."""
        self._stop()
        taken, self._head_start = self._head_start, None
        return taken

    def abandon(self) -> None:
        """It goes no further by itself."""
        self._stop()
        if self._head_start is not None:
            self._head_start.abandon()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _begin(self) -> None:
        try:
            await self._go()
        except Refused:
            pass  # said at the end
        except Exception:
            # Whatever it was, the message is handed over when it is there.
            log.broken("a message could not go ahead", id=self.handed.arrival.id, exc_info=True)

    async def _go(self) -> None:
        handed = self.handed
        header = header_of(handed.content)
        route = self.office.route_of_message(handed.client, handed.envelope, header)
        if not self._may_go(route):
            return
        parcel = pack(self.office, handed, header, route)
        secret = await self.office.find_secret(route)
        outgoing = parcel.outgoing.content.header
        self._arriving = Arriving(outgoing, self.body)
        transfer = replace(
            parcel.transfer(handed, secret, all_or_none=True), content=Content(outgoing), arriving=self._arriving
        )
        self._head_start = self.office.upstream.run_ahead(transfer)

    def _may_go(self, route: Route) -> bool:
        """Whether this account may have it while nobody knows whether it will be sent.

        Not where a message that is not sent uses up what others could have sent.
        """
        server, accounts, number = route.server, self.postman.accounts, len(self.handed.envelope.recipients)
        if self.office.mode_of(route) is Mode.QUEUED or is_limited(server) or at_once(server, number) < number:
            return False
        is_slow = accounts.slowness_of(route.account, self.postman.clock()) is not None
        return not is_slow and accounts.hold_of(route.account, route.identity) is None
