"""`relay backup` and `relay restore`: what comes back, what is held, and what is refused before anything is touched."""

import asyncio
import io
import json
import os
import sqlite3
import stat
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.delivery.outcome import State
from relay.store.db.sqlite import keep_copy
from relay.store.db.tables import HEAD
from tests.unit.cli.cli_kit import CommandLine
from tests.unit.control.queue_kit import BYTES, attempt, new, stored
from tests.unit.store.store_kit import open_queue

WAITS, SENDING, DONE = "aaaaaaaaaaaa111111111111", "bbbbbbbbbbbb111111111111", "cccccccccccc111111111111"


@pytest.fixture
def full(peopled: CommandLine) -> CommandLine:
    """A relay with a password and three messages: one waits, one is being handed over, one is delivered."""
    peopled.good("channel", "password", "support", "--password-stdin", "--unchecked", stdin="geheim\n")
    under_way = replace(attempt(), ended=None, final_dot=True)
    peopled.store(
        new(stored(id=WAITS)),
        replace(new(stored(State.SENDING, id=SENDING)), attempt=under_way),
        new(stored(State.DELIVERED, id=DONE)),
    )
    return peopled


@pytest.fixture
def backup(full: CommandLine, tmp_path: Path) -> Path:
    file = tmp_path / "relay.tar.gz"
    full.good("backup", str(file))
    return file


def state_files(relay: CommandLine) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in relay.state_dir.iterdir() if path.is_file()}


def content_of(relay: CommandLine, id_: str) -> bytes:
    """The message in the store."""

    async def read() -> bytes:
        async with open_queue(relay.state_dir / "relay.db") as queue:
            return b"".join([chunk async for chunk in queue.chunks(id_)])

    return asyncio.run(read())


def lose_everything(relay: CommandLine) -> None:
    for path in relay.state_dir.iterdir():
        path.unlink()


