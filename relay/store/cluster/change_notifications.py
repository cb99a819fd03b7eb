"""The bulletin: what one relay commits, the others at the same database know of, at once or a second later.

The database calls us when a change is committed, on a connection that does nothing else. Should it not call, we look by
ourselves once a second: a connection is lost, or something between us and the database passes no calls on. What counts
are the numbers in the database (`relay.store.cluster.topics`), so a call that is lost or comes twice is no matter.
After a database that could not be read everything is looked at, once, and so it is where another one answers than
before: a replica that took its place may have other changes under the same numbers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import Connection

from relay import log
from relay.secrets.sources import SecretUnavailable
from relay.store.cluster.topics import Topic, all_numbers
from relay.store.db.database import Database
from relay.store.db.errors import StoreError

_LOOK_SECONDS = 1.0
_CALL_SECONDS = 5.0  # before we let the database call us again
_REST_SECONDS = 0.1  # many changes in a row are one look

Look = Callable[[], Awaitable[object]]


class _Read(NamedTuple):
    """The number of each topic, and which instance of the database has told it."""

    instance: str
    numbers: Mapping[str, int]


class Bulletin:
    """Follows the topics that somebody asked for by `on`, for as long as `run` goes on.

    Costs nothing where no other machine can use the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._told: list[Callable[[], None]] = []
        self._looks: dict[Topic, list[Look]] = {}
        self._seen: dict[Topic, int] = {}
        self._instance = ""
        self._wake = asyncio.Event()
        self._is_away = False

    def on(self, topic: Topic, look: Look) -> None:
        """Let something be called once at the start, and whenever the number of a topic is another."""
        self._looks.setdefault(topic, []).append(look)

    def tell(self, told: Callable[[], None]) -> None:
        """Let something be called after anything was looked at."""
        self._told.append(told)

    async def run(self) -> None:
        """Follow for ever."""
        if not self._database.is_shared:
            return
        calls = asyncio.create_task(self._be_called())
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

    async def _be_called(self) -> None:
        while True:
            with suppress(StoreError):  # the look says it
                await self._database.be_called(self._wake.set)
            await asyncio.sleep(_CALL_SECONDS)

    async def _look(self) -> None:
        """Look at what has changed; what cannot be looked at now is looked at the next time."""
        try:
            instance, numbers = await self._database.read(self._read)
            if instance != self._instance:
                self._seen.clear()
            self._instance = instance
            for topic, looks in self._looks.items():
                number = numbers.get(topic, 0)
                if number != self._seen.get(topic):
                    for look in looks:
                        await look()
                    self._seen[topic] = number
                    for told in self._told:
                        told()
        except (StoreError, SecretUnavailable) as error:
            self._seen.clear()
            if not self._is_away:
                log.broken(f"what other relays change is not known: {error}")
            self._is_away = True
        else:
            if self._is_away:
                log.changed(what="store", state="what other relays change is known again")
            self._is_away = False

    def _read(self, connection: Connection) -> _Read:
        return _Read(self._database.instance(connection), all_numbers(connection))
