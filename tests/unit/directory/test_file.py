"""directory.toml on disk: read, polled, and changed so that nothing is ever lost."""

import fcntl
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.config.faults import Fault, Faults
from relay.directory import file as module
from relay.directory.directory import Directory
from relay.directory.edit import add_entry, remove_entry, set_entry
from relay.directory.file import DirectoryFile, Fingerprint
from relay.directory.kinds import CHANNEL, SCRIPT, SERVER, set_default
from relay.directory.storage import ChangeRefused, DirectoryChanged
from relay.directory.values import EditRefused
from tests.unit.directory.directory_kit import HOUSE

HERE = Path(__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "directory.toml"
    file.write_text(HOUSE)
    return file


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def to_shared(document: Any) -> None:
    set_default(document, "shared")


def move_default(document: Any) -> None:
    """Make an edit that gives a good directory again: nobody overrides on the new default server."""
    add_entry(document, SERVER, "new", {"host": "n.example", "username": "n@acme.example"})
    set_default(document, "new")


def test_a_file_that_is_not_there_is_an_empty_directory(tmp_path: Path) -> None:
    file = DirectoryFile(tmp_path / "directory.toml")
    snapshot = file.read()
    assert (snapshot.directory, snapshot.state) == (Directory(), Fingerprint())
    assert file.fingerprint() == snapshot.state
    assert file.warnings(snapshot.directory) == ()


def test_a_change_makes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "directory.toml"
    directory = DirectoryFile(path).change(move_default).directory
    assert directory.default_server == "new"
    assert DirectoryFile(path).read().directory == directory
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_change_is_noticed(path: Path) -> None:
    file = DirectoryFile(path)
    seen = file.read().state
    assert file.fingerprint() == seen
    path.write_text(HOUSE + "\n")
    assert file.fingerprint() != seen
    seen = file.read().state
    file.change(move_default)
    assert file.fingerprint() != seen
    path.unlink()
    assert file.fingerprint() != seen


def test_faults_name_the_file(path: Path) -> None:
    path.write_text("default_server = 5\nservers = = 1")
    with pytest.raises(Faults, match="line 2, column 11: this is not TOML") as caught:
        DirectoryFile(path).read()
    assert [fault.file for fault in caught.value.faults] == [str(path)]


def test_a_folder_in_its_place_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Faults, match="it cannot be read: Is a directory"):
        DirectoryFile(tmp_path).read()


def test_an_edit_that_makes_a_bad_directory_is_refused(path: Path) -> None:
    with pytest.raises(Faults, match=r"channels\.sales\.override: the default server 'shared' is internal"):
        DirectoryFile(path).change(lambda document: document.update(default_server="shared"))
    assert path.read_text() == HOUSE
    assert names_in(path.parent) == [".directory.toml.lock", "directory.toml"]


def test_an_edit_that_refuses_leaves_the_file(path: Path) -> None:
    with pytest.raises(EditRefused):
        DirectoryFile(path).change(lambda document: set_default(document, "nowhere"))
    assert path.read_text() == HOUSE


def test_an_edit_mends_a_bad_directory(path: Path) -> None:
    path.write_text("default_server = 'a'\n[servers.a]\nhost = 'h'\nport = 0\n")
    DirectoryFile(path).change(lambda document: set_entry(document, SERVER, "a", {"port": 25}))
    assert DirectoryFile(path).read().directory.servers["a"].port == 25


def test_what_stands_elsewhere_is_checked_before_the_file_is_written(path: Path) -> None:
    fault = Fault("relay.toml", "policy", "no")
    file = DirectoryFile(path, lambda directory: [fault] if directory.default_server == "new" else [])
    assert file.read().directory.default_server == "custom"
    with pytest.raises(Faults) as caught:
        file.change(move_default)
    assert caught.value.faults == (fault,)
    assert path.read_text() == HOUSE


def test_an_edit_by_hand_in_the_meantime_is_not_overwritten(path: Path) -> None:
    by_hand = HOUSE.replace("Jane.Doe", "jane")

    def slowly(document: Any) -> None:
        path.write_text(by_hand)
        move_default(document)

    with pytest.raises(DirectoryChanged, match="was changed by somebody else; look at it and try again"):
        DirectoryFile(path).change(slowly)
    assert path.read_text() == by_hand
    assert not (path.parent / ".directory.toml.new").exists()


