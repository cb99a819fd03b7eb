"""Change notifications: what one process commits, all others at the same store know of, at once or a second later.

Who commits a change raises the number of its topic (`relay.store.db.database`). All others read the numbers once a
second, by one small query, and look at what has another number than before. `wake` makes that at once: the workers of a
machine tell each other "look now", and PostgreSQL calls us on a connection that does nothing else (`is_called`). What
counts are the numbers, so a call that is lost or comes twice is no matter.

After a store that could not be read everything is looked at, once, and so it is where another database answers than
before: a replica that took its place may have other changes under the same numbers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import Connection

from relay import log
from relay.secrets.sources import SecretUnavailable
from relay.store.db.database import Database, Topic, all_numbers
from relay.store.db.errors import StoreError

_LOOK_SECONDS = 1.0
_CALL_SECONDS = 5.0  # before we let the database call us again
_REST_SECONDS = 0.1  # many changes in a row are one look

Look = Callable[[], Awaitable[object]]


class _Read(NamedTuple):
    """The number of each topic, and which instance of the database has told it."""

    instance: str
    numbers: Mapping[str, int]


class ChangeNotifications:
    """Follows the topics that somebody asked for by `on`, for as long as `run` goes on.

    `is_called`: the database calls this process, which is one of its machine; `on_call` is called then, too.
    """

    def __init__(self, database: Database, *, is_called: bool = True) -> None:
        self._database = database
        self._is_called = is_called
        self.on_call: Callable[[], None] = lambda: None
        self._told: list[Callable[[], None]] = []
        self._looks: dict[Topic, list[Look]] = {}
        self._each_time: list[Look] = []
        self._seen: dict[Topic, int] = {}
        self._instance = ""
        self._wake = asyncio.Event()
        self._is_away = False

    def on(self, topic: Topic, look: Look) -> None:
        """Let something be called once at the start, and whenever the number of a topic is another."""
        self._looks.setdefault(topic, []).append(look)

    def each_time(self, look: Look) -> None:
        """Let something be called once a second and with every `wake`: what it looks at has no number."""
        self._each_time.append(look)

    def tell(self, told: Callable[[], None]) -> None:
        """Let something be called after anything was looked at."""
        self._told.append(told)

    def wake(self) -> None:
        """Look now: another process has changed something."""
        self._wake.set()

    async def run(self) -> None:
        """Follow for ever."""
        calls = asyncio.create_task(self._listen())
        try:
            while True:
                self._wake.clear()
                await self._look()
                await asyncio.sleep(_REST_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._wake.wait()
        finally:
            calls.cancel()
            await asyncio.wait({calls})

    async def _listen(self) -> None:
        while self._is_called and self._database.is_shared:
            with suppress(StoreError):  # the look says it
                await self._database.listen(self._called)
            await asyncio.sleep(_CALL_SECONDS)

    def _called(self) -> None:
        self.wake()
        self.on_call()

    async def _look(self) -> None:
        """Look at what has changed; what cannot be looked at now is looked at the next time."""
        failure: Exception | None = None
        try:
            await self._look_at_topics()
        except (StoreError, SecretUnavailable) as error:
            self._seen.clear()
            failure = error
        for look in self._each_time:
            try:
                await look()
            except (StoreError, SecretUnavailable) as error:
                failure = error
        if failure is not None and not self._is_away:
            log.broken(f"what other processes change is not known: {failure}")
        if failure is None and self._is_away:
            log.changed(what="store", state="what other processes change is known again")
        self._is_away = failure is not None

    async def _look_at_topics(self) -> None:
        instance, numbers = await self._database.read(self._read)
        if instance != self._instance:
            self._seen.clear()
        self._instance = instance
        for topic, looks in self._looks.items():
            number = numbers.get(topic, 0)
            if number == self._seen.get(topic):
                continue
            for look in looks:
                await look()
            self._seen[topic] = number
            for told in self._told:
                told()

    def _read(self, connection: Connection) -> _Read:
        return _Read(self._database.instance(connection), all_numbers(connection))
