"""What can be read of the queue and the history of messages. Nothing here writes.

DIAGNOSTICS: StoreError and its kinds (`relay.store.errors`) from every method; what else is raised, the method says.
"""

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from relay.mail.address import Address
from relay.mail.body import NewBody
from relay.mail.content import Content
from relay.store import claims, contents, history, statistics
from relay.store.contents import Piece
from relay.store.database import Database
from relay.store.history import Place, Wanted
from relay.store.messages import Attempt, StoredMessage
from relay.store.searching import Found, Seeking
from relay.store.statistics import Counted


class QueueReader:
    """Reads what a store has of messages; each method sees what was committed when it began.

    `new_body` gathers the bodies that are read.
    """

    def __init__(self, database: Database, new_body: NewBody) -> None:
        self._database = database
        self._new_body = new_body

    async def due_times(self) -> Mapping[str | None, datetime]:
        """Return for each profile with waiting messages when the first of them is due."""
        async with self._database.read() as connection:
            return await claims.due_times(connection)

    async def message(self, id_: str) -> StoredMessage | None:
        """Return one message."""
        async with self._database.read() as connection:
            return await history.message(connection, id_)

    async def ids_starting(self, prefix: str, limit: int) -> list[str]:
        """Return at most `limit` ids that begin so, the first ones in their order."""
        async with self._database.read() as connection:
            return await history.ids_starting(connection, prefix, limit)

    async def attempts(self, id_: str) -> tuple[Attempt, ...]:
        """Return a message's attempts, the first one first."""
        async with self._database.read() as connection:
            return await history.attempts_of(connection, id_)

    async def content(self, id_: str) -> Content:
        """Return a message's content, as it came. Raises NoContent."""
        async with self._database.read() as connection:
            return await contents.read_content(connection, id_, self._new_body())

    async def chunks(self, id_: str) -> AsyncIterator[bytes]:
        """Yield a message as it came, a little at a time; nothing where its content is gone."""

        async def read_page(number: int) -> Sequence[Piece]:
            async with self._database.read() as connection:
                return await contents.read_page(connection, id_, number)

        async for chunk in contents.chunks_of(read_page):
            yield chunk

    async def counts(self) -> Mapping[str, int]:
        """Return how many messages are in the queue, by state."""
        async with self._database.read() as connection:
            return await history.counts(connection)

    async def oldest(self) -> datetime | None:
        """Return when the oldest message in the queue came."""
        async with self._database.read() as connection:
            return await history.oldest(connection)

    async def list_queue(
        self,
        *,
        profile: str | None = None,
        state: str | None = None,
        limit: int,
        after: StoredMessage | None = None,
    ) -> list[StoredMessage]:
        """Return what is in the queue, of one profile or all, the oldest first, behind `after`."""
        async with self._database.read() as connection:
            return await history.list_queue(connection, profile, state, limit, after)

    async def search(
        self,
        *,
        sender: Address | None = None,
        to: Address | None = None,
        since: datetime | None = None,
        state: str | None = None,
        message_id: str | None = None,
        limit: int,
        after: StoredMessage | None = None,
    ) -> list[StoredMessage]:
        """Return messages of which all of this is true, the newest first, behind `after`."""
        wanted = Wanted(sender, to, since, state, message_id)
        async with self._database.read() as connection:
            return await history.search(connection, wanted, limit, after)

    async def find(
        self, wanted: Wanted, *, limit: int, after: Place | None = None, is_waiting: bool = False, seconds: float = 1.0
    ) -> Found:
        """Return a page of what is asked for: of all, the newest first, or of what waits, the oldest first.

        Looking ends after about so many seconds, with fewer than `limit` messages then.
        """
        seeking, found, place = Seeking(wanted, is_waiting), list[StoredMessage](), after
        deadline = time.monotonic() + seconds
        while True:
            async with self._database.read() as connection:
                end = None if seeking.is_indexed else await seeking.window_end(connection, place)
                found += await seeking.messages(connection, place, end, limit + 1 - len(found))
            if len(found) > limit:
                return Found(found[:limit], Place(found[limit - 1].created, found[limit - 1].id))
            if end is None or time.monotonic() > deadline:
                return Found(found, end)
            place = end

    async def counts_over_time(
        self, states: Collection[str], since: datetime, until: datetime, step: timedelta
    ) -> list[Counted]:
        """Return how many messages in each of these states came in each step of a time."""
        async with self._database.read() as connection:
            return await statistics.counts_over_time(connection, states, since, until, step)

    async def has_any(self, state: str) -> bool:
        """Tell whether there is a message in a state, the history included."""
        async with self._database.read() as connection:
            return await statistics.has_any(connection, state)

    async def held_counts(self) -> Mapping[str, int]:
        """Return how many messages wait for each hold (`held_by`)."""
        async with self._database.read() as connection:
            return await statistics.held_counts(connection)

    async def waiting_profiles(self) -> frozenset[str]:
        """Return whose messages are in the queue; "" is nobody's."""
        async with self._database.read() as connection:
            return await statistics.waiting_profiles(connection)