def test_a_change_of_an_older_state_is_refused(path: Path) -> None:
    file = DirectoryFile(path)
    seen = file.read().state
    file.change(move_default, expected=seen)
    with pytest.raises(DirectoryChanged):
        file.change(lambda document: set_entry(document, SERVER, "new", {"port": 25}), expected=seen)
    assert file.read().directory.servers["new"].port is None


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_the_mode_stays(path: Path, mode: int) -> None:
    path.chmod(mode)
    DirectoryFile(path).change(move_default)
    assert path.stat().st_mode & 0o777 == mode


def test_the_file_goes_to_the_owner_of_its_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root can give files away, so what is asked for is checked, and that a refusal does no harm."""
    asked: list[tuple[int, int]] = []

    def refuse(_: int, user: int, group: int) -> None:
        asked.append((user, group))
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    DirectoryFile(path).change(move_default)
    status = path.parent.stat()
    assert set(asked) == {(status.st_uid, status.st_gid)}


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    link = tmp_path / "etc/directory.toml"
    link.symlink_to(path)
    DirectoryFile(link).change(move_default)
    assert link.is_symlink()
    assert DirectoryFile(path).read().directory.default_server == "new"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "missing/directory.toml"
    with pytest.raises(ChangeRefused, match=r"directory\.toml cannot be written: No such file or directory"):
        DirectoryFile(path).change(move_default)


def test_a_full_disk_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ChangeRefused, match="cannot be written: No space left on device"):
        DirectoryFile(path).change(move_default)
    assert path.read_text() == HOUSE
    assert not (path.parent / ".directory.toml.new").exists()


def test_a_lock_that_is_never_given_back_is_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.05)
    with (path.parent / ".directory.toml.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ChangeRefused, match="is being changed by another command; try again"):
            DirectoryFile(path).change(move_default)
    DirectoryFile(path).change(move_default)


def test_two_processes_lose_no_change_of_the_other(path: Path) -> None:
    command = [sys.executable, str(HERE / "add_agents.py"), str(path)]
    others = [subprocess.Popen([*command, prefix, "15"]) for prefix in ("a", "b")]
    assert [other.wait(60) for other in others] == [0, 0]
    agents = DirectoryFile(path).read().directory.agents
    assert set(agents) == {"jane", *(f"{prefix}{number}" for prefix in "ab" for number in range(15))}


@pytest.mark.parametrize(("step", "default"), [("fsync", "b"), ("rename", "b"), ("folder", "shared")])
def test_a_kill_in_the_middle_leaves_the_old_file_or_the_new_one(tmp_path: Path, step: str, default: str) -> None:
    path = tmp_path / "directory.toml"
    path.write_text("default_server = 'b'\n[servers.b]\nhost = 'h'\n[servers.shared]\nhost = 'h'\n")
    ended = subprocess.run([sys.executable, str(HERE / "change_and_die.py"), str(path), step], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    file = DirectoryFile(path)
    assert file.read().directory.default_server == default
    file.change(move_default)
    assert names_in(tmp_path) == [".directory.toml.lock", "directory.toml"]


COMMENTED = """\
# Our servers.
default_server = "custom"  # since May

# The one with the account "#1".
[servers.custom]
host = "smtp.custom.example"  # provider's own
username = "mailer@acme.example"

[agents.zoe]  # out of order on purpose
address = "zoe@acme.example"

