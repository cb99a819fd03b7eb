"""A postman over a store of its own and an upstream that is none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.delivery import bookkeeper as module
from relay.delivery.accounts import Accounts
from relay.delivery.bookkeeper import Bookkeeper
from relay.delivery.office import Office
from relay.delivery.postman import Postman
from relay.delivery.reporter import Reporter
from relay.delivery.schedule import Schedule
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
from tests.unit.delivery.test_submission import DIRECTORY, FakeUpstream


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
