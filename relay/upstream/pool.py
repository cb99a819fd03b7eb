"""The connections of one account and one version of its secret: kept, counted and reused.

How many may be in use at once, its slots say (`relay.upstream.slots`). Who finds no idle connection waits in line for
the first that comes back or opens, and one more is opened for each in line. So a message never waits for a login while
others end sooner, and what was opened for it is ready for the next. The connection that was used last is used next, so
that the others grow old and close. Nothing here does I/O: a connection that has to go is handed to `dismiss`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from relay.upstream.auth import FirstLogin
from relay.upstream.connection import Connection
from relay.upstream.outcome import Outcome
from relay.upstream.slots import Slots
from relay.upstream.transfer import Progress

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


class Pool:
    """See above. `idle_seconds` is how long an unused connection is kept. `users` are those in `Upstream.deliver`."""

    def __init__(self, slots: Slots, *, idle_seconds: float, dismiss: Callable[[Connection], None]) -> None:
        self.slots = slots
        self.users = 0
        self.in_use = 0
        self.is_retired = False
        self.first_login = FirstLogin()
        self._idle_seconds = idle_seconds
        self._dismiss = dismiss
        self._idle: dict[Connection, float] = {}  # until when; in the order of their last use
        self._timer: asyncio.TimerHandle | None = None
        self._line: deque[asyncio.Future[Found]] = deque()
        self._openings: list[Opening] = []  # at least as many as wait in line

    @property
    def is_empty(self) -> bool:
        """Whether nobody uses it, waits for it or has left a connection in it."""
        return not (self.users or self._idle or self._openings)

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
            self._dismiss(connection)
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
        self._dismiss(oldest)
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
        turn = self._next() if is_good else None
        if turn is not None:
            turn.set_result(connection)
        elif not is_good or self.is_retired or self.slots.is_short:
            self._dismiss(connection)
        else:
            self._keep(connection)

    def retire(self) -> None:
        """Let all idle connections go, and those in use when they come back."""
        self.is_retired = True
        while self._idle:
            connection, _ = self._idle.popitem()
            self._dismiss(connection)
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
        loop = asyncio.get_running_loop()
        self._idle[connection] = until = loop.time() + self._idle_seconds
        if self._timer is None:
            self._timer = loop.call_at(until, self._expire)

    def _expire(self) -> None:
        """Let those go that were unused for too long, and look again when the next will be."""
        loop = asyncio.get_running_loop()
        self._timer = None
        old = [connection for connection, until in self._idle.items() if until <= loop.time()]
        for connection in old:
            del self._idle[connection]
            self._dismiss(connection)
        if self._idle:
            self._timer = loop.call_at(next(iter(self._idle.values())), self._expire)
