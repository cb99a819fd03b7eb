from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.store.db.tables import metadata
from relay.store.queue.queue import Queue
from tests.peers import postgres as peer
from tests.peers.postgres import Postgres
from tests.unit.store.store_kit import StorePlace, empty_store, in_postgres, open_queue

# The contract of the store holds in both databases, so its tests run over both.
BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.needs(*peer.NEEDS)))


@pytest.fixture(scope="session")
def empty(postgres: Postgres) -> str:
    """The database that each new store in PostgreSQL begins as: with its tables, and nothing in them."""
    return empty_store(postgres)


@pytest.fixture(scope="module")
def of_this_file(postgres: Postgres, empty: str) -> str:
    """A database for the tests of one file. To empty it takes an eighth of the time of making another one."""
    return postgres.new_database(like=empty)


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePlace:
    """Where a test has its store."""
    if request.param == "sqlite":
        return tmp_path / "relay.db"
    server: Postgres = request.getfixturevalue("postgres")
    name = request.getfixturevalue("of_this_file")
    server.sql(name, "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)))
    return in_postgres(server, name)


@pytest.fixture
async def queue(place: StorePlace) -> AsyncIterator[Queue]:
    async with open_queue(place) as opened:
        yield opened
