"""The connections to all servers: opened, kept, counted and reused. `Upstream` delivers a message by one of them.

A pool belongs to everything that a connection depends on, so that no message ever leaves through a connection that
another account, another password or other settings opened. When any of it changes, the account's older connections
are closed as soon as they are idle. How many may be open, the accounts of a server with `shared_limits` share
(`relay.upstream.limits`).

Who finds no idle connection waits in line for the first that comes back or opens, and one more is opened for each in
line. So a message never waits for a login while others end sooner, and what was opened for it is ready for the next.
The connection that was used last is used next, so that the others grow old and close.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeAlias

from relay import log
from relay.directory.model import Account, Auth, Meaning, Security, Server
from relay.mail.address import domain_key
from relay.secrets.secret import Secret
from relay.upstream.auth import FirstLogin
from relay.upstream.connection import Connection
from relay.upstream.cut_through import HeadStart
from relay.upstream.dial import Contexts
from relay.upstream.dialog import transact
from relay.upstream.limits import Allowance, Slots, unshared
from relay.upstream.outcome import Failed, Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Timeouts, Transfer, largest

Found: TypeAlias = Connection | Outcome
"""A connection, or what came of opening it."""


@dataclass(slots=True, eq=False)
class Opening:
    """A connection that is being opened, with the progress of who began it. `has_room`: the provider counts it."""

    connection: Connection
    progress: Progress | None
    task: asyncio.Task[None] | None = None
    has_room: bool = False

    def forget_progress(self) -> None:
        """Let go of the beginner's progress, which may hold all of a message.

        Whoever else has the connection by then has set their own, with the gate before their final dot.
        """
        if self.connection.progress is self.progress:
            self.connection.progress = Progress()
        self.progress = None

    def cancel(self) -> None:
        """Open it no further."""
        self.forget_progress()
        if self.task is not None:
            self.task.cancel()


class _Key(NamedTuple):
    """What the connections of one pool have in common. A tuple, because every message asks for its pool by it."""

    account: Account
    host: str
    port: int
    security: Security
    verify_tls: bool
    ca_file: str
    auth: Auth
    allow_plaintext_password: bool
    secret_version: str


class Pool:
    """The connections of one account and one version of its secret. It does no I/O: what has to go, `dismiss` takes.

    `server` is the one that a message named last, `idle_seconds` how long an unused connection is kept. `users` are
    those in `Upstream.deliver`.
    """

    def __init__(
        self,
        key: _Key,
        server: Server,
        slots: Slots,
        *,
        idle_seconds: float,
        dismiss: Callable[["Pool", Connection], None],
    ) -> None:
        self.key = key
        self.server = server
        self.slots = slots
        self.users = 0
        self.in_use = 0
        self.is_retired = False
        self.first_login = FirstLogin()
        self._idle_seconds = idle_seconds
        self._dismiss = dismiss
        self._idle: dict[Connection, float] = {}  # until when; in the order of their last use
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._line: deque[asyncio.Future[Found]] = deque()
        self._openings: list[Opening] = []  # at least as many as wait in line

    @property
    def is_empty(self) -> bool:
        """Whether nobody uses it, waits for it or has left a connection in it."""
        return not (self.users or self._idle or self._openings)

    @property
    def has_idle(self) -> bool:
        """Whether a connection is kept that nobody uses."""
        return bool(self._idle)

    @property
    def connections(self) -> int:
        """How many connections there are: in use, being opened, and idle."""
        return self.in_use - len(self._line) + len(self._openings) + len(self._idle)

    def take(self) -> Connection | None:
        """Return the idle connection that was used last and still works, or None."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_usable:
                return connection
            self._dismiss(self, connection)
        return None

    async def wait(self, begin: Callable[[], Opening]) -> Found:
        """Wait for a connection that comes back or opens. `begin` begins to open one, where none is for this caller.

        Its progress is the caller's for as long as that waits. For who has a slot.
        """
        turn: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        own: Opening | None = None
        if len(self._openings) < len(self._line):
            own = begin()
            self._openings.append(own)
        try:
            return await turn
        except asyncio.CancelledError:
            self._leave(turn, own)
            raise
        finally:
            if own is not None:
                own.forget_progress()
                if not own.has_room:
                    self._open_no_further(own)

    def opened(self, opening: Opening) -> None:
        """A connection is open: it is for the first in line."""
        self._openings.remove(opening)
        self.put(opening.connection)

    def failed(self, opening: Opening, outcome: Outcome) -> None:
        """A connection could not be opened; the first in line is told so."""
        self._openings.remove(opening)
        turn = self._next()
        if turn is not None:
            turn.set_result(outcome)

    def broke(self, opening: Opening, error: Exception) -> None:
        """A fault of ours ended an opening. Raises it where nobody is in line."""
        self._openings.remove(opening)
        turn = self._next()
        if turn is None:
            raise error
        turn.set_exception(error)

    def let_one_go(self) -> bool:
        """Let the connection go that was idle for longest; False where there is none."""
        if not self._idle:
            return False
        oldest = next(iter(self._idle))
        del self._idle[oldest]
        self._dismiss(self, oldest)
        return True

    def open_one_less(self) -> bool:
        """End the opening of a connection that nobody waits for; False where there is none."""
        before = len(self._openings)
        if self._openings:
            self._open_no_further(self._openings[-1])
        return len(self._openings) < before

    def put(self, connection: Connection) -> None:
        """Give a connection to the first in line, or keep it; let it go where it has done its share or is in the way.

        In the way it is where the pool is retired, or where others of the same provider wait for its room.
        """
        is_good = connection.is_usable and connection.messages < connection.server.max_messages_per_connection
        turn = self._next() if is_good and self._line else None
        if turn is not None:
            turn.set_result(connection)
        elif not is_good or self.is_retired or self.slots.is_short:
            self._dismiss(self, connection)
        else:
            self._keep(connection)

    def retire(self) -> None:
        """Let all idle connections go, and those in use when they come back."""
        self.is_retired = True
        while self._idle:
            connection, _ = self._idle.popitem()
            self._dismiss(self, connection)
        for opening in tuple(self._openings):
            self._open_no_further(opening)

    def _next(self) -> asyncio.Future[Found] | None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():  # done: cancelled just now
                return turn
        return None

    def _leave(self, turn: asyncio.Future[Found], own: Opening | None) -> None:
        """Undo a wait that was cancelled."""
        if turn in self._line:
            self._line.remove(turn)
        elif not turn.cancelled() and turn.exception() is None and isinstance(found := turn.result(), Connection):
            self.put(found)
        if self._openings:
            self._open_no_further(own if own in self._openings else self._openings[-1])

    def _open_no_further(self, opening: Opening) -> None:
        """End an opening that nobody in line needs."""
        if opening in self._openings and len(self._openings) > len(self._line):
            self._openings.remove(opening)
            opening.cancel()

    def _keep(self, connection: Connection) -> None:
        self._idle[connection] = until = self._loop.time() + self._idle_seconds
        if self._timer is None:  # one for all of them: it rings when the oldest may have to go
            self._timer = self._loop.call_at(until, self._expire)

    def _expire(self) -> None:
        """Let those go that were unused for too long, and look again when the next will be."""
        self._timer, now = None, self._loop.time()
        old = [connection for connection, until in self._idle.items() if until <= now]
        for connection in old:
            del self._idle[connection]
            self._dismiss(self, connection)
        if self._idle:
            self._timer = self._loop.call_at(next(iter(self._idle.values())), self._expire)


