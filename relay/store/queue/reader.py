"""What can be read of the queue and the history of messages. Nothing here writes.

Contents that are asked for in the same turn of the event loop are read together.

DIAGNOSTICS: StoreError and its kinds (`relay.store.db.errors`) from every method; what else is raised, the method says.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from relay.mail.address import Address
from relay.mail.content import Content, NewBody
from relay.store.db.database import Database
from relay.store.db.errors import StoreCorrupt, StoreError, own
from relay.store.queue import claims, contents, history, search
from relay.store.queue.contents import ContentHash, Piece, ReadContent
from relay.store.queue.history import QueueStates, StateCount
from relay.store.queue.messages import Attempt, Damaged, NoContent, StoredMessage
from relay.store.queue.search import Found, ListPosition, PagedSearch, SearchCriteria


class QueueReader:
    """Reads what a store has of messages; each method sees what was committed when it began.

    `new_body` gathers the bodies that are read.
    """

    def __init__(self, database: Database, new_body: NewBody) -> None:
        self._database = database
        self._new_body = new_body
        self._small = _ReadTogether(self._read_small)

    async def due_times(self) -> Mapping[str | None, datetime]:
        """Return for each profile with waiting messages when the first of them is due."""
        return await self._database.read(claims.due_times)

    async def message(self, id_: str) -> StoredMessage | None:
        """Return one message."""
        return await self._database.read(lambda c: history.message(c, id_))

    async def ids_starting(self, prefix: str, limit: int) -> list[str]:
        """Return at most `limit` ids that begin so, the first ones in their order."""
        return await self._database.read(lambda c: search.ids_starting(c, prefix, limit))

    async def attempts(self, id_: str) -> tuple[Attempt, ...]:
        """Return a message's attempts, the first one first."""
        return await self._database.read(lambda c: history.attempts_of(c, id_))

    async def content(self, id_: str) -> Content:
        """Return a message's content, as the store has it. Raises NoContent."""
        return (await self._read(id_)).content

    async def content_to_send(self, message: StoredMessage) -> Content:
        """Return a message's content, as it came. Raises NoContent, and Damaged where the store has another."""
        try:
            read = await self._read(message.id)
        except StoreCorrupt as error:
            raise Damaged(str(error)) from error
        _compare(message, read.hash)
        return read.content

    async def verify(self, message: StoredMessage) -> int | None:
        """Read all of a message, and return how many octets are as they came; None where it has no digest.

        Raises Damaged, NoContent.
        """
        found, octets = ContentHash(), 0
        async for piece in self._pieces(message.id):
            found.add(piece.octets, is_header=piece.is_header)
            octets += len(piece.octets)
        if message.size and not octets:
            raise NoContent(message.id)
        _compare(message, found)
        return None if message.digest is None else octets

    async def inspect(self) -> list[str]:
        """Look through the whole store, and return what is wrong with its structure."""
        return await self._database.inspect()

    async def _read(self, id_: str) -> ReadContent:
        try:
            found = await self._small.ask(id_)
        except StoreError as error:
            raise own(error) from error.__cause__
        if found is not None:
            return found
        return await self._database.read(lambda c: contents.read_content(c, id_, self._new_body()))

    async def _read_small(self, ids: Sequence[str]) -> Mapping[str, ReadContent]:
        try:
            return await self._database.read(lambda c: contents.read_small(c, ids, self._new_body))
        except StoreCorrupt:
            return {}  # each is read by itself: the damage may be in one of them

    async def chunks(self, id_: str) -> AsyncIterator[bytes]:
        """Yield a message as it came, a little at a time; nothing where its content is gone."""

        async def read_page(number: int) -> Sequence[Piece]:
            return await self._database.read(lambda c: contents.read_page(c, id_, number))

        async for chunk in contents.chunks_of(read_page):
            yield chunk

    async def _pieces(self, id_: str) -> AsyncIterator[Piece]:
        number = 0
        try:
            while page := await self._database.read(partial(contents.read_page, message=id_, number=number)):
                for piece in page:
                    yield piece
                number += len(page)
        except StoreCorrupt as error:
            raise Damaged(str(error)) from error

    async def counts(self) -> Mapping[str, int]:
        """Return how many messages are in the queue, by state."""
        return await self._database.read(history.counts)

    async def oldest(self) -> datetime | None:
        """Return when the oldest message in the queue came."""
        return await self._database.read(history.oldest)

    async def list_queue(
        self,
        *,
        profile: str | None = None,
        state: str | None = None,
        limit: int,
        after: StoredMessage | None = None,
    ) -> list[StoredMessage]:
        """Return what is in the queue, of one profile or all, the oldest first, behind `after`."""
        return await self._database.read(lambda c: search.list_queue(c, profile, state, limit, after))

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
        wanted = SearchCriteria(sender, to, since, state, message_id)
        return await self._database.read(lambda c: search.search(c, wanted, limit, after))

    async def look(self, since: datetime, most: int) -> QueueStates:
        """Return the states of the newest `most` that wait, and of the last `most` that were over since a moment."""
        return await self._database.read(lambda c: history.look(c, since, most))

    async def among(self, wanted: SearchCriteria, ids: Collection[str]) -> list[StoredMessage]:
        """Return those of these messages that are asked for (by what an index answers), the oldest first."""
        return await self._database.read(lambda c: search.messages_among(c, wanted, ids))

    async def find(
        self,
        wanted: SearchCriteria,
        *,
        limit: int,
        after: ListPosition | None = None,
        is_waiting: bool = False,
        seconds: float = 1.0,
    ) -> Found:
        """Return a page of what is asked for: of all, the newest first, or of what waits, the oldest first.

        Looking ends after about so many seconds, with fewer than `limit` messages then.
        """
        seeking, found, place = PagedSearch(wanted, is_waiting), list[StoredMessage](), after
        deadline = time.monotonic() + seconds
        while True:
            more, end = await self._database.read(partial(seeking.window, after=place, limit=limit + 1 - len(found)))
            found += more
            if len(found) > limit:
                return Found(found[:limit], ListPosition(found[limit - 1].created, found[limit - 1].id))
            if end is None or time.monotonic() > deadline:
                return Found(found, end)
            place = end

    async def counts_over_time(
        self, states: Collection[str], since: datetime, until: datetime, step: timedelta
    ) -> list[StateCount]:
        """Return how many messages in each of these states came in each step of a time."""
        return await self._database.read(lambda c: history.counts_over_time(c, states, since, until, step))

    async def oldest_by_state(self, states: Collection[str]) -> Mapping[str, datetime]:
        """Return when the oldest message in each of these states came; a state without any lacks."""
        return await self._database.read(lambda c: history.oldest_by_state(c, states))

    async def has_any(self, state: str) -> bool:
        """Tell whether there is a message in a state, the history included."""
        return await self._database.read(lambda c: history.has_any(c, state))

    async def held_counts(self) -> Mapping[str, int]:
        """Return how many messages wait for each hold (`held_by`)."""
        return await self._database.read(history.held_counts)

    async def waiting_profiles(self) -> frozenset[str]:
        """Return whose messages are in the queue; "" is nobody's."""
        return await self._database.read(history.waiting_profiles)


def _compare(message: StoredMessage, found: ContentHash) -> None:
    """Raise Damaged where what was read is not what came."""
    if message.digest is not None and found.digest(message.id, message.envelope) != message.digest:
        raise Damaged("its content or envelope is not what came: its digest is another")


# So many contents are read together.
_MOST_TOGETHER = 20


class _ReadTogether:
    """Reads together what is asked for in one turn of the event loop. What `read` raises, all who asked raise."""

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[Mapping[str, ReadContent]]]) -> None:
        self._read = read
        self._ids: list[str] = []
        self._reading: asyncio.Task[Mapping[str, ReadContent]] | None = None

    async def ask(self, id_: str) -> ReadContent | None:
        """Return the content of a message; None where it was not read."""
        if self._reading is None or len(self._ids) >= _MOST_TOGETHER:
            self._ids = []
            self._reading = asyncio.create_task(self._read_all(self._ids))
        self._ids.append(id_)
        # Who is cancelled takes it from nobody else.
        return (await asyncio.shield(self._reading)).get(id_)

    async def _read_all(self, ids: list[str]) -> Mapping[str, ReadContent]:
        if self._ids is ids:
            self._reading = None
        return await self._read(ids)
