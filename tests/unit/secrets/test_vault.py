import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, select, update

from relay.secrets.master_key import MasterKey, MasterKeyError, SealBroken, key_source, seal, unseal
from relay.secrets.secret_store import Sealed
from relay.secrets.vault import SecretBroken, SecretRefused, Vault
from relay.store.db.database import Database
from relay.store.db.errors import StoreError
from relay.store.db.tables import secrets
from relay.store.people.secrets import SecretTable

KEY = MasterKey(b"k" * 32)


async def reopened(table: SecretTable, state_dir: Path) -> Vault:
    return await Vault.open(table, key_source("file:master.key", state_dir, {}))


async def value(vault: Vault, owner: str) -> str | None:
    secret = await vault.get(owner)
    return secret.value if secret else None


@given(st.text(max_size=30), st.text(max_size=200))
def test_what_was_sealed_opens_for_its_owner(owner: str, text: str) -> None:
    assert unseal(KEY, owner, seal(KEY, owner, text)) == text


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        unseal(KEY, "server/a", sealed)


def test_every_single_changed_bit_is_noticed() -> None:
    sealed = seal(KEY, "server/a", "hunter2")
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(SealBroken):
            unseal(KEY, "server/a", bytes(changed))


def test_another_owner_or_key_does_not_open_it_and_no_two_seals_are_alike() -> None:
    sealed = seal(KEY, "server/a", "hunter2")
    assert sealed != seal(KEY, "server/a", "hunter2")
    with pytest.raises(SealBroken):
        unseal(KEY, "server/b", sealed)
    with pytest.raises(SealBroken):
        unseal(MasterKey(b"l" * 32), "server/a", sealed)


