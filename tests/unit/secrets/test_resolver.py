import asyncio
import os
from pathlib import Path

import pytest

from relay.secrets import resolver as module
from relay.secrets.master_key import MasterKey, key_source
from relay.secrets.resolver import SecretResolver
from relay.secrets.secret import SecretRef
from relay.secrets.sources import SecretUnavailable, Source, read_source
from relay.secrets.vault import Vault
from relay.store.people.secrets import SecretTable

VAULT = SecretRef("server/a", "")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def environ() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]}


@pytest.fixture
def keeper(vault: Vault, tmp_path: Path, clock: Clock, environ: dict[str, str]) -> SecretResolver:
    return SecretResolver(vault, environ, tmp_path, clock)


async def value(keeper: SecretResolver, ref: SecretRef) -> str | None:
    secret = await keeper.secret(ref)
    return secret.value if secret else None


def counting(folder: Path, tail: str = "") -> str:
    """A command whose secret is how often it ran."""
    (folder / "script").write_text(f"echo x >>{folder}/count\nwc -l <{folder}/count\n{tail}")
    return f"command:sh {folder}/script"


async def test_the_order_of_places(keeper: SecretResolver, vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("from the file\n")
    await vault.put("server/a", "from the vault")
    assert await value(keeper, SecretRef("server/a", "", "file:pw", "inline")) == "from the file"
    assert await value(keeper, SecretRef("server/a", "", "", "inline")) == "inline"
    assert await value(keeper, VAULT) == "from the vault"
    assert await value(keeper, SecretRef("server/b", "")) is None


async def test_is_set_tells_without_reading(keeper: SecretResolver, vault: Vault) -> None:
    assert not keeper.is_set(VAULT)
    await vault.put("server/a", "x")
    assert keeper.is_set(VAULT)
    assert keeper.is_set(SecretRef("server/b", "", "file:missing"))
    assert keeper.is_set(SecretRef("server/b", "", "", "inline"))
    assert not keeper.is_set(SecretRef("server/b", ""))
    await vault.delete("server/a")
    assert not keeper.is_set(VAULT)


async def test_the_same_value_has_the_same_version_wherever_it_is(
    keeper: SecretResolver, vault: Vault, tmp_path: Path
) -> None:
    (tmp_path / "pw").write_text("hunter2\n")
    await vault.put("server/a", "hunter2")
    refs = [VAULT, SecretRef("server/a", "", "file:pw"), SecretRef("server/a", "", "", "hunter2")]
    assert len({(await keeper.secret(ref)) for ref in refs}) == 1


async def test_a_file_is_read_again_when_it_changed(
    keeper: SecretResolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []

    async def counted(source: Source, environ: dict[str, str], folder: Path) -> str:
        reads.append(source)
        return await read_source(source, environ, folder)

    monkeypatch.setattr(module, "read_source", counted)
    ref, path = SecretRef("server/a", "", "file:pw"), tmp_path / "pw"
    path.write_text("one\n")
    assert [await value(keeper, ref) for _ in range(3)] == ["one"] * 3
    assert len(reads) == 1
    path.write_text("two!\n")
    assert await value(keeper, ref) == "two!"
    replacement = tmp_path / "new"
    replacement.write_text("3333\n")
    replacement.replace(path)
    assert await value(keeper, ref) == "3333"
    path.unlink()
    with pytest.raises(SecretUnavailable, match="No such file"):
        await keeper.secret(ref)
    path.write_text("back\n")
    assert await value(keeper, ref) == "back"


async def test_a_variable_is_read_every_time(keeper: SecretResolver, environ: dict[str, str]) -> None:
    ref = SecretRef("server/a", "", "env:PW")
    environ["PW"] = "one"
    assert await value(keeper, ref) == "one"
    environ["PW"] = "two"
    assert await value(keeper, ref) == "two"


async def test_a_credential_is_kept_like_a_file(
    keeper: SecretResolver, environ: dict[str, str], tmp_path: Path
) -> None:
    environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    (tmp_path / "mail").write_text("one\n")
    assert await value(keeper, SecretRef("server/a", "", "credential:mail")) == "one"


async def test_a_commands_answer_is_kept_for_five_minutes(keeper: SecretResolver, tmp_path: Path, clock: Clock) -> None:
    ref = SecretRef("server/a", "", counting(tmp_path))
    assert await value(keeper, ref) == "1"
    clock.now += 299
    assert await value(keeper, ref) == "1"
    clock.now += 2
    assert await value(keeper, ref) == "2"
    keeper.forget(ref)
    assert await value(keeper, ref) == "3"
    keeper.forget(VAULT)
    assert await value(keeper, ref) == "3"


async def test_who_asks_at_the_same_time_shares_one_run(keeper: SecretResolver, tmp_path: Path) -> None:
    source = counting(tmp_path)
    refs = [SecretRef(f"profile/{number}", "", source) for number in range(10)]
    assert await asyncio.gather(*(value(keeper, ref) for ref in refs)) == ["1"] * 10


async def test_a_failing_command_rests_ten_seconds(keeper: SecretResolver, tmp_path: Path, clock: Clock) -> None:
    ref = SecretRef("server/a", "", counting(tmp_path, "exit 2"))
    for _ in range(3):
        with pytest.raises(SecretUnavailable, match=r"^the command 'sh' failed with exit status 2$"):
            await keeper.secret(ref)
    assert (tmp_path / "count").read_text() == "x\n"
    counting(tmp_path)
    clock.now += 10
    assert await value(keeper, ref) == "2"


async def test_a_command_sees_the_environment_without_the_master_key(table: SecretTable, tmp_path: Path) -> None:
    given = {
        "PATH": os.environ["PATH"],
        "RELAY_KEY": MasterKey.new().as_text().decode().strip(),
        "RELAY_KEY_NEW": MasterKey.new().as_text().decode().strip(),
        "RELAY_KEY_HINT": "stays",
    }
    vault = await Vault.open(table, key_source("env:RELAY_KEY", tmp_path, given))
    keeper = SecretResolver(vault, given, tmp_path)
    (tmp_path / "script").write_text('echo "${RELAY_KEY-none} ${RELAY_KEY_NEW-none} $RELAY_KEY_HINT"\n')
    assert await value(keeper, SecretRef("server/a", "", f"command:sh {tmp_path}/script")) == "none none stays"


async def test_a_command_sees_every_variable_where_the_key_is_in_a_file(
    keeper: SecretResolver, environ: dict[str, str], tmp_path: Path
) -> None:
    environ["RELAY_KEY"] = "no key"
    (tmp_path / "script").write_text('echo "$RELAY_KEY"\n')
    assert await value(keeper, SecretRef("server/a", "", f"command:sh {tmp_path}/script")) == "no key"


async def test_a_source_that_is_none_is_one_sentence(keeper: SecretResolver) -> None:
    with pytest.raises(SecretUnavailable, match="is written as"):
        await keeper.secret(SecretRef("server/a", "", "hunter2"))


async def test_a_key_that_another_process_changed_out_of_reach_is_a_secret_that_is_not_to_be_had(
    keeper: SecretResolver, vault: Vault, tmp_path: Path
) -> None:
    await vault.put("server/a", "x")
    old = (tmp_path / "master.key").read_bytes()
    other = await Vault.open(vault._store, vault._source)
    await other.rotate()
    (tmp_path / "master.key").write_bytes(old)
    with pytest.raises(SecretUnavailable, match="is not the one of this store"):
        await keeper.secret(VAULT)


async def test_nothing_in_the_resolver_shows_a_secret(keeper: SecretResolver, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("CANARY\n")
    await keeper.secret(SecretRef("server/a", "", "file:pw"))
    assert "CANARY" not in repr(vars(keeper))
