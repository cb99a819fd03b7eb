from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Connection

from relay.secrets.secret_store import Difference, KeyChanged, Sealed, SecretStore
from relay.store.db.database import open_database
from relay.store.people import secrets as secrets_module
from relay.store.people.secrets import SecretTable
from tests.unit.store.store_kit import StorePlace

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
    await table.put("server/x", Sealed(b"sealed"), NOW, "b")
    assert await table.claim("a") == "b"
    assert await table.claim("b") == "b"
    await table.delete("server/x")
    assert await table.claim("a") == "a"


async def test_put_replaces_and_delete_removes(table: SecretTable) -> None:
    await table.claim("a")
    await table.put("server/x", Sealed(b"one"), NOW, "a")
    await table.put("server/x", Sealed(b"two"), NOW, "a")
    assert await table.get("server/x") == Sealed(b"two")
    assert await table.owners() == {"server/x": NOW}
    assert await table.delete("server/x")
    assert not await table.delete("server/x")
    assert await table.get("server/x") is None


async def test_nothing_is_put_under_another_key(table: SecretTable) -> None:
    with pytest.raises(KeyChanged):
        await table.put("server/x", Sealed(b"one"), NOW, "a")
    await table.claim("a")
    with pytest.raises(KeyChanged):
        await table.put("server/x", Sealed(b"one"), NOW, "b")
    assert await table.owners() == {}


async def test_reseal_is_all_or_nothing(table: SecretTable) -> None:
    await table.claim("a")
    for owner in ("server/x", "server/y"):
        await table.put(owner, Sealed(b"one"), NOW, "a")

    def break_at_y(owner: str, sealed: bytes) -> bytes:
        if owner == "server/y":
            raise RuntimeError("broken")
        return sealed + b" changed"

    with pytest.raises(RuntimeError, match="broken"):
        await table.reseal("a", "b", break_at_y)
    assert await table.get("server/x") == Sealed(b"one")
    assert await table.key_id() == "a"
    with pytest.raises(KeyChanged):
        await table.reseal("b", "c", lambda owner, sealed: sealed)
    await table.reseal("a", "b", lambda owner, sealed: owner.encode() + sealed)
    assert await table.get("server/x") == Sealed(b"server/xone")
    assert await table.key_id() == "b"
    assert await table.owners() == {"server/x": NOW, "server/y": NOW}


async def taken_in(table: SecretTable, mirror: dict[str, datetime]) -> Difference:
    """Bring a mirror of the owners up to date by the difference alone."""
    found = await table.difference(dict(mirror), with_sealed=True)
    assert found.sealed.keys() == found.changed.keys()
    for owner in found.gone:
        del mirror[owner]
    mirror |= found.changed
    return found


async def test_the_difference_is_what_others_changed_whatever_their_clocks_say(table: SecretTable) -> None:
    await table.claim("a")
    mirror: dict[str, datetime] = {}
    assert await taken_in(table, mirror) == Difference(changed={})
    chance, owners = Random(1), [f"profile/{number}" for number in range(8)]
    for step in range(60):
        for _ in range(chance.choice((1, 1, 3))):
            owner = chance.choice(owners)
            if chance.random() < 0.25:
                await table.delete(owner)
            else:
                late = timedelta(seconds=chance.choice((0, 0, 0, 30, 3600)), microseconds=chance.randrange(3))
                await table.put(owner, Sealed(f"{step}".encode()), NOW + timedelta(seconds=20 * step) - late, "a")
        found = await taken_in(table, mirror)
        assert mirror == await table.owners()
        assert {owner: await table.get(owner) for owner in found.sealed} == {
            owner: Sealed(value) for owner, value in found.sealed.items()
        }
        assert await taken_in(table, mirror) == Difference(changed={})


async def test_owners_are_looked_at_anew_where_that_is_asked(table: SecretTable) -> None:
    await table.claim("a")
    for owner in ("server/x", "server/y"):
        await table.put(owner, Sealed(owner.encode()), NOW, "a")
    known = await table.owners()
    found = await table.difference(known, {"server/x", "server/z"}, with_sealed=True)
    assert found == Difference(changed={"server/x": NOW}, sealed={"server/x": b"server/x"})
    assert await table.difference(known, {"server/x"}, with_sealed=False) == Difference(changed={"server/x": NOW})


async def test_a_change_of_one_among_many_reads_few(table: SecretTable, monkeypatch: pytest.MonkeyPatch) -> None:
    await table.claim("a")
    many = {f"profile/{number}": b"sealed" for number in range(1200)}
    await table.put_all({owner: Sealed(value) for owner, value in many.items()}, NOW, "a")
    mirror: dict[str, datetime] = {}
    assert (await taken_in(table, mirror)).sealed == many
    await table.put("profile/3", Sealed(b"new"), NOW + timedelta(hours=1), "a")
    await taken_in(table, mirror)
    await table.put("profile/7", Sealed(b"new"), NOW + timedelta(hours=2), "a")
    read: list[int] = []
    times = secrets_module._times

    def counting(connection: Connection, since: datetime | None = None) -> dict[str, datetime]:
        found = times(connection, since)
        read.append(len(found))
        return found

    monkeypatch.setattr(secrets_module, "_times", counting)
    assert (await taken_in(table, mirror)).sealed == {"profile/7": b"new"}
    assert read == [2], "the one before is so late, too"
