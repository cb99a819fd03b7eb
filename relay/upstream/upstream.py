"""The way out: takes a message for an account and says what came of it. One pool for each account and secret.

A pool belongs to everything that a connection depends on, so that no message ever leaves through a connection that
another account, another password or other settings opened. When any of it changes, the account's older connections
are closed as soon as they are idle. How many may be open, the accounts of a server with `shared_limits` share.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from relay.directory.model import Account, Auth, Security
from relay.mail.address import domain_key
from relay.upstream.connection import Connection
from relay.upstream.outcome import Failed, Outcome
from relay.upstream.phase import Phase
from relay.upstream.pool import Pool
from relay.upstream.slots import Slots
from relay.upstream.tls import Contexts
from relay.upstream.transaction import transact
from relay.upstream.transfer import Progress, Timeouts, Transfer


@dataclass(frozen=True, slots=True)
class _Key:
    """What the connections of one pool have in common."""

    account: Account
    host: str
    port: int
    security: Security
    verify_tls: bool
    ca_file: str
    auth: Auth
    allow_plaintext_password: bool
    secret_version: str


class Upstream:
    """Delivers transfers. `hello` is our name in EHLO; raises AddressError if it is no host name."""

    def __init__(self, hello: str, timeouts: Timeouts | None = None) -> None:
        self._hello = domain_key(hello)
        self._timeouts = timeouts or Timeouts()
        self._contexts = Contexts()
        self._pools: dict[_Key, Pool] = {}
        self._current: dict[Account, _Key] = {}
        self._slots: dict[str, Slots] = {}
        self._homes: dict[Connection, Slots] = {}  # of every connection that a provider counts
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def deliver(self, transfer: Transfer, progress: Progress | None = None) -> Outcome:
        """Hand a message over and return what came of it; every failure is an outcome.

        Waits for a free connection of the account without a deadline: the caller cancels. Cancelling is safe until
        `progress.final_dot_sent`, and closes the connection; after that the caller shields this call.
        """
        key = _key_of(transfer)
        pool = self._pool(key, transfer.server.scope(transfer.account))
        progress = progress or Progress()
        since = pool.first_login.refusals
        try:
            async with pool.slot(transfer.server.max_connections):
                return await self._hand_over(pool, transfer, progress, since)
        finally:
            self._drop_if_empty(key)
            self._drop_slots(pool.slots)

    def connections(self) -> Mapping[Account, int]:
        """How many connections each account has now."""
        counts: dict[Account, int] = {}
        for key, pool in self._pools.items():
            counts[key.account] = counts.get(key.account, 0) + pool.connections
        return counts

    async def aclose(self) -> None:
        """Say QUIT on all idle connections, and let those in use go when they come back."""
        self._is_closed = True
        for pool in tuple(self._pools.values()):
            pool.retire()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _hand_over(self, pool: Pool, transfer: Transfer, progress: Progress, since: int) -> Outcome:
        reused = pool.take()
        if reused is not None:
            outcome = await self._attempt(pool, reused, transfer, progress)
            # A server may close an idle connection at any moment, also just when we use it again. Nothing has
            # happened while MAIL has no answer about the message: once more, on a connection that is surely alive.
            if reused.is_usable or not _is_about_connection(outcome):
                return outcome
        fresh = Connection(transfer.server, hello=self._hello, timeouts=self._timeouts, contexts=self._contexts)
        fresh.progress = progress
        await pool.slots.open(fresh, partial(self._let_one_go, pool.slots))
        self._homes[fresh] = pool.slots
        try:
            await pool.first_login.open(partial(fresh.open, transfer.account.username, transfer.secret), since)
        except Failed as failed:
            self._dismiss(fresh)
            return Outcome(host=transfer.server.host, failure=failed.failure, tls=fresh.tls)
        except BaseException:
            fresh.abort()
            self._closed(fresh)
            raise
        finally:
            fresh.progress = Progress()  # the caller's may hold all of the message
        return await self._attempt(pool, fresh, transfer, progress)

    async def _attempt(self, pool: Pool, connection: Connection, transfer: Transfer, progress: Progress) -> Outcome:
        connection.server = transfer.server  # limits and answer rules may have changed; what it depends on has not
        connection.progress = progress
        try:
            outcome = await transact(connection, transfer)
        except BaseException:
            connection.abort()
            self._closed(connection)
            raise
        finally:
            connection.progress = Progress()
        pool.put(connection)
        return outcome

    def _pool(self, key: _Key, scope: str) -> Pool:
        current = self._current.get(key.account)
        if current is not None and current != key:
            self._pools[current].retire()
        self._current[key.account] = key
        if key not in self._pools:
            dismiss = partial(self._dismiss_from, key)
            self._pools[key] = Pool(self._slots_of(scope), idle_seconds=self._timeouts.idle, dismiss=dismiss)
        pool = self._pools[key]
        pool.slots = self._slots_of(scope)  # another one where a server's accounts share their limits from now on
        pool.is_retired = self._is_closed
        return pool

    def _slots_of(self, scope: str) -> Slots:
        return self._slots.setdefault(scope, Slots(scope))

    def _drop_slots(self, slots: Slots) -> None:
        if slots.is_empty and self._slots.get(slots.scope) is slots:
            del self._slots[slots.scope]

    def _let_one_go(self, slots: Slots) -> None:
        """Close an idle connection of those who share these slots, where there is one."""
        for pool in tuple(self._pools.values()):
            if pool.slots is slots and pool.let_one_go():
                return

    def _drop_if_empty(self, key: _Key) -> None:
        if key in self._pools and self._pools[key].is_empty:
            del self._pools[key]
            if self._current.get(key.account) == key:
                del self._current[key.account]

    def _dismiss(self, connection: Connection) -> None:
        """Close in the background; nobody waits for a server's good-bye."""
        if not connection.is_usable:
            connection.abort()
            self._closed(connection)
            return
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

    def _dismiss_from(self, key: _Key, connection: Connection) -> None:
        self._dismiss(connection)
        self._drop_if_empty(key)


def _is_about_connection(outcome: Outcome) -> bool:
    """Whether the connection was lost before the server had said anything about the message."""
    failure = outcome.failure
    if failure is None or failure.phase is not Phase.MAIL:
        return False
    return not failure.from_server or failure.reply.code == 421


def _key_of(transfer: Transfer) -> _Key:
    server = transfer.server
    return _Key(
        account=transfer.account,
        host=server.host,
        port=server.effective_port,
        security=server.security,
        verify_tls=server.verify_tls,
        ca_file=server.ca_file,
        auth=server.auth,
        allow_plaintext_password=server.allow_plaintext_password,
        secret_version=transfer.secret.version if transfer.secret else "",
    )