class Upstream:
    """Delivers transfers. `hello` is our name in EHLO; raises AddressError if it is no host name.

    `allowance` returns what a scope may have of the connections that a provider allows, where others have some too.
    """

    def __init__(
        self, hello: str, timeouts: Timeouts | None = None, allowance: Callable[[str], Allowance] = unshared
    ) -> None:
        self._hello = domain_key(hello)
        self._allowance = allowance
        self._timeouts = timeouts or Timeouts()
        self._contexts = Contexts()
        self._pools: dict[_Key, Pool] = {}
        self._current: dict[Account, Pool] = {}
        self._slots: dict[str, Slots] = {}
        self._homes: dict[Connection, Slots] = {}  # of every connection that a provider counts
        self._opening: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def adopt(self, timeouts: Timeouts) -> None:
        """Give connections that are opened from now on so much time."""
        self._timeouts = timeouts

    async def deliver(self, transfer: Transfer, progress: Progress | None = None) -> Outcome:
        """Hand a message over and return what came of it; every failure is an outcome.

        Waits for a free connection of the account without a deadline: the caller cancels. Cancelling is safe until
        `progress.final_dot_sent`, and closes the connection; after that the caller shields this call.
        """
        if transfer.head_start is not None:
            outcome = await transfer.head_start.finish(transfer, progress or Progress())
            if outcome is not None:
                return outcome
            transfer = replace(transfer, head_start=None)
        pool = self._pool_of(transfer)
        if (untold := pool.first_login.untold) is not None:
            pool.first_login.told(untold)
            self._drop_if_empty(pool)
            return Outcome(host=transfer.server.host, failure=untold)
        progress = progress or Progress()
        slots, since = pool.slots, pool.first_login.refusals
        pool.users += 1
        try:
            if not slots.take_now(transfer.server.max_connections):
                await slots.take(transfer.server.max_connections)
            pool.in_use += 1
            try:
                return await self._hand_over(pool, transfer, progress, since)
            finally:
                pool.in_use -= 1
                slots.give_back()
        finally:
            pool.users -= 1
            if not pool.has_idle:
                self._drop_if_empty(pool)
                self._drop_slots(slots)

    def run_ahead(self, transfer: Transfer) -> HeadStart | None:
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
        head_start = HeadStart(transfer, partial(self._attempt, pool, connection), most)

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

        head_start.task.add_done_callback(over)
        return head_start

    @property
    def under_way(self) -> int:
        """How many messages are being handed over, or wait for a connection."""
        return sum(pool.users for pool in self._pools.values())

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
        ending = self._closing | {task for task in self._opening if task.cancelling()}
        if ending:
            await asyncio.wait(ending)

    async def _hand_over(self, pool: Pool, transfer: Transfer, progress: Progress, since: int) -> Outcome:
        reused = pool.take()
        if reused is None:
            return await self._hand_over_anew(pool, transfer, progress, since)
        outcome = await self._attempt(pool, reused, transfer, progress)
        # A server may close an idle connection at any moment, also just when we use it again. Nothing has happened
        # while MAIL has no answer about the message: once more, on a connection that is surely alive.
        if outcome.failure is None or reused.is_usable or not _is_about_connection(outcome.failure):
            return outcome
        was_closing = outcome.failure.is_closing
        outcome = await self._hand_over_anew(pool, transfer, progress, since)
        return _closed_again(outcome) if was_closing else outcome

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
            _tell_out_of_step(connection, failed.failure)
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
        connection.server = transfer.server  # limits and answer rules may have changed; what it depends on has not
        try:
            outcome = await transact(connection, transfer, progress)
        except BaseException:
            self._drop_connection(connection)
            raise
        if outcome.failure is not None:
            _tell_out_of_step(connection, outcome.failure)
        pool.put(connection)
        return outcome

    def _pool_of(self, transfer: Transfer) -> Pool:
        """Return the pool of a transfer's account, with its secret and its server's settings as they are now."""
        pool = self._current.get(transfer.account)
        # Nearly always nothing has changed since the last message; what the key holds need not be compared then.
        if pool is not None and pool.server is transfer.server and pool.key.secret_version == _version(transfer.secret):
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


def _tell_out_of_step(connection: Connection, failure: Failure) -> None:
    if failure.out_of_step:
        log.warned(
            "the server's answers are out of step with the commands; nothing of this attempt is taken for final",
            server=connection.server.name,
            phase=str(failure.phase),
            said=failure.why,
        )


def _is_about_connection(failure: Failure) -> bool:
    """Whether the connection was lost before the server had said anything about the message."""
    return failure.phase is Phase.MAIL and (not failure.from_server or failure.is_closing)


def _closed_again(outcome: Outcome) -> Outcome:
    """Return what came of a new connection after a 421 on the one before: a second 421 asks for a slower pace."""
    failure = outcome.failure
    if failure is None or not failure.is_closing or not outcome.on_new_connection:
        return outcome
    return replace(outcome, failure=replace(failure, meaning=Meaning.THROTTLE))


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
        secret_version=_version(transfer.secret),
    )


def _version(secret: Secret | None) -> str:
    return secret.version if secret is not None else ""
