from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.secrets.master_key import key_source
from relay.secrets.vault import Vault
from relay.store.db.database import Database, open_database
from relay.store.people.secrets import SecretTable


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(tmp_path / "relay.db")
    yield database
    await database.close()


@pytest.fixture
def table(database: Database) -> SecretTable:
    return SecretTable(database)


@pytest.fixture
async def vault(table: SecretTable, tmp_path: Path) -> Vault:
    return await Vault.open(table, key_source("file:master.key", tmp_path, {}))
