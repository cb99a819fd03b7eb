"""What one relay commits, the others at the same database know of: at once, and without being called a second later."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from relay.secrets.secret_store import Sealed
from relay.store.cluster import change_notifications
from relay.store.cluster.change_notifications import ChangeNotifications
from relay.store.db.database import Database, Topic, all_numbers, open_database
from relay.store.db.errors import StoreError
from relay.store.people.secrets import SecretTable
from relay.store.queue.messages import HoldRow
from relay.store.queue.queue import Queue
from tests.peers import postgres as peer
from tests.peers.moments import a_while
from tests.peers.postgres import Postgres, postgres_server
from tests.unit.store.store_kit import NOW, in_postgres, open_queue

HOLD = HoldRow(
    server="acmejets",
    username="mailer@acmejets.example",
    address="",
    meaning="login-refused",
    reason="535",
    since=NOW,
    until=None,
    probes=0,
    next_probe=None,
)
LISTENING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN %%' AND datname = %s"


@dataclass
class Seen:
    """Who follows, and what it looked at."""

    topics: list[Topic] = field(default_factory=list)
    error: Exception | None = None

    def look(self, topic: Topic) -> Callable[[], Any]:
        async def look() -> None:
            if self.error is not None:
                raise self.error
            self.topics.append(topic)

        return look


@asynccontextmanager
async def following(database: Database) -> AsyncIterator[Seen]:
    seen = Seen()
    changes = ChangeNotifications(database)
    for topic in Topic:
        changes.on(topic, seen.look(topic))
    task = asyncio.create_task(changes.run())
    yield seen
    task.cancel()
    await asyncio.wait({task})


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so, for 20 s at most."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  another process does it
            await asyncio.sleep(0.01)


@pytest.fixture
def name(postgres: Postgres, empty: str) -> str:
    return postgres.new_database(like=empty)


@pytest.fixture
async def two(postgres: Postgres, name: str) -> AsyncIterator[tuple[Queue, Database]]:
    """Who changes, and who follows."""
    async with open_queue(in_postgres(postgres, name), "one") as queue:
        other = await open_database(in_postgres(postgres, name))
        yield queue, other
        await other.close()


@pytest.mark.needs(*peer.NEEDS)
async def test_a_change_is_known_at_once(
    two: tuple[Queue, Database], postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_notifications, "_LOOK_SECONDS", 60.0)  # only a call can do it
    queue, other = two
    async with following(other) as seen:
        await until(lambda: set(seen.topics) == set(Topic) and postgres.sql(name, LISTENING, name))
        await a_while(0.3)
        seen.topics.clear()
        await queue.put_hold(HOLD)
        await until(lambda: seen.topics)
        await queue.drop_hold("acmejets", "mailer@acmejets.example", "")
        await until(lambda: len(seen.topics) == 2)
        assert seen.topics == [Topic.HOLDS, Topic.HOLDS]
        secrets = SecretTable(other)
        await secrets.claim("a")
        await secrets.put("server/x", Sealed(b"sealed"), NOW, "a")
        await until(lambda: seen.topics[2:] == [Topic.SECRETS])


@pytest.mark.needs(*peer.NEEDS)
async def test_who_is_not_called_looks(
    two: tuple[Queue, Database], postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_notifications, "_CALL_SECONDS", 60.0)  # nobody calls within the time of this test
    queue, other = two
    async with following(other) as seen:
        await until(lambda: set(seen.topics) == set(Topic) and postgres.sql(name, LISTENING, name))
        postgres.sql(name, f"SELECT pg_terminate_backend(pid) FROM ({LISTENING}) AS found", name)
        await until(lambda: not postgres.sql(name, LISTENING, name))
        seen.topics.clear()
        await queue.put_hold(HOLD)
        await until(lambda: seen.topics == [Topic.HOLDS])


@pytest.mark.needs(*peer.NEEDS)
async def test_what_is_undone_raises_no_number(two: tuple[Queue, Database]) -> None:
    queue, other = two
    assert await other.read(all_numbers) == {}
    assert not await queue.drop_hold("acmejets", "nobody", "")
    assert await other.read(all_numbers) == {}

    def fails(connection: Connection) -> None:
        other.announce(connection, Topic.HOLDS)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await other.write(fails)
    assert await other.read(all_numbers) == {}
    await queue.put_hold(HOLD)
    await queue.put_hold(HOLD)
    assert await other.read(all_numbers) == {Topic.HOLDS: 2}


@pytest.mark.needs(*peer.NEEDS)
async def test_what_could_not_be_looked_at_is_looked_at_again(two: tuple[Queue, Database]) -> None:
    queue, other = two
    async with following(other) as seen:
        await until(lambda: set(seen.topics) == set(Topic))
        seen.topics.clear()
        seen.error = StoreError("not now")
        await queue.put_hold(HOLD)
        await a_while(0.5)
        assert seen.topics == []
        seen.error = None
        await until(lambda: Topic.HOLDS in seen.topics)


@pytest.mark.slow
@pytest.mark.needs(*peer.NEEDS)
async def test_a_database_that_was_away_is_looked_at_once() -> None:
    with postgres_server() as server:
        database = await open_database(in_postgres(server, server.new_database()))
        async with following(database) as seen:
            await until(lambda: set(seen.topics) == set(Topic))
            await asyncio.to_thread(server.kill)
            await a_while(1.5)  # one look at least
            seen.topics.clear()
            await asyncio.to_thread(server.start)
            await until(lambda: set(seen.topics) == set(Topic))
            await a_while(2.5)  # and no more
            assert len(seen.topics) == len(Topic)
        await database.close()


@pytest.mark.slow
@pytest.mark.needs(*peer.NEEDS)
async def test_another_server_is_looked_at_though_no_look_met_a_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica in its place may have other changes under the same numbers."""
    monkeypatch.setattr(change_notifications, "_LOOK_SECONDS", 60.0)
    monkeypatch.setattr(change_notifications, "_CALL_SECONDS", 5.0)  # when it listens again, which wakes it
    with postgres_server() as server:
        database = await open_database(in_postgres(server, server.new_database()))
        async with following(database) as seen:
            await until(lambda: set(seen.topics) == set(Topic))
            await a_while(0.5)  # the call with which listening begins is heard, too
            seen.topics.clear()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await until(lambda: set(seen.topics) == set(Topic))
            assert len(seen.topics) == len(Topic)
        await database.close()


