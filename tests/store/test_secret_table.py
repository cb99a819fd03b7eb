from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from relay.secrets.vault import KeyChanged, SecretStore
from relay.store.database import open_database
from relay.store.secrets import SecretTable
from tests.store.store_kit import StorePlace

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
async def table(place: StorePlace) -> AsyncIterator[SecretTable]:
    database = await open_database(place)
    yield SecretTable(database)
    await database.close()


async def test_it_is_the_vaults_port(table: SecretTable) -> None:
    port: SecretStore = table
    assert await port.key_id() is None
    assert await port.owners() == {}


async def test_an_empty_store_takes_any_key_and_a_filled_one_keeps_its(table: SecretTable) -> None:
    assert await table.claim("a") == "a"
    assert await table.claim("b") == "b"
    await table.put("server/x", b"sealed", NOW, "b")
    assert await table.claim("a") == "b"
    assert await table.claim("b") == "b"
    await table.delete("server/x")
    assert await table.claim("a") == "a"


async def test_put_replaces_and_delete_removes(table: SecretTable) -> None:
    await table.claim("a")
    await table.put("server/x", b"one", NOW, "a")
    await table.put("server/x", b"two", NOW, "a")
    assert await table.get("server/x") == b"two"
    assert await table.owners() == {"server/x": NOW}
    assert await table.delete("server/x")
    assert not await table.delete("server/x")
    assert await table.get("server/x") is None


async def test_nothing_is_put_under_another_key(table: SecretTable) -> None:
    with pytest.raises(KeyChanged):
        await table.put("server/x", b"one", NOW, "a")
    await table.claim("a")
    with pytest.raises(KeyChanged):
        await table.put("server/x", b"one", NOW, "b")
    assert await table.owners() == {}


async def test_reseal_is_all_or_nothing(table: SecretTable) -> None:
    await table.claim("a")
    for owner in ("server/x", "server/y"):
        await table.put(owner, b"one", NOW, "a")

    def break_at_y(owner: str, sealed: bytes) -> bytes:
        if owner == "server/y":
            raise RuntimeError("broken")
        return sealed + b" changed"

    with pytest.raises(RuntimeError, match="broken"):
        await table.reseal("a", "b", break_at_y)
    assert await table.get("server/x") == b"one"
    assert await table.key_id() == "a"
    with pytest.raises(KeyChanged):
        await table.reseal("b", "c", lambda owner, sealed: sealed)
    await table.reseal("a", "b", lambda owner, sealed: owner.encode() + sealed)
    assert await table.get("server/x") == b"server/xone"
    assert await table.key_id() == "b"
    assert await table.owners() == {"server/x": NOW, "server/y": NOW}