def repacked(file: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Write a backup anew, with other files in it."""
    with tarfile.open(file) as archive:
        files = {name: (archive.extractfile(name) or io.BytesIO()).read() for name in archive.getnames()}
    change(files)
    with tarfile.open(file, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_a_backup_is_one_private_file_with_all_of_it(full: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "relay.tar.gz"
    assert full.good("backup", str(file)) == f"{file}: relay.db, directory.toml, relay.toml, master.key\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        assert archive.getnames() == ["manifest.json", "relay.db", "directory.toml", "relay.toml", "master.key"]
        manifest = json.load(archive.extractfile("manifest.json") or io.BytesIO())
    assert (manifest["schema"], manifest["files"][0]) == (HEAD, "relay.db")
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


def test_what_was_lost_comes_back_and_what_waited_is_held(full: CommandLine, backup: Path) -> None:
    lose_everything(full)
    assert full("queue", "list").out == "the queue is empty\n"
    lose_everything(full)
    said = full.good("restore", str(backup)).splitlines()
    assert said[0].startswith("restored as of ")
    assert said[1].startswith("held: 2 messages that waited and may have been sent since; see relay queue list")
    found = {one["id"]: one for one in full.ask("queue", "list")}
    assert {id_: one["state"] for id_, one in found.items()} == {WAITS: "held", SENDING: "held"}
    assert all("it may have been sent since" in one["reason"] for one in found.values())
    assert full.ask("messages", "show", DONE)["state"] == "delivered"
    assert full.ask("channel", "show", "support")["password_set"]
    assert full.good("secrets", "list").count("vault") == 1
    assert "password of" not in full.good("check")
    assert content_of(full, WAITS) == BYTES


def test_what_was_sent_half_has_an_attempt_that_ended(full: CommandLine, backup: Path) -> None:
    lose_everything(full)
    full.good("restore", str(backup))
    (last,) = full.ask("queue", "show", SENDING)["attempts"]
    assert last["ended"] is not None
    assert "a backup was taken in the middle of this attempt" in last["reply"]


def test_what_is_there_is_kept_beside(full: CommandLine, backup: Path) -> None:
    full.good("channel", "add", "later", "--address", "later@acmejets.example")
    before = state_files(full)
    record = json.loads(full.good("restore", str(backup), "--json"))
    kept = {Path(path).name.split(".2")[0]: Path(path).read_bytes() for path in record["kept"]}
    assert kept["directory.toml"] == before["directory.toml"]
    assert set(kept) >= {"relay.db", "directory.toml", "master.key"}
    assert "later" not in full.good("channel", "list")
    assert (record["held"], record["settings_differ"]) == (2, False)


def test_a_second_backup_replaces_the_first_and_nothing_else(full: CommandLine, backup: Path, tmp_path: Path) -> None:
    full.good("backup", str(backup))
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    done = full("backup", str(letter))
    assert (done.code, letter.read_text()) == (1, "dear")
    assert f"{letter} is not a backup of relay" in done.err


def test_without_the_key_the_key_must_be_there(full: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "relay.tar.gz"
    assert full.good("backup", str(file), "--without-key").endswith("relay.toml; the master key is not in it\n")
    full.good("restore", str(file))
    assert full.ask("channel", "show", "support")["password_set"]
    (full.state_dir / "master.key").unlink()
    before = state_files(full)
    done = full("restore", str(file))
    assert (done.code, state_files(full)) == (1, before)
    assert "master key" in done.err


def test_a_relay_that_runs_is_backed_up_and_not_overwritten(full: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "relay.tar.gz"
    with full.running():
        full.good("backup", str(file))
        done = full("restore", str(file))
    assert done.code == 1
    assert "stop it first" in done.err


def test_other_settings_are_told(full: CommandLine, backup: Path) -> None:
    full.settings_file.write_text(full.settings_file.read_text() + '[log]\nlevel = "debug"\n')
    done = full("restore", str(backup))
    assert done.code == 0
    assert "the settings are others than in the backup" in done.err
    assert 'level = "debug"' in full.settings_file.read_text()


def _newer(files: dict[str, bytes]) -> None:
    files["relay.db"] = _database("UPDATE alembic_version SET version_num = '0999'", files["relay.db"])


def _database(statement: str, content: bytes) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    connection.execute(statement)
    connection.commit()
    changed = connection.serialize()
    connection.close()
    return changed


def _damaged(files: dict[str, bytes]) -> None:
    content = files["relay.db"]
    files["relay.db"] = content[:8192] + b"\xa5" * (len(content) - 8192)


def _stranger(files: dict[str, bytes]) -> None:
    manifest = json.loads(files["manifest.json"])
    manifest["files"].append("../../etc/passwd")
    files["manifest.json"] = json.dumps(manifest).encode()


def _other_key(files: dict[str, bytes]) -> None:
    files["master.key"] = b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_newer, "was made by a newer relay"),
        (_damaged, "is damaged"),
        (_stranger, "is not a backup that this relay knows"),
        (_other_key, "key"),
        (lambda files: files.pop("manifest.json"), "it has no manifest"),
        (lambda files: files.pop("relay.db"), "is not a backup of relay, or a damaged one"),
    ],
)
def test_what_cannot_be_restored_touches_nothing(
    change: Callable[[dict[str, bytes]], None], words: str, full: CommandLine, backup: Path
) -> None:
    repacked(backup, change)
    before = state_files(full)
    done = full("restore", str(backup))
    assert done.code == 1
    assert words in done.err
    assert state_files(full) == before
    assert [path for path in full.state_dir.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\0\0\0\0\0"])
def test_what_is_no_archive_is_one_sentence(content: bytes, full: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "relay.tar.gz"
    assert full("restore", str(file)).err == f"there is no backup {file}\n"
    file.write_bytes(content)
    done = full("restore", str(file))
    assert f"{file} is not a backup of relay" in done.err
    assert done.err.count("\n") == 1


def test_the_copy_that_a_migration_kept_is_put_back_as_a_backup_is(full: CommandLine) -> None:
    path = full.state_dir / "relay.db"
    copy = keep_copy(path, "0007")
    full.good("queue", "remove", WAITS)
    said = full.good("restore", str(copy)).splitlines()
    assert said[0].startswith("restored as of ")
    assert [line.split(".2")[0] for line in said[1:-1]] == [f"  what was there before is in {path}"]
    assert said[-1].startswith("held: 2 messages that waited")
    assert {one["id"]: one["state"] for one in full.ask("queue", "list")} == {WAITS: "held", SENDING: "held"}
    assert full.ask("channel", "show", "support")["password_set"]
    assert content_of(full, WAITS) == BYTES
    assert copy.exists()


def test_nothing_to_back_up_is_said(relay: CommandLine, tmp_path: Path) -> None:
    done = relay("backup", str(tmp_path / "relay.tar.gz"))
    assert (done.code, "there is nothing to back up" in done.err) == (1, True)
    assert [path.name for path in tmp_path.iterdir() if "tar" in path.name] == []


@pytest.mark.needs("root")
def test_what_root_restores_belongs_to_whom_the_folder_does(full: CommandLine, backup: Path) -> None:
    for path in (full.state_dir, *full.state_dir.iterdir()):
        os.chown(path, 12345, 12345)
    full.good("restore", str(backup))
    assert {path.name: path.stat().st_uid for path in full.state_dir.iterdir() if path.stat().st_uid != 12345} == {}
