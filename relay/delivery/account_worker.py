"""The worker of one account: makes an attempt for each of its waiting messages that is due.

It uses at most the connections that its account may have, so one dead or slow account never delays another. One of an
account with a pace takes a message only when that may go, from each profile in turn.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from relay import log
from relay.delivery.attempt import Attempts
from relay.delivery.outcome import State
from relay.directory.model import Account, Server
from relay.limits.limiter import is_limited
from relay.store.db.errors import StoreError
from relay.store.queue.holds import Cause
from relay.store.queue.messages import HoldRow, StoredMessage

_SHARE_SECONDS = 0.2  # how soon what other processes leave is used
_TROUBLE_SECONDS = 5.0  # after a store that did not answer


class Claims(Protocol):
    """What this process may have of an account's connections (`relay.limits.connection_leases`)."""

    def claims(self, scope: str, limit: int) -> int:
        """Return how many messages may be under way at once, at least one."""

    def expect(self, scope: str, limit: int, backlog: int) -> None:
        """Say how many connections what waits on disk would use."""


class Whole:
    """There is no other process."""

    def claims(self, scope: str, limit: int) -> int:  # noqa: ARG002
        """All that the account may have."""
        return limit

    def expect(self, scope: str, limit: int, backlog: int) -> None:
        """Nobody needs to know."""


class AccountWorker:
    """One for an account, for as long as something of its `profiles` is due (None: mail of no profile)."""

    def __init__(
        self,
        account: Account,
        profiles: Collection[str | None],
        attempts: Attempts,
        claims: Claims,
        may_go_on: Callable[[], bool],
    ) -> None:
        self._account = account
        self._profiles = deque(profiles)  # each in its turn
        self._attempts = attempts
        self._recorder = attempts.recorder
        self._queue = self._recorder.queue
        self._accounts = attempts.accounts
        self._limits = attempts.limits
        self._events = attempts.events
        self._lead = attempts.lead
        self._claims = claims
        self._may_go_on = may_go_on
        self._more = asyncio.Event()  # set where more may be due than was taken
        self._more.set()
        self._ready: deque[StoredMessage] = deque()  # taken, not begun
        self._running: set[asyncio.Task[None]] = set()

    def take_more(self, profiles: Collection[str | None]) -> None:
        """Look again: more is due, maybe of other profiles."""
        self._profiles.extend(profile for profile in profiles if profile not in self._profiles)
        self._more.set()

    async def run(self) -> None:
        """Make the attempts of the account until nothing of it is due."""
        try:
            while self._may_go_on() and await self._step():
                pass
        except StoreError as error:
            log.broken(str(error))
            await asyncio.sleep(_TROUBLE_SECONDS)
        except Exception:
            # The account's mail waits on and is tried again; the other accounts know nothing of it.
            log.broken("the mail of an account met a fault of ours", account=str(self._account), exc_info=True)
            await asyncio.sleep(_TROUBLE_SECONDS)
        finally:
            self._expect(0)
            for message in self._ready:
                await self._recorder.give_back(message, pause=0.0)
            if self._running:
                await asyncio.wait(self._running)

    async def _step(self) -> bool:
        """Begin what may begin, wait for a reason to look again, and return whether there is one."""
        hold = self._accounts.hold_of(self._account)
        is_probe = hold is not None and self._accounts.is_probing(self._account)
        if hold is not None and not is_probe:
            await self._hold_waiting(hold)
            return False
        self._running = {attempt for attempt in self._running if not attempt.done()}
        connections = 1 if is_probe else self._connections()
        limit = self._claims.claims(self._scope(), connections)
        begun = await self._begin(limit) if len(self._running) < limit else set()
        self._running |= begun
        is_full = len(self._running) >= limit
        if self._running and (is_full or not begun):
            # Where others have connections, it may soon have more of them.
            pause = _SHARE_SECONDS if is_full and limit < connections else None
            await _first(self._running, None if is_full else self._more, pause)
        return bool(self._running)

    async def _begin(self, limit: int) -> set[asyncio.Task[None]]:
        """Begin attempts until `limit` are under way: one by one where there is a pace."""
        server = self._server()
        if server is not None and is_limited(server):
            self._more.clear()
            begun = await self._begin_in_turn(server)
            under_way = len(self._running) + len(begun)
            self._expect(under_way + 1 if under_way >= limit else 0)
            return begun
        if not self._ready and self._more.is_set():
            self._ready.extend(await self._claim_all(limit))
        some = [self._ready.popleft() for _ in range(min(limit - len(self._running), len(self._ready)))]
        return {asyncio.create_task(self._attempts.try_stored(message)) for message in some}

    async def _claim_all(self, limit: int) -> list[StoredMessage]:
        """Take as many as there are connections, and not one by one: each look into the store costs as much."""
        self._more.clear()
        claimed = await self._claim(self._profiles, limit)
        if len(claimed) >= limit:
            self._more.set()
        self._expect(self._connections() if len(claimed) >= limit else 0)
        return claimed

    async def _begin_in_turn(self, server: Server) -> set[asyncio.Task[None]]:
        """Begin the attempt of one message when it may go, of the profile whose turn it is; none where nothing is due.

        A profile without due mail loses its place.
        """
        while self._profiles:
            profile = self._profiles[0]
            self._profiles.rotate(-1)
            permit = await self._limits.permit(server, self._account, profile)
            if permit is None:
                break
            is_passed_on = False
            try:
                if not self._may_go_on():
                    break
                for message in await self._claim([profile], 1):
                    is_passed_on = True
                    return {asyncio.create_task(self._attempts.try_stored(message, permit))}
            finally:
                if not is_passed_on:
                    permit.end()
            self._profiles.remove(profile)
        return set()

    async def _claim(self, profiles: Collection[str | None], count: int) -> list[StoredMessage]:
        return await self._queue.claim(tuple(profiles), count, self._recorder.clock(), str(State.SENDING))

    async def _hold_waiting(self, hold: HoldRow) -> None:
        """Hold all that waits for the account, too."""
        if not self._lead.is_ours:
            return
        messages = await self._queue.hold_waiting(
            tuple(self._profiles),
            cause=Cause(str(self._account), hold.meaning, f"{hold.meaning}: {hold.reason}"),
            state=str(State.HELD),
            now=self._recorder.clock(),
            pausing=str(State.UNKNOWN),
        )
        self._events.waiting_held(self._account, hold, messages)

    def _server(self) -> Server | None:
        return self._attempts.routing().directory.servers.get(self._account.server)

    def _connections(self) -> int:
        server = self._server()
        return self._accounts.connections(server, self._account) if server else 1

    def _scope(self) -> str:
        server = self._server()
        return server.scope(self._account) if server else str(self._account)

    def _expect(self, backlog: int) -> None:
        """Say how many connections what waits for the account would use."""
        if self._server() is not None:
            self._claims.expect(self._scope(), self._connections(), backlog)


async def _first(running: Collection[asyncio.Task[None]], more: asyncio.Event | None, seconds: float | None) -> None:
    """Wait for the end of one of them, for more where that is of use, and no longer than so many seconds."""
    coming = [asyncio.create_task(more.wait())] if more is not None else []
    try:
        await asyncio.wait({*running, *coming}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in coming:
            each.cancel()
