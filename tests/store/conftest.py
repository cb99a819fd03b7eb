from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.store.queue import Queue
from tests.peers import postgres as peer
from tests.peers.postgres import Postgres
from tests.store.store_kit import StorePlace, empty_store, in_postgres, open_queue

# The contract of the store holds in both databases, so its tests run over both.
BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.needs(*peer.NEEDS)))


@pytest.fixture(scope="session")
def empty(postgres: Postgres) -> str:
    """The database that each new store in PostgreSQL begins as: with its tables, and nothing in them."""
    return empty_store(postgres)


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorePlace]:
    """Where a test has its store."""
    if request.param == "sqlite":
        yield tmp_path / "relay.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.new_database(like=request.getfixturevalue("empty"))
    yield in_postgres(server, name)
    server.drop_database(name)


@pytest.fixture
async def queue(place: StorePlace) -> AsyncIterator[Queue]:
    async with open_queue(place) as opened:
        yield opened
