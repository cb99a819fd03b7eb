"""A postman over a store of its own and an upstream that is none."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.delivery import bookkeeper as module
from relay.delivery.accounts import Accounts
from relay.delivery.bookkeeper import Bookkeeper
from relay.delivery.desk import Desk
from relay.delivery.events import Journey
from relay.delivery.history import History
from relay.delivery.office import Office
from relay.delivery.postman import Postman
from relay.delivery.reporter import Reporter
from relay.delivery.schedule import Schedule
from relay.directory.model import Mode
from relay.directory.routing import Routing
from relay.directory.rules import parse_directory
from relay.mail.identity import Mismatch
from relay.secrets.keeper import SecretKeeper
from relay.secrets.key_source import KeyFile
from relay.secrets.vault import Vault
from relay.settings import Delivery
from relay.store.database import open_database
from relay.store.queue import Queue
from relay.store.secrets import SecretTable
from tests.unit.delivery.bench_kit import DIRECTORY, Bench, FakeUpstream, Maker


@pytest.fixture
async def postman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Postman]:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(module, "_TROUBLE_SECONDS", 0.01)
    database = await open_database(tmp_path / "relay.db")
    vault = await Vault.open(SecretTable(database), KeyFile(tmp_path / "master.key"))
    routing = Routing(parse_directory(DIRECTORY, "directory.toml"))
    office = Office(
        routing=lambda: routing,
        secrets=SecretKeeper(vault, {}, tmp_path),
        upstream=FakeUpstream(),
        tell=lambda _: None,
        mismatch=Mismatch.REWRITE,
    )
    schedule = Schedule.of(Delivery())
    queue = Queue(database, "test")
    books = Bookkeeper(office, queue, schedule, Reporter("relay.test", schedule))
    yield Postman(office, Accounts(schedule), books)
    await queue.aclose()
    await database.close()


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[Maker]:
    tmp_path.chmod(0o700)
    database = await open_database(tmp_path / "relay.db")
    queue = Queue(database, "test")
    vault = await Vault.open(SecretTable(database), KeyFile(tmp_path / "master.key"))
    keeper = SecretKeeper(vault, {}, tmp_path)
    routing = Routing(parse_directory(DIRECTORY, "directory.toml"))

    def make(upstream: FakeUpstream | None = None, **arguments: Any) -> Bench:
        upstream = upstream or FakeUpstream()
        journeys: list[Journey] = []
        arguments = {"mode": Mode.DIRECT, "profile_url": "http://relay.test/profile"} | arguments
        office = Office(
            routing=lambda: routing,
            secrets=keeper,
            upstream=upstream,
            tell=journeys.append,
            mismatch=Mismatch.REWRITE,
            **arguments,
        )
        schedule = Schedule.of(Delivery())
        accounts, reporter = Accounts(schedule), Reporter("relay.test", schedule)
        postman = Postman(office, accounts, Bookkeeper(office, queue, schedule, reporter))
        return Bench(Desk("relay.test", office, postman, History(queue)), upstream, journeys)

    yield make
    await queue.aclose()
    await database.close()
