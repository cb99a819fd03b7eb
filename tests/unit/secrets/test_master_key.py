import asyncio
import stat
from pathlib import Path

import pytest

from relay.secrets import master_key as module
from relay.secrets.master_key import MasterKey, MasterKeyError, key_source


def text_of(key: MasterKey) -> str:
    return key.as_text().decode()


def test_a_missing_file_is_made_private_and_read_again(tmp_path: Path) -> None:
    source = key_source("file:master.key", tmp_path, {})
    assert source.read() is None
    key = source.create()
    path = tmp_path / "master.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = source.read()
    assert again is not None
    assert again.id == key.id
    assert path.read_bytes().count(b"\n") == 1


def test_an_absolute_file_is_taken_as_it_is(tmp_path: Path) -> None:
    key_source(f"file:{tmp_path}/a.key", Path("/nowhere"), {}).create()
    assert (tmp_path / "a.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o644])
def test_a_key_that_others_could_read_is_refused(tmp_path: Path, mode: int) -> None:
    source = key_source("file:master.key", tmp_path, {})
    source.create()
    (tmp_path / "master.key").chmod(mode)
    with pytest.raises(MasterKeyError, match=f"chmod 600 {tmp_path}/master.key"):
        source.read()


def test_a_key_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "master.key").mkdir(mode=0o700)
    with pytest.raises(MasterKeyError, match="cannot be read"):
        key_source("file:master.key", tmp_path, {}).read()


@pytest.mark.parametrize("content", [b"", b"AAAA", b"\xff" * 32])
def test_a_garbled_file_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(MasterKeyError, match=str(path)):
        key_source("file:master.key", tmp_path, {}).read()
    assert path.read_bytes() == content


def test_a_key_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MasterKeyError, match="cannot be kept"):
        key_source("file:file/master.key", tmp_path, {}).create()


def test_from_the_environment(tmp_path: Path) -> None:
    key, successor = MasterKey.new(), MasterKey.new()
    source = key_source("env:KEY", tmp_path, {"KEY": text_of(key), "KEY_NEW": text_of(successor)})
    assert [found and found.id for found in (source.read(), source.read_next())] == [key.id, successor.id]
    assert source.prepare_next().id == successor.id


def test_from_a_credential(tmp_path: Path) -> None:
    key = MasterKey.new()
    (tmp_path / "relay-key").write_bytes(key.as_text())  # systemd sets the mode of its files
    source = key_source("credential:relay-key", Path("/nowhere"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    found = source.read()
    assert found is not None
    assert found.id == key.id
    with pytest.raises(MasterKeyError, match="LoadCredential"):
        key_source("credential:relay-key", tmp_path, {}).read()


def test_a_key_that_was_not_given_is_one_sentence_with_what_to_do(tmp_path: Path) -> None:
    source = key_source("env:KEY", tmp_path, {})
    assert source.read() is None
    with pytest.raises(MasterKeyError, match=r"no master key was given in env:KEY; make one with: head -c 32"):
        source.create()
    with pytest.raises(MasterKeyError, match=r"give the new key in env:KEY_NEW"):
        source.prepare_next()


def test_a_garbled_variable_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyError) as caught:
        key_source("env:KEY", tmp_path, {"KEY": "CANARY passphrase"}).read()
    assert "CANARY" not in str(caught.value)
    assert "env:KEY" in str(caught.value)


@pytest.mark.parametrize("spec", ["", "master.key", "command:cat key", "vault:x", "file:~no-such-user-here/k"])
def test_other_specs_are_refused(tmp_path: Path, spec: str) -> None:
    with pytest.raises(MasterKeyError, match=r"secrets\.master_key is written as"):
        key_source(spec, tmp_path, {})


async def test_the_lock_makes_the_folder_and_keeps_the_second_waiting(tmp_path: Path) -> None:
    source = key_source("file:state/master.key", tmp_path, {})
    order: list[str] = []
    held, release = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with source.locked():
            held.set()
            await release.wait()
            order.append("first")

    async def second() -> None:
        await held.wait()
        asyncio.get_running_loop().call_soon(release.set)
        async with key_source("file:state/master.key", tmp_path, {}).locked():
            order.append("second")

    await asyncio.wait_for(asyncio.gather(first(), second()), 10)
    assert order == ["first", "second"]
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


async def test_a_lock_that_stays_taken_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.1)
    source = key_source("file:master.key", tmp_path, {})
    async with source.locked():
        with pytest.raises(MasterKeyError, match="another relay process"):
            async with source.locked():
                pass
