"""The connections to all servers: opened, kept, counted and reused. `Upstream` delivers a message by one of them.

A pool belongs to everything that a connection depends on, so that no message ever leaves through a connection that
another account, another password or other settings opened. When any of it changes, the account's older connections
are closed as soon as they are idle. How many may be open, the accounts of a server with `shared_limits` share
(`relay.upstream.connections`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from relay import log
from relay.directory.model import Account, Kind, Meaning
from relay.mail.address import domain_key
from relay.system.process import in_short_turns
from relay.upstream.connection import Connection
from relay.upstream.connections import Allowance, Opening, Pool, PoolKey, Slots, unshared
from relay.upstream.cut_through import CutThroughTransaction
from relay.upstream.dial import Contexts
from relay.upstream.dialog import transact, warn_out_of_step
from relay.upstream.outcome import Failed, Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Timeouts, Transfer, largest

if TYPE_CHECKING:
    from relay.upstream.http.upstream import ApiUpstream

_SMTP = Kind.SMTP


class Upstream:
    """Delivers transfers. `hello` is our name in EHLO; raises AddressError if it is not a host name.

    `allowance` returns what a scope may have of the connections that a provider allows, where others have some too.
    """

    def __init__(
        self, hello: str, timeouts: Timeouts | None = None, allowance: Callable[[str], Allowance] = unshared
    ) -> None:
        self._hello = domain_key(hello)
        self._allowance = allowance
        self._timeouts = timeouts or Timeouts()
        self._contexts = Contexts()
        self._pools: dict[PoolKey, Pool] = {}
        self._current: dict[Account, Pool] = {}
        self._slots: dict[str, Slots] = {}
        self._homes: dict[Connection, Slots] = {}  # of every connection that a provider counts
        self._opening: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._by_api: ApiUpstream | None = None

    def adopt(self, timeouts: Timeouts) -> None:
        """Give connections that are opened from now on so much time."""
        self._timeouts = timeouts
        if self._by_api is not None:
            self._by_api.timeouts = timeouts

    async def deliver(self, transfer: Transfer, progress: Progress | None = None) -> Outcome:
        """Hand a message over and return what came of it; every failure is an outcome.

        Waits for a free connection of the account without a deadline: the caller cancels. Cancelling is safe until
        `progress.final_dot_sent`, and closes the connection; after that the caller shields this call.
        """
        if transfer.server.kind is not _SMTP:
            by_api = self._by_api or await self._open_apis()
            return await by_api.deliver(transfer, progress or Progress())
        if transfer.cut_through is not None:
            outcome = await transfer.cut_through.finish(transfer, progress or Progress())
            if outcome is not None:
                return outcome
            transfer = replace(transfer, cut_through=None)
        pool = self._pool_of(transfer)
        if (untold := pool.first_login.untold) is not None:
            pool.first_login.told(untold)
            self._drop_if_empty(pool)
            self._drop_slots(pool.slots)
            return Outcome(host=transfer.server.host, failure=untold)
        progress = progress or Progress()
        slots, since = pool.slots, pool.first_login.refusals
        pool.users += 1
        try:
            if not slots.take_now(transfer.server.max_connections):
                await slots.take(transfer.server.max_connections)
            pool.in_use += 1
            try:
                reused = pool.take()
                if reused is not None:
                    try:
                        outcome = await transact(reused, transfer, progress)
                    finally:
                        pool.put(reused)
                    failure = outcome.failure
                    # A server may close an idle connection at any moment, also just when we use it again. Nothing has
                    # happened while MAIL has no answer about the message: once more, on one that is surely alive.
                    if failure is None or reused.is_usable or not _is_about_connection(failure):
                        return outcome
                    if failure.is_closing:
                        return _closed_again(await self._hand_over_anew(pool, transfer, progress, since))
                return await self._hand_over_anew(pool, transfer, progress, since)
            finally:
                pool.in_use -= 1
                slots.give_back()
        finally:
            pool.users -= 1
            if not (pool.users or pool.has_idle) or slots is not pool.slots:
                self._drop_if_empty(pool)
                self._drop_slots(slots)

    def begin_cut_through(self, transfer: Transfer) -> CutThroughTransaction | None:
        """Begin to hand over a message that still arrives, for whoever delivers it; None where it has to wait.

        It waits where no connection of the account is idle, where others may need it, and where a server must be told
        before what only the end of the message tells.
        """
        pool = self._pools.get(_key_of(transfer))
        if pool is None or pool.is_retired or not pool.slots.take_spare(transfer.server.max_connections):
            return None
        slots, connection = pool.slots, pool.take()
        if connection is None:
            slots.give_back()
            return None
        connection.server = transfer.server
        if connection.takes_chunks or not connection.offers.has("8bitmime"):
            pool.put(connection)
            slots.give_back()
            return None
        pool.users += 1
        pool.in_use += 1
        most = largest(transfer.server, connection.offers)
        cut_through = CutThroughTransaction(transfer, partial(self._attempt, pool, connection), most)

        def over(task: asyncio.Task[Outcome]) -> None:
            if task.cancelled():
                self._drop_connection(connection)  # also where it was cancelled before it began
            elif (error := task.exception()) is not None:
                log.broken("a message could not go ahead", exc_info=error)
            pool.in_use -= 1
            pool.users -= 1
            slots.give_back()
            self._drop_if_empty(pool)
            self._drop_slots(slots)

        cut_through.task.add_done_callback(over)
        return cut_through

    @property
    def under_way(self) -> int:
        """How many messages are being handed over, or wait for a connection."""
        by_api = self._by_api.under_way if self._by_api is not None else 0
        return by_api + sum(pool.users for pool in self._pools.values())

    def connections(self) -> Mapping[Account, int]:
        """How many connections each account has now."""
        counts: dict[Account, int] = dict(self._by_api.connections()) if self._by_api is not None else {}
        for key, pool in self._pools.items():
            counts[key.account] = counts.get(key.account, 0) + pool.connections
        return counts

    async def aclose(self) -> None:
        """Say QUIT on all idle connections, and let those in use go when they come back."""
        self._is_closed = True
        for pool in tuple(self._pools.values()):
            pool.retire()
        if self._by_api is not None:
            await self._by_api.aclose()
        ending = self._closing | {task for task in self._opening if task.cancelling()}
        if ending:
            await asyncio.wait(ending)

    async def _open_apis(self) -> "ApiUpstream":
        """Return the way out by APIs, which is loaded for the first message that goes by it."""
        kind = await in_short_turns(_load_apis)
        if self._by_api is None:
            self._by_api = kind(self._timeouts, self._contexts, self._slots_of, self._drop_slots)
        return self._by_api

    async def _hand_over_anew(self, pool: Pool, transfer: Transfer, progress: Progress, since: int) -> Outcome:
        found = await pool.wait(partial(self._begin, pool, transfer, progress, since))
        if isinstance(found, Connection):
            return await self._attempt(pool, found, transfer, progress)
        if found.failure is not None:
            pool.first_login.told(found.failure)
        return found

    def _begin(self, pool: Pool, transfer: Transfer, progress: Progress, since: int) -> Opening:
        """Begin to open a connection, in a task of its own: it may end up with another message."""
        connection = Connection(transfer.server, hello=self._hello, timeouts=self._timeouts, contexts=self._contexts)
        connection.progress = progress
        opening = Opening(connection, progress)
        account, secret = transfer.account, transfer.secret
        log_in = partial(opening.connection.open, account.username, secret)
        opening.task = asyncio.get_running_loop().create_task(self._open(pool, opening, log_in, since))
        self._opening.add(opening.task)
        opening.task.add_done_callback(self._opening.discard)
        return opening

    async def _open(self, pool: Pool, opening: Opening, log_in: Callable[[], Awaitable[None]], since: int) -> None:
        connection, slots = opening.connection, pool.slots
        try:
            await slots.open(connection)
            self._homes[connection] = slots
            opening.has_room = True
            await pool.first_login.open(log_in, since)
        except Failed as failed:
            warn_out_of_step(connection.server, failed.failure)
            self._dismiss(connection)
            pool.failed(opening, Outcome(host=connection.server.host, failure=failed.failure, tls=connection.tls))
        except asyncio.CancelledError:
            self._drop_connection(connection)
            raise
        except Exception as error:  # a fault of ours, for whoever waits
            self._drop_connection(connection)
            pool.broke(opening, error)
        else:
            pool.opened(opening)
        finally:
            self._drop_if_empty(pool)

    async def _attempt(self, pool: Pool, connection: Connection, transfer: Transfer, progress: Progress) -> Outcome:
        try:
            return await transact(connection, transfer, progress)
        finally:
            pool.put(connection)

    def _pool_of(self, transfer: Transfer) -> Pool:
        """Return the pool of a transfer's account, with its secret and its server's settings as they are now."""
        pool = self._current.get(transfer.account)
        # Nearly always nothing has changed since the last message; what the key holds need not be compared then.
        version = transfer.secret.version if transfer.secret is not None else ""
        if pool is not None and pool.server is transfer.server and pool.key.secret_version == version:
            return pool
        key, scope = _key_of(transfer), transfer.server.scope(transfer.account)
        pool = self._pools.get(key)
        if pool is None:
            idle, server = self._timeouts.idle, transfer.server
            pool = Pool(key, server, self._slots_of(scope), idle_seconds=idle, dismiss=self._dismiss_from)
            self._pools[key] = pool
        current = self._current.get(key.account)
        if current is not pool:
            if current is not None:
                current.retire()
            self._current[key.account] = pool
            pool.is_retired = self._is_closed
        if pool.slots.scope != scope:  # a server's accounts share their limits from now on, or no more
            pool.slots = self._slots_of(scope)
        pool.server = transfer.server
        return pool

    def _slots_of(self, scope: str) -> Slots:
        if scope not in self._slots:
            self._slots[scope] = Slots(scope, self._allowance(scope), self._let_one_go)
        return self._slots[scope]

    def _drop_slots(self, slots: Slots) -> None:
        if slots.is_empty and self._slots.get(slots.scope) is slots:
            del self._slots[slots.scope]

    def _let_one_go(self, slots: Slots) -> None:
        """Close a connection of those who share these slots that is idle, or opened for nobody, where there is one."""
        pools = [pool for pool in self._pools.values() if pool.slots is slots]
        if not any(pool.let_one_go() for pool in pools):
            any(pool.open_one_less() for pool in pools)

    def _drop_if_empty(self, pool: Pool) -> None:
        if pool.is_empty and self._pools.get(pool.key) is pool:
            del self._pools[pool.key]
            if self._current.get(pool.key.account) is pool:
                del self._current[pool.key.account]

    def _drop_connection(self, connection: Connection) -> None:
        """Close at once."""
        connection.abort()
        self._closed(connection)

    def _dismiss(self, connection: Connection) -> None:
        """Close in the background; nobody waits for a server's good-bye."""
        if not connection.is_usable:
            if said := connection.left_over:
                log.warned(
                    "the server said something that nobody asked for; the connection is closed",
                    server=connection.server.name,
                    said=said,
                )
            self._drop_connection(connection)
            return
        if (slots := self._homes.get(connection)) is not None:
            slots.closing(connection)
        task = asyncio.get_running_loop().create_task(self._close(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, connection: Connection) -> None:
        try:
            await connection.close()
        finally:
            self._closed(connection)

    def _closed(self, connection: Connection) -> None:
        """The provider counts it no more."""
        slots = self._homes.pop(connection, None)
        if slots is not None:
            slots.closed(connection)
            self._drop_slots(slots)

    def _dismiss_from(self, pool: Pool, connection: Connection) -> None:
        self._dismiss(connection)
        self._drop_if_empty(pool)


def _load_apis() -> "type[ApiUpstream]":
    from relay.upstream.http.upstream import ApiUpstream  # noqa: PLC0415  0.1 s, for the few that need it

    return ApiUpstream


def _is_about_connection(failure: Failure) -> bool:
    """Whether the connection was lost before the server had said anything about the message."""
    return failure.phase is Phase.MAIL and (not failure.from_server or failure.is_closing)


def _closed_again(outcome: Outcome) -> Outcome:
    """Return what came of a new connection after a 421 on the one before: a second 421 asks for a slower pace."""
    failure = outcome.failure
    if failure is None or not failure.is_closing or not outcome.on_new_connection:
        return outcome
    return replace(outcome, failure=replace(failure, meaning=Meaning.THROTTLE))


def _key_of(transfer: Transfer) -> PoolKey:
    server = transfer.server
    return PoolKey(
        account=transfer.account,
        host=server.host,
        port=server.effective_port,
        security=server.security,
        verify_tls=server.verify_tls,
        ca_file=server.ca_file,
        auth=server.auth,
        allow_plaintext_password=server.allow_plaintext_password,
        secret_version=transfer.secret.version if transfer.secret is not None else "",
    )
