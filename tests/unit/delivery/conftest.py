"""Delivery over a store of its own and an upstream that is none."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.delivery import recorder as module
from relay.delivery.events import Journey
from relay.directory.model import Mode
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.secrets.master_key import KeyFile
from relay.secrets.resolver import SecretResolver
from relay.secrets.vault import Vault
from relay.store.db.database import open_database
from relay.store.people.secrets import SecretTable
from relay.store.queue.queue import Queue
from tests.unit.delivery.bench_kit import DIRECTORY, Bench, DeliveryKit, FakeUpstream, Maker, make_delivery


@pytest.fixture
async def delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DeliveryKit]:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(module, "_TROUBLE_SECONDS", 0.01)
    database = await open_database(tmp_path / "relay.db")
    vault = await Vault.open(SecretTable(database), KeyFile(tmp_path / "master.key"))
    routing = Routing(parse_directory(DIRECTORY, "directory.toml"))
    queue = Queue(database, "test")
    yield make_delivery(queue, SecretResolver(vault, {}, tmp_path), routing, FakeUpstream())
    await queue.aclose()
    await database.close()


@pytest.fixture
async def make_bench(tmp_path: Path) -> AsyncIterator[Maker]:
    tmp_path.chmod(0o700)
    database = await open_database(tmp_path / "relay.db")
    queue = Queue(database, "test")
    vault = await Vault.open(SecretTable(database), KeyFile(tmp_path / "master.key"))
    keeper = SecretResolver(vault, {}, tmp_path)
    routing = Routing(parse_directory(DIRECTORY, "directory.toml"))

    def make(upstream: FakeUpstream | None = None, **arguments: Any) -> Bench:
        upstream = upstream or FakeUpstream()
        journeys: list[Journey] = []
        arguments = {"mode": Mode.DIRECT, "profile_url": "http://relay.test/profile"} | arguments
        delivery = make_delivery(queue, keeper, routing, upstream, tell=journeys.append, **arguments)
        return Bench(delivery.acceptance, upstream, journeys)

    yield make
    await queue.aclose()
    await database.close()
