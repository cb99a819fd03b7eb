"""The connections that are kept: a pool for each account, and how many a provider allows. Nothing here does I/O.

A slot is the right to use a connection. Slots are given in the order in which they were asked for, by those who share
the limits of a provider: one account, or all accounts of a server. What is open is counted apart, because a provider
counts also what nobody uses just now, and what is being opened or closed. How many there may be, the server's limit
says, and where several processes share it, what this one is granted of it.

Who finds no idle connection waits in line for the first that comes back or opens, and one more is opened for each in
line. So a message never waits for a login while others end sooner, and what was opened for it is ready for the next.
The connection that was used last is used next, so that the others grow old and close.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from relay.directory.model import Account, Auth, Security, Server
from relay.upstream.auth import FirstLogin
from relay.upstream.connection import Connection
from relay.upstream.outcome import Outcome
from relay.upstream.transaction import Progress


class Allowance(Protocol):
    """What one scope may have now."""

    @property
    def granted(self) -> int:
        """How many connections may be open now. Where it falls, those in use go on, and none is opened instead."""

    def report(self, limit: int, wanted: int, is_open: int) -> None:
        """Tell how many the server allows, how many would be used, and how many the provider counts now."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Have this called, and nothing else any more, whenever `granted` is another; never within `report`."""


class Unshared:
    """There is nobody else: all that the server allows."""

    granted = sys.maxsize

    def report(self, limit: int, wanted: int, is_open: int) -> None:
        """Nobody needs to know."""

    def watch(self, changed: Callable[[], None]) -> None:
        """It never is another."""


def unshared(scope: str) -> Allowance:  # noqa: ARG001
    """Return the allowance of a scope that no other process uses."""
    return Unshared()


class Slots:
    """See above. The limit is the one that was named last; `scope` is who shares them.

    `let_one_go` closes a connection that nobody uses, where there is one.
    """

    def __init__(self, scope: str, allowance: Allowance, let_one_go: Callable[["Slots"], None]) -> None:
        self.scope = scope
        self._limit = 0
        self._in_use = 0
        self._requests = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open: set[Connection] = set()
        self._closing: set[Connection] = set()
        self._wants_room = 0
        self._has_changed = asyncio.Event()
        self._let_one_go = let_one_go
        self._allowance = allowance
        self._is_shared = not isinstance(allowance, Unshared)  # else nobody needs to be told
        allowance.watch(self._adjust)

    @property
    def is_empty(self) -> bool:
        """Whether nobody has a slot or waits for one, and nothing is open."""
        return not (self._in_use or self._waiting or self._open)

    @property
    def is_short(self) -> bool:
        """Whether somebody waits for room to open a connection, here or in another process."""
        is_open = len(self._open) - len(self._closing)
        return self._wants_room > 0 or is_open > self._limit or is_open > self._allowance.granted

    def take_now(self, limit: int) -> bool:
        """Take a slot where fewer than `limit` are in use and nobody waits for one; tell whether it was."""
        if self._waiting or self._in_use >= limit or self._in_use >= self._allowance.granted:
            return False
        self._limit = limit
        self._in_use += 1
        if self._is_shared:
            self._report()
        return True

    async def take(self, limit: int) -> None:
        """Wait until fewer than `limit` slots are in use, and take one. Whoever has one gives it back."""
        if self.take_now(limit):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if limit != self._limit:
            self._limit = limit
            self._admit()
        if self._is_shared:
            self._report()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back()
            elif turn in self._waiting:
                self._waiting.remove(turn)
                self._report()
            raise

    def take_spare(self, limit: int) -> bool:
        """Take a slot where nobody waits for one and half of them are free, this one included; tell whether it was."""
        is_spare = not self._waiting and 2 * (self._in_use + 1) <= min(limit, self._allowance.granted)
        self._in_use += is_spare
        return is_spare

    def give_back(self) -> None:
        """Let the next one have the slot."""
        self._in_use -= 1
        if self._waiting:
            self._admit()
        if self._is_shared:
            self._report()

    def begin_request(self) -> None:
        """Count what is made without a connection of ours; only where a slot goes with it."""
        self._requests += 1
        self._report()

    def end_request(self) -> None:
        """Count it no more."""
        self._requests -= 1
        self._report()

    async def open(self, connection: Connection) -> None:
        """Count a connection that will be opened, when there is room for it; only where a slot goes with it."""
        self._wants_room += 1
        try:
            while len(self._open) >= self._room:
                self._has_changed.clear()
                self._let_one_go(self)
                if len(self._open) >= self._room:
                    await self._has_changed.wait()
        finally:
            self._wants_room -= 1
        self._open.add(connection)
        self._report()

    def closing(self, connection: Connection) -> None:
        """It says good-bye, and counts until that is over."""
        self._closing.add(connection)

    def closed(self, connection: Connection) -> None:
        """Count it no more."""
        self._open.discard(connection)
        self._closing.discard(connection)
        self._has_changed.set()
        self._report()

    @property
    def _room(self) -> int:
        return min(self._limit, self._allowance.granted)

    @property
    def _surplus(self) -> int:
        """How many are open beyond what may be, without those that go."""
        return len(self._open) - len(self._closing) - self._room

    def _report(self) -> None:
        self._allowance.report(self._limit, self._in_use + len(self._waiting), len(self._open) + self._requests)

    def _adjust(self) -> None:
        """What is granted is more or less: let those go on who may, and those go whom nobody uses."""
        for _ in range(self._surplus):
            self._let_one_go(self)
        self._admit()
        self._has_changed.set()

    def _admit(self) -> None:
        room = self._room
        while self._waiting and self._in_use < room:
            turn = self._waiting.popleft()
            if not turn.done():  # done: cancelled just now
                self._in_use += 1
                turn.set_result(None)


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
            self.connection.progress = self.connection.nobody
        self.progress = None

    def cancel(self) -> None:
        """Open it no further."""
        self.forget_progress()
        if self.task is not None:
            self.task.cancel()


class PoolKey(NamedTuple):
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
        key: PoolKey,
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
            if connection.link.is_in_step:
                return connection
            self._dismiss(self, connection)
        return None

    async def wait(self, begin: Callable[[], Opening]) -> Found:
        """Wait for a connection that comes back or opens. `begin` begins to open one, where none is for this caller.

        Its progress is the caller's for as long as that waits. For who has a slot.
        """
        turn: asyncio.Future[Found] = self._loop.create_future()
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
        is_good = connection.link.is_in_step and connection.messages < connection.server.max_messages_per_connection
        turn = self._next() if is_good and self._line else None
        if turn is not None:
            turn.set_result(connection)
        elif not is_good or self.is_retired or self.slots.is_short:
            self._dismiss(self, connection)
        else:
            self._idle[connection] = until = self._loop.time() + self._idle_seconds
            if self._timer is None:  # one for all of them: it rings when the oldest may have to go
                self._timer = self._loop.call_at(until, self._expire)

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

    def _expire(self) -> None:
        """Let those go that were unused for too long, and look again when the next will be."""
        self._timer, now = None, self._loop.time()
        old = [connection for connection, until in self._idle.items() if until <= now]
        for connection in old:
            del self._idle[connection]
            self._dismiss(self, connection)
        if self._idle:
            self._timer = self._loop.call_at(next(iter(self._idle.values())), self._expire)