async def test_in_a_file_who_is_woken_looks_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_notifications, "_LOOK_SECONDS", 60.0)  # only the word of the other can do it
    other, looks = await open_database(tmp_path / "relay.db"), asyncio.Queue[int]()

    async def look() -> None:
        looks.put_nowait(1)

    async def fail() -> None:
        raise StoreError("the store is away")

    async with open_queue(tmp_path / "relay.db") as queue:
        changes = ChangeNotifications(other)
        changes.on(Topic.HOLDS, look)
        changes.each_time(fail)
        loop = asyncio.get_running_loop()

        def announced() -> None:
            loop.call_soon_threadsafe(changes.wake)

        queue._database.on_announced = announced
        task = asyncio.create_task(changes.run())
        await looks.get()
        for _ in range(3):
            await queue.put_hold(HOLD)
            async with asyncio.timeout(20):  # a minute is what it takes without
                await looks.get()
        task.cancel()
        await asyncio.wait({task})
    await other.close()


async def test_what_is_undone_calls_nobody(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "relay.db")
    called = list[int]()
    database.on_announced = lambda: called.append(1)

    def fails(connection: Connection) -> None:
        database.announce(connection, Topic.HOLDS)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await database.write(fails)
    await database.write(lambda _: None)
    assert called == []
    await database.write(lambda connection: database.announce(connection, Topic.HOLDS))
    assert called == [1]
    await database.close()