async def test_put_get_delete_and_who_has_one(vault: Vault, table: SecretTable, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    await vault.put("server/b", "one")
    await vault.put("profile/a", "zwei mit Ümlaut")
    assert await value(vault, "server/b") == "one"
    await vault.put("server/b", "three")
    assert await value(vault, "server/b") == "three"
    assert list(vault.owners()) == ["profile/a", "server/b"]
    assert before <= vault.owners()["profile/a"] <= before + timedelta(minutes=1)
    again = await reopened(table, tmp_path)
    assert again.owners() == vault.owners()
    assert await value(again, "profile/a") == "zwei mit Ümlaut"
    assert await vault.delete("server/b")
    assert not await vault.delete("server/b")
    assert await vault.get("server/b") is None
    assert not vault.has("server/b")


async def test_a_version_stays_with_its_value(vault: Vault, table: SecretTable, tmp_path: Path) -> None:
    await vault.put("server/a", "one")
    first = await vault.get("server/a")
    again = await (await reopened(table, tmp_path)).get("server/a")
    await vault.put("server/a", "two")
    second = await vault.get("server/a")
    assert first == again == vault.secret_of("one")
    assert second is not None
    assert first is not None
    assert first.version != second.version


@pytest.mark.parametrize("text", ["", "a\nb", "a\r", "a\0b"])
async def test_what_is_no_password_is_refused(vault: Vault, text: str) -> None:
    with pytest.raises(SecretRefused, match="one line"):
        await vault.put("server/a", text)
    assert not vault.has("server/a")


async def test_swapped_secrets_do_not_open(
    vault: Vault, table: SecretTable, database: Database, tmp_path: Path
) -> None:
    """Who can write the database could give a profile the server's password; the owner's name is sealed in."""
    await vault.put("server/a", "admin")
    await vault.put("profile/b", "mine")

    def swap(connection: Connection) -> None:
        rows = {row.owner: row.sealed for row in connection.execute(select(secrets))}
        for owner, other in (("server/a", "profile/b"), ("profile/b", "server/a")):
            connection.execute(update(secrets).where(secrets.c.owner == owner).values(sealed=rows[other]))

    await database.write(swap)
    again = await reopened(table, tmp_path)
    for owner in ("server/a", "profile/b"):
        with pytest.raises(SecretBroken, match=f"the stored secret of {owner} was damaged or moved there") as caught:
            await again.get(owner)
        assert "admin" not in str(caught.value)
        assert "mine" not in str(caught.value)
    await again.put("profile/b", "new")
    assert await value(again, "profile/b") == "new"


async def test_concurrent_puts_all_arrive(vault: Vault, table: SecretTable, tmp_path: Path) -> None:
    async def put_and_get(number: int) -> None:
        await vault.put(f"profile/{number % 7}", f"secret {number}")
        found = await value(vault, f"profile/{number % 7}")
        assert found is not None
        assert int(found.split()[1]) >= number

    await asyncio.gather(*(put_and_get(number) for number in range(40)))
    again = await reopened(table, tmp_path)
    for owner in range(7):
        assert await value(again, f"profile/{owner}") == await value(vault, f"profile/{owner}")


async def test_a_wrong_key_is_one_sentence(vault: Vault, table: SecretTable, tmp_path: Path) -> None:
    await vault.put("server/a", "hunter2")
    other = MasterKey.new()
    with pytest.raises(MasterKeyError) as caught:
        await Vault.open(table, key_source("env:KEY", tmp_path, {"KEY": other.as_text().decode()}))
    assert str(caught.value) == (
        f"the master key is not the one of this store: the secrets are sealed under key {vault.key_id}, "
        f"and the key given is {other.id}; put the right one back from your backup. "
        "If it is lost for good, stop relay, remove the secrets (the mail that waits stays) with "
        f"sqlite3 {tmp_path}/relay.db 'DELETE FROM secrets' and set every password again"
    )
    assert await table.key_id() == vault.key_id


async def test_a_lost_key_is_one_sentence_and_no_new_one_is_made(
    vault: Vault, table: SecretTable, tmp_path: Path
) -> None:
    await vault.put("server/a", "hunter2")
    content = (tmp_path / "master.key").read_bytes()
    (tmp_path / "master.key").unlink()
    with pytest.raises(MasterKeyError, match=r"master\.key is missing, and the stored secrets are sealed under it"):
        await reopened(table, tmp_path)
    assert not (tmp_path / "master.key").exists()
    (tmp_path / "master.key").write_bytes(content)
    (tmp_path / "master.key").chmod(0o600)
    assert await value(await reopened(table, tmp_path), "server/a") == "hunter2"


async def test_a_key_that_seals_nothing_may_go(vault: Vault, table: SecretTable, tmp_path: Path) -> None:
    (tmp_path / "master.key").unlink()
    again = await reopened(table, tmp_path)
    assert again.key_id != vault.key_id
    await again.put("server/a", "hunter2")
    assert await value(again, "server/a") == "hunter2"


async def test_a_vault_with_an_outdated_key_does_not_seal_under_it(
    vault: Vault, table: SecretTable, tmp_path: Path
) -> None:
    other = await reopened(table, tmp_path)
    await vault.put("server/a", "one")
    await other.rotate()
    await vault.put("server/b", "two")
    assert vault.key_id == other.key_id
    await other.refresh()
    assert await value(other, "server/b") == "two"


async def test_a_vault_with_an_outdated_key_reads_under_the_new_one(
    vault: Vault, table: SecretTable, tmp_path: Path
) -> None:
    await vault.put("server/a", "one")
    other, third = await reopened(table, tmp_path), await reopened(table, tmp_path)
    await other.rotate()
    assert await value(third, "server/a") == "one"
    assert third.key_id == other.key_id


async def test_refresh_sees_what_another_process_did(vault: Vault, table: SecretTable, tmp_path: Path) -> None:
    await vault.put("server/a", "one")
    await vault.get("server/a")
    other = await reopened(table, tmp_path)
    await other.put("server/a", "two")
    await other.put("server/b", "x")
    await vault.refresh()
    assert await value(vault, "server/a") == "two"
    assert vault.has("server/b")


async def test_get_notices_a_secret_that_another_process_removed(
    vault: Vault, table: SecretTable, tmp_path: Path
) -> None:
    await vault.put("server/a", "one")
    await (await reopened(table, tmp_path)).delete("server/a")
    assert await vault.get("server/a") is None
    assert not vault.has("server/a")


async def test_no_secret_and_no_key_is_in_the_files(vault: Vault, tmp_path: Path) -> None:
    await vault.put("server/a", "CANARY-password")
    key = (tmp_path / "master.key").read_bytes().strip()
    for path in (tmp_path / "relay.db", tmp_path / "relay.db-wal"):
        content = path.read_bytes()
        assert b"server/a" in content or path.suffix == ".db"
        assert b"CANARY" not in content
        assert key not in content


class CountingTable(SecretTable):
    """A table that counts what is read, and can be broken."""

    reads = 0
    is_broken = False

    async def get(self, owner: str) -> Sealed | None:
        self.reads += 1
        return await super().get(owner)

    async def reseal(self, old_id: str, new_id: str, change: Callable[[str, bytes], bytes]) -> None:
        if self.is_broken:
            raise OSError("the disk is gone")
        await super().reseal(old_id, new_id, change)

    async def owners(self) -> Mapping[str, datetime]:
        return await super().owners()


async def test_an_opened_secret_is_read_once(database: Database, tmp_path: Path) -> None:
    table = CountingTable(database)
    vault = await reopened(table, tmp_path)
    await vault.put("server/a", "one")
    await asyncio.gather(*(vault.get("server/a") for _ in range(5)))
    assert table.reads <= 5
    table.reads = 0
    assert await value(vault, "server/a") == "one"
    assert table.reads == 0


async def test_a_rotation_that_fails_leaves_everything_as_it_was(database: Database, tmp_path: Path) -> None:
    table = CountingTable(database)
    vault = await reopened(table, tmp_path)
    await vault.put("server/a", "one")
    key_id, table.is_broken = vault.key_id, True
    with pytest.raises(OSError, match="disk is gone"):
        await vault.rotate()
    assert vault.key_id == key_id
    assert await value(vault, "server/a") == "one"
    again = await reopened(table, tmp_path)
    assert again.key_id == key_id
    assert not (tmp_path / "master.key.new").exists()


async def test_many_secrets_are_kept_at_once_or_none(table: SecretTable, tmp_path: Path) -> None:
    vault = await reopened(table, tmp_path)
    await vault.put("profile/a1", "old")
    await vault.put_all({f"profile/a{number}": f"secret {number}" for number in range(1200)}, {})
    for number in (0, 1, 1199):
        secret = await vault.get(f"profile/a{number}")
        assert secret is not None
        assert secret.value == f"secret {number}"
    with pytest.raises(SecretRefused):
        await vault.put_all({"profile/b": "good", "profile/a1": "two\nlines"}, {})
    assert not vault.has("profile/b")
    assert len((await reopened(table, tmp_path)).owners()) == 1200


async def test_what_others_did_not_change_stays_opened(
    vault: Vault, table: SecretTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that mail goes on by it where the store is lost then."""
    for owner in ("server/a", "server/b"):
        await vault.put(owner, "one")
        await vault.get(owner)
    await vault.follow()
    other = await reopened(table, tmp_path)
    await other.put("server/b", "two")
    await vault.follow()

    async def away(_: SecretTable, owner: str) -> bytes | None:
        raise StoreError(f"{owner}: the store cannot be reached")

    with monkeypatch.context() as broken:
        broken.setattr(SecretTable, "get", away)
        assert await value(vault, "server/a") == "one"
        with pytest.raises(StoreError):
            await vault.get("server/b")
    assert await value(vault, "server/b") == "two"
    await other.rotate()
    await vault.follow()
    assert await value(vault, "server/a") == "one"


async def test_a_login_is_checked_by_what_was_read_last_while_the_store_is_away(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await vault.put("login/jane", "record")
    assert await vault.latest_known("login/jane") == await vault.get("login/jane")

    async def away(_: SecretTable, owner: str) -> bytes | None:
        raise StoreError(f"{owner}: the store cannot be reached")

    monkeypatch.setattr(SecretTable, "get", away)
    for _ in range(2):
        known = await vault.latest_known("login/jane")
        assert known is not None
        assert known.value == "record"
    with pytest.raises(StoreError):
        await vault.latest_known("login/john")
    with pytest.raises(StoreError):
        await vault.latest("login/jane")


class LostTable(SecretTable):
    """A table whose store can be away; `writes_still` where only its answers are lost."""

    is_away = writes_still = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._lost(found) if iscoroutinefunction(found) and self.is_away else found

    def _lost(self, call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[None]]:
        async def lost(*arguments: Any, **named: Any) -> None:
            if self.writes_still and call.__name__.startswith(("put", "delete")):
                await call(*arguments, **named)
            raise StoreError("the store cannot be reached")

        return lost


@pytest.fixture
def lost(database: Database) -> LostTable:
    return LostTable(database)


async def copying(table: SecretTable, state_dir: Path) -> Vault:
    """A vault that has all secrets in memory."""
    vault = await Vault.open(table, key_source("file:master.key", state_dir, {}), keeps_copies=True)
    await vault.follow()
    return vault


async def test_secrets_that_nobody_used_are_there_while_the_store_is_away(
    vault: Vault, lost: LostTable, tmp_path: Path
) -> None:
    await vault.put_all({"server/a": "one", "login/jane": "record"}, {})
    copied = await copying(lost, tmp_path)
    await vault.put("server/a", "two")
    await vault.put("server/b", "new")
    await vault.delete("login/jane")
    await vault.put("login/jane", "other record")
    await copied.follow()
    lost.is_away = True
    assert [await value(copied, owner) for owner in ("server/a", "server/b")] == ["two", "new"]
    assert await copied.get("server/a") == await vault.get("server/a"), "of the same version"
    jane = await copied.latest_known("login/jane")
    assert jane is not None
    assert jane.value == "other record"
    assert await copied.latest_known("login/nobody") is None, "as always, so that names cannot be told apart"
    for ask in (copied.latest, copied.get):
        with pytest.raises(StoreError):
            await ask("login/nobody")


async def test_copies_are_sealed_until_they_are_used(lost: LostTable, tmp_path: Path, vault: Vault) -> None:
    await vault.put_all({f"profile/{number}": f"CANARY {number}" for number in range(3)}, {})
    copied = await copying(lost, tmp_path)
    assert len(copied._copies) == 3
    assert copied._opened == {}
    assert not any(b"CANARY" in copy for copy in copied._copies.values())
    lost.is_away = True
    assert await value(copied, "profile/1") == "CANARY 1"
    assert list(copied._opened) == ["profile/1"]


async def test_a_copy_that_changed_places_does_not_open(vault: Vault, lost: LostTable, tmp_path: Path) -> None:
    await vault.put_all({"server/a": "admin", "profile/b": "mine"}, {})
    copied = await copying(lost, tmp_path)
    copied._copies["profile/b"] = copied._copies["server/a"]
    lost.is_away = True
    with pytest.raises(StoreError):
        await copied.get("profile/b")
    lost.is_away = False
    assert await value(copied, "profile/b") == "mine"


@pytest.mark.parametrize("writes_still", [False, True])
async def test_what_could_not_be_written_leaves_what_was_until_the_store_is_back(
    vault: Vault, lost: LostTable, tmp_path: Path, writes_still: bool
) -> None:
    await vault.put_all({"server/a": "old", "server/b": "old"}, {})
    copied = await copying(lost, tmp_path)
    lost.is_away, lost.writes_still = True, writes_still
    with pytest.raises(StoreError):
        await copied.put("server/a", "new")
    with pytest.raises(StoreError):
        await copied.delete("server/b")
    for _ in range(2):
        assert [await value(copied, owner) for owner in ("server/a", "server/b")] == ["old", "old"]
    lost.is_away = False
    await copied.follow()
    assert await value(copied, "server/a") == ("new" if writes_still else "old")
    assert await value(copied, "server/b") == (None if writes_still else "old")
    assert copied.has("server/b") is not writes_still


async def test_copies_follow_a_change_of_keys(vault: Vault, lost: LostTable, tmp_path: Path) -> None:
    await vault.put("server/a", "one")
    copied = await copying(lost, tmp_path)
    lost.is_away = True
    await vault.rotate()
    assert await value(copied, "server/a") == "one", "by the key that was"
    lost.is_away = False
    await copied.follow()
    await copied.rotate()
    await copied.follow()
    await vault.rotate()
    await copied.follow()
    lost.is_away = True
    assert copied.key_id == vault.key_id
    assert await value(copied, "server/a") == "one"
    assert await copied.get("server/a") == await vault.get("server/a")


async def test_a_look_that_failed_is_taken_again(vault: Vault, lost: LostTable, tmp_path: Path) -> None:
    copied = await copying(lost, tmp_path)
    await vault.put("server/a", "one")
    stamp = await lost.stamp()

    async def known_stamp() -> object:
        return stamp

    lost.is_away, lost.stamp = True, known_stamp  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        await copied.follow()
    lost.is_away = False
    await copied.follow()
    lost.is_away = True
    assert await value(copied, "server/a") == "one"


async def test_a_secret_is_for_the_place_that_it_was_put_for(vault: Vault, table: SecretTable, tmp_path: Path) -> None:
    await vault.put("server/a", "one", bound_to="mail.a.example")
    assert vault.is_for("server/a", "mail.a.example")
    assert not vault.is_for("server/a", "mail.b.example")
    await vault.bind({"server/a": "mail.b.example"})
    assert vault.bound_to("server/a") == "mail.a.example", "what is bound stays so"
    await vault.bind({"server/a": "mail.b.example"}, again=True)
    assert (await reopened(table, tmp_path)).is_for("server/a", "mail.b.example")
    assert await value(vault, "server/a") == "one"


async def test_what_nobody_bound_is_bound_once(vault: Vault, table: SecretTable) -> None:
    await vault.put("server/a", "one")
    await vault.put("login/jane", "hash")
    assert vault.unbound == ["server/a"]
    assert not vault.is_for("server/a", "mail.a.example"), "until it is bound it may go nowhere"
    await vault.bind({"server/a": "mail.a.example", "server/none": "nowhere"})
    assert vault.unbound == []
    assert await table.bound() == {"server/a": "mail.a.example"}
    assert (vault.is_for("server/a", "mail.a.example"), vault.is_for("server/a", "mail.b.example")) == (True, False)


async def test_what_is_being_bound_counts_for_that_place_and_no_other(
    vault: Vault, table: SecretTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends while the store writes is not told that there is no password."""
    await vault.put("server/a", "one")
    may_write, bind = asyncio.Event(), table.bind

    async def slow(bound_to: Mapping[str, str], *, again: bool) -> None:
        await may_write.wait()
        await bind(bound_to, again=again)

    monkeypatch.setattr(table, "bind", slow)
    binding = asyncio.create_task(vault.bind({"server/a": "mail.a.example"}))
    await asyncio.sleep(0)
    assert (vault.is_for("server/a", "mail.a.example"), vault.is_for("server/a", "mail.b.example")) == (True, False)
    assert vault.unbound == []
    await bind({"server/a": "mail.b.example"}, again=False)  # another node is first
    may_write.set()
    await binding
    assert vault.bound_to("server/a") == "mail.b.example"


async def test_what_an_older_node_writes_is_bound_when_it_is_seen(
    vault: Vault, table: SecretTable, tmp_path: Path
) -> None:
    """It knows no places: its new secret has none, also where an import of it takes the place of one that had."""
    await vault.put("server/a", "one", bound_to="mail.a.example")
    older = await reopened(table, tmp_path)
    await older.put_all({"server/a": "two", "server/b": "three"}, {})
    await vault.follow()
    assert sorted(vault.unbound) == ["server/a", "server/b"]
    assert not vault.is_for("server/a", "mail.a.example")
    await vault.bind({"server/a": "mail.c.example", "server/b": "mail.b.example"})
    assert await table.bound() == {"server/a": "mail.c.example", "server/b": "mail.b.example"}
    assert await value(vault, "server/a") == "two"


async def test_what_could_not_be_bound_goes_nowhere_and_is_bound_later(
    vault: Vault, table: SecretTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    await vault.put("server/a", "one")
    with monkeypatch.context() as patch:

        async def away(bound_to: Mapping[str, str], *, again: bool) -> None:
            raise OSError("the store is away")

        patch.setattr(table, "bind", away)
        with pytest.raises(OSError, match="away"):
            await vault.bind({"server/a": "mail.a.example"})
    assert not vault.is_for("server/a", "mail.a.example")
    assert vault.unbound == ["server/a"]


async def test_another_vault_follows_a_new_place_and_a_new_password(
    vault: Vault, table: SecretTable, tmp_path: Path
) -> None:
    """In no moment the other one has the new password as one for the old place, or the old one for the new place."""
    await vault.put("server/a", "old", bound_to="old.example")
    other = await Vault.open(table, key_source("file:master.key", tmp_path, {}), keeps_copies=True)
    await other.follow()
    assert await value(other, "server/a") == "old"

    await vault.put("server/a", "new", bound_to="new.example")
    assert (await value(other, "server/a"), other.bound_to("server/a")) == ("old", "old.example")
    assert not other.is_for("server/a", "new.example")
    assert await other.latest("server/a") == await vault.get("server/a")
    assert other.bound_to("server/a") == "new.example"

    await vault.bind({"server/a": "newest.example"}, again=True)
    assert not other.is_for("server/a", "newest.example")
    await other.follow()
    assert (await value(other, "server/a"), other.bound_to("server/a")) == ("new", "newest.example")