[servers.second]
host = "second.example"
"""


@pytest.mark.parametrize("text", ["", COMMENTED], ids=["plain", "commented"])
def test_what_is_kept_of_a_change_is_what_the_file_says(path: Path, text: str) -> None:
    """The next change begins with what the last one left, and no directory that somebody has changes with it."""
    path.write_text(text)
    file = DirectoryFile(path)
    script = {"set_headers": {"Organization": "A"}, "remove_headers": ["X-A"]}
    incoming = {"host": "imap.acme.example", "protocol": "imap"}
    edits: list[Callable[[Any], None]] = [
        move_default,
        lambda document: add_entry(document, SCRIPT, "polite", script),
        lambda document: add_entry(document, CHANNEL, "news", {"address": "news@acme.example"}),
        lambda document: set_entry(document, CHANNEL, "news", {"aliases": ["n@acme.example"]}),
        lambda document: set_entry(document, CHANNEL, "news", {"incoming": incoming}),
        lambda document: set_entry(document, SCRIPT, "polite", {"set_headers": {"Organization": "B"}}),
        lambda document: set_entry(document, CHANNEL, "news", {"aliases": None, "incoming": None}),
        lambda document: remove_entry(document, CHANNEL, "news"),
    ]
    seen: list[tuple[Directory, str]] = []
    for edit in edits:
        made = file.change(edit).directory
        assert DirectoryFile(path).read().directory == made
        assert file._kept is not None
        assert file._kept[1] == tomllib.loads(path.read_text())
        seen.append((made, repr(made)))
    assert [repr(made) for made, _ in seen] == [words for _, words in seen]


def test_what_is_kept_counts_only_for_the_very_same_content(path: Path) -> None:
    """An editor that keeps the time, the size and the inode is not overwritten."""
    file = DirectoryFile(path)
    file.change(move_default)
    before, text = path.stat(), path.read_text()
    with path.open("r+") as same:
        same.write(text.replace("n.example", "m.example"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Fingerprint.of(path.stat()) == Fingerprint.of(before)
    file.change(lambda document: add_entry(document, SCRIPT, "polite", {"remove_headers": ["X-A"]}))
    assert 'host = "m.example"' in path.read_text()


def test_a_change_that_is_refused_leaves_nothing_kept(path: Path) -> None:
    file = DirectoryFile(path)
    file.change(move_default)

    def halfway(document: Any) -> None:
        document["default_server"] = "custom"
        raise EditRefused("no")

    with pytest.raises(EditRefused):
        file.change(halfway)
    assert file.change(lambda document: None).directory.default_server == "new"


def test_comments_and_order_stay(path: Path) -> None:
    path.write_text(COMMENTED)
    DirectoryFile(path).change(
        lambda document: set_entry(
            document, SERVER, "custom", {"port": 25, "username": None, "auth": "none", "address": "m@acme.example"}
        )
    )
    after = path.read_text()
    assert [line for line in after.splitlines() if "#" in line] == [
        line for line in COMMENTED.splitlines() if "#" in line
    ]
    assert [line for line in after.splitlines() if line.startswith("[")] == [
        "[servers.custom]",
        "[agents.zoe]  # out of order on purpose",
        "[servers.second]",
    ]
    assert DirectoryFile(path).read().directory.servers["custom"].port == 25


def test_everything_can_be_added_among_comments(path: Path) -> None:
    path.write_text(COMMENTED)
    DirectoryFile(path).change(move_default)
    after = path.read_text()
    assert all(line in after.splitlines() for line in COMMENTED.splitlines() if line.startswith("#"))
    assert tomllib.loads(after)["default_server"] == "new"


def test_a_file_without_comments_is_written_plainly(path: Path) -> None:
    path.write_text('default_server="a"\nservers.a = {host="h#1"}\n')
    DirectoryFile(path).change(lambda document: set_entry(document, SERVER, "a", {"host": "h2"}))
    assert path.read_text() == 'default_server = "a"\n\n[servers.a]\nhost = "h2"\n'


def test_an_edit_that_comments_stand_in_the_way_of_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(COMMENTED)
    monkeypatch.setattr("tomlkit.dumps", lambda _: "default_server = 'wrong'")
    with pytest.raises(ChangeRefused, match="has comments where the change would stand; edit it by hand"):
        DirectoryFile(path).change(move_default)
    assert path.read_text() == COMMENTED


@pytest.mark.parametrize(
    ("mode", "words"),
    [(0o600, "in this file; move"), (0o644, "in this file, where others can read it (mode 0644); move")],
)
def test_a_password_in_the_file_is_a_warning(path: Path, mode: int, words: str) -> None:
    text = HOUSE.replace("[servers.shared]", "password = 'hunter2'\n[servers.shared]")
    path.write_text(text.replace("[channels.sales]", "password = 'hunter3'\n[channels.sales]"))
    path.chmod(mode)
    file = DirectoryFile(path)
    found = [warning for warning in file.warnings(file.read().directory) if warning.key.endswith(".password")]
    assert [str(warning) for warning in found] == [
        f"{path}: servers.custom.password: a password stands {words} it to the vault: relay secrets import",
        f"{path}: channels.support.password: a password stands {words} it to the vault: relay secrets import",
    ]
