"""The operation that tells of messages as they come and as their states change, for as long as somebody listens."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeAlias

from relay.control.context import ControlContext
from relay.control.messages.find import PAGE
from relay.control.messages.history import pages_of, wanted_of
from relay.control.messages.records import history_record
from relay.control.messages.results import FollowBegun, FollowQuiet, HistoryRecord
from relay.control.operation import Operation
from relay.control.refused import Refused
from relay.store.queue.history import QueueStates
from relay.store.queue.search import SearchCriteria
from relay.system.clock import utc_now

_Told: TypeAlias = HistoryRecord | FollowBegun | FollowQuiet

_LOOKS_EVERY = 1.0  # seconds
_QUIET = 60  # looks; after so many without news something is said anyhow, by which both sides notice an end
_MOST_WATCHED = 10_000  # messages that wait; a look at so many takes some 20 ms of a thread
_LATE = timedelta(seconds=5)  # the history is written behind: what is over is listed up to so much later
_MOST_FOLLOWERS = 10


class FollowOperation:
    """`messages.follow`: everybody who follows looks once a second, whatever happens."""

    def __init__(self, parts: ControlContext) -> None:
        self._parts = parts
        self._followers = 0
        self._is_over = asyncio.Event()

    def end(self) -> None:
        """Let everybody go who follows: the relay ends."""
        self._is_over.set()

    def operations(self) -> dict[str, Operation]:
        """Return the operations by name."""
        return {"messages.follow": Operation(self.follow, is_stream=True)}

    async def follow(
        self,
        *,
        sender: str | None = None,
        to: str | None = None,
        since: str | None = None,
        state: str | None = None,
        message_id: str | None = None,
    ) -> AsyncGenerator[list[_Told]]:
        """Yield the messages of `since` that all of this is true of, the newest first; then {"begun": true}.

        From then on yield each message that comes, or is in another state than before, as it is then; those of a second
        the oldest first. An empty object now and then means nothing. Of what waits the newest ten thousand are watched.
        """
        chosen = wanted_of(sender, to, since, state, message_id)
        if self._followers >= _MOST_FOLLOWERS:
            raise Refused(f"{_MOST_FOLLOWERS} others follow the messages already; end one of them first")
        self._followers += 1
        try:
            known = await self._look(utc_now())
            if chosen.since is not None:
                async for earlier in pages_of(self._parts, chosen):
                    yield [*earlier]
            yield [FollowBegun()]
            async for page in self._news(chosen._replace(since=None), known):
                yield page
        finally:
            self._followers -= 1

    async def _news(self, wanted: SearchCriteria, known: QueueStates) -> AsyncGenerator[list[_Told]]:
        quiet = 0
        while not await self._ends_within(_LOOKS_EVERY):
            now = await self._look(utc_now())
            others = list(news_between(known, now))
            known = now
            quiet = 0 if others else quiet + 1
            for start in range(0, len(others), PAGE):
                found = await self._parts.queue.among(wanted, others[start : start + PAGE])
                yield [history_record(self._parts, message) for message in found]
            if quiet == _QUIET:
                quiet = 0
                yield [FollowQuiet()]

    async def _ends_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_over.wait()
        return self._is_over.is_set()

    async def _look(self, now: datetime) -> QueueStates:
        return await self._parts.queue.look(now - _LATE - timedelta(seconds=_LOOKS_EVERY), _MOST_WATCHED)


def news_between(before: QueueStates, now: QueueStates, most: int = _MOST_WATCHED) -> Iterator[str]:
    """Yield the ids of messages that came or are in another state, the oldest of those that wait first.

    Where more wait than are watched, an older one moves up for each that is over: that is no news of it.
    """
    known = {**before.waiting, **before.over}
    waiting = list(now.waiting.items())
    if len(before.waiting) >= most:
        while waiting and waiting[-1][0] not in known:
            waiting.pop()
    for id_, state in (*reversed(waiting), *reversed(now.over.items())):
        if known.get(id_) != state:
            yield id_
