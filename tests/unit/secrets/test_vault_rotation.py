"""A change of keys that is cut in two by SIGKILL, at each of its steps in a real process, loses no secret."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from relay.secrets.master_key import MasterKey, MasterKeyError, key_source, seal
from relay.secrets.secret_store import Sealed
from relay.secrets.vault import SecretBroken, Vault
from relay.store.db.database import Database, open_database
from relay.store.people.secrets import SecretTable

pytestmark = pytest.mark.slow

CHILD = Path(__file__).with_name("rotate_and_die.py")
SECRETS = {f"profile/p{number}": f"secret {number}" for number in range(5)}

BEFORE_THE_COMMIT = [
    "before the next key",
    "next key written, not synced",
    "next key synced, not in place",
    "next key in place",
    "transaction, at secret 1",
    "transaction, at secret 5",
]
AFTER_THE_COMMIT = ["committed, old key in place", "new key in place", "rotated, store open"]


async def check_all(vault: Vault) -> None:
    for owner, text in SECRETS.items():
        secret = await vault.get(owner)
        assert secret is not None
        assert secret.value == text


async def opened(database: Database, state_dir: Path) -> Vault:
    return await Vault.open(SecretTable(database), key_source("file:master.key", state_dir, {}))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run_child(state_dir: Path, step: str) -> int:
    done = subprocess.run([sys.executable, CHILD, state_dir, step], check=False, timeout=60, capture_output=True)
    return done.returncode


@pytest.mark.parametrize("step", BEFORE_THE_COMMIT + AFTER_THE_COMMIT)
async def test_killed_at_each_step(tmp_path: Path, step: str) -> None:
    database = await open_database(tmp_path / "relay.db")
    vault = await opened(database, tmp_path)
    for owner, text in SECRETS.items():
        await vault.put(owner, text)
    await database.close()

    assert run_child(tmp_path, step) == -signal.SIGKILL

    database = await open_database(tmp_path / "relay.db")
    try:
        again = await opened(database, tmp_path)
        assert (again.key_id == vault.key_id) == (step in BEFORE_THE_COMMIT)
        await check_all(again)
        assert not (tmp_path / "master.key.new").exists()
        assert MasterKey.parse((tmp_path / "master.key").read_bytes(), "").id == again.key_id
        await again.rotate()  # and the next change is not disturbed by the one that died
        await check_all(await opened(database, tmp_path))
    finally:
        await database.close()
    assert names(tmp_path) == {"master.key", "relay.db"}


async def test_the_child_of_these_tests_rotates_when_nothing_kills_it(vault: Vault, tmp_path: Path) -> None:
    await vault.put("server/a", "one")
    assert run_child(tmp_path, "never") == 0
    assert (await Vault.open(vault._store, vault._source)).key_id != vault.key_id


async def test_rotation_gives_new_versions_and_an_old_key_that_opens_nothing(
    vault: Vault, table: SecretTable, tmp_path: Path
) -> None:
    await vault.put("server/a", "one")
    old_key, old = (tmp_path / "master.key").read_bytes(), await vault.get("server/a")
    await vault.rotate()
    new = await vault.get("server/a")
    assert new is not None
    assert old is not None
    assert new.value == "one"
    assert new.version != old.version
    with pytest.raises(MasterKeyError, match="is not the one of this store"):
        await Vault.open(table, key_source("env:K", tmp_path, {"K": old_key.decode()}))


async def test_rotation_refuses_to_lose_a_damaged_secret(vault: Vault, table: SecretTable) -> None:
    await vault.put("server/a", "one")
    key_id = vault.key_id
    changed = vault.owners()["server/a"]
    await table.put("server/b", Sealed(seal(MasterKey.new(), "server/b", "x")), changed, key_id)
    with pytest.raises(SecretBroken, match="server/b"):
        await vault.rotate()
    assert await table.key_id() == key_id
    secret = await vault.get("server/a")
    assert secret is not None
    assert secret.value == "one"


async def test_a_key_from_the_environment_is_changed_by_who_gives_it(table: SecretTable, tmp_path: Path) -> None:
    old, new = MasterKey.new().as_text().decode(), MasterKey.new().as_text().decode()
    vault = await Vault.open(table, key_source("env:K", tmp_path, {"K": old}))
    await vault.put("server/a", "one")
    with pytest.raises(MasterKeyError, match="give the new key in env:K_NEW"):
        await vault.rotate()
    vault = await Vault.open(table, key_source("env:K", tmp_path, {"K": old, "K_NEW": new}))
    await vault.rotate()
    for environ in ({"K": old, "K_NEW": new}, {"K": new}):
        secret = await (await Vault.open(table, key_source("env:K", tmp_path, environ))).get("server/a")
        assert secret is not None
        assert secret.value == "one"
    with pytest.raises(MasterKeyError, match="is not the one"):
        await Vault.open(table, key_source("env:K", tmp_path, {"K": old}))
