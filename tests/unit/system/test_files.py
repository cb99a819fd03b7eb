"""Private files; and files that settings name: regular ones, of bounded size, and nothing that holds a thread."""

import os
import stat
from pathlib import Path

import pytest

from relay.config.certificate import CertificateFault, CertificateFiles
from relay.system.files import (
    MOST_OCTETS,
    check_modes,
    create_private,
    in_file_thread,
    make_private_folder,
    read_regular_file,
    write_private,
)
from relay.upstream.dial import Contexts


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("lax", [0o640, 0o604, 0o660, 0o644, 0o666, 0o610, 0o700])
def test_a_file_that_others_could_open_is_named_with_the_command_that_mends_it(tmp_path: Path, lax: int) -> None:
    path = tmp_path / "master key"
    path.write_text("x")
    path.chmod(lax)
    (sentence,) = check_modes([path])
    assert sentence == f"{path}: others may open it (mode {lax:04o}); run: chmod 600 '{path}'"
    assert os.system(sentence.partition("run: ")[2]) == 0
    assert check_modes([path]) == ()


@pytest.mark.parametrize("tight", [0o600, 0o400, 0o200])
def test_a_private_file_is_no_fault(tmp_path: Path, tight: int) -> None:
    path = tmp_path / "master.key"
    path.write_text("x")
    path.chmod(tight)
    assert check_modes([path, tmp_path / "missing"]) == ()


def test_a_folder_may_have_0700(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    make_private_folder(folder)
    assert mode(folder) == 0o700
    assert check_modes([folder]) == ()
    folder.chmod(0o750)
    assert "chmod 700" in check_modes([folder])[0]
    make_private_folder(folder)
    assert mode(folder) == 0o750, "a folder that was there is not ours to change"


def test_a_file_of_ours_is_private_under_any_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o022, 0o777):
        before = os.umask(umask)
        try:
            path = tmp_path / f"file{umask}"
            os.close(create_private(path))
            write_private(tmp_path / "whole", b"content")
        finally:
            os.umask(before)
        assert mode(path) == 0o600
        assert mode(tmp_path / "whole") == 0o600
    with pytest.raises(FileExistsError):
        create_private(path)


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    (tmp_path / "key.tmp").write_text("left by a crash")
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    write_private(path, b"one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(path, b"two")
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_root_gives_a_new_file_to_the_folders_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen through the calls, so that it holds for whoever runs the tests."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda descriptor, user, group: given.append((user, group)))
    os.close(create_private(tmp_path / "file"))
    folder = tmp_path.stat()
    assert given == [(folder.st_uid, folder.st_gid)]


def test_who_may_not_give_a_file_away_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    os.close(create_private(tmp_path / "file"))
    assert mode(tmp_path / "file") == 0o600


def test_no_file_is_left_where_its_making_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(OSError, match="No space"):
        create_private(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_regular_file_is_read_to_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * MOST_OCTETS)
    assert len(read_regular_file(file)) == MOST_OCTETS
    file.write_bytes(b"x" * (MOST_OCTETS + 1))
    with pytest.raises(OSError, match="1024 KiB"):
        read_regular_file(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        read_regular_file(file)


async def test_what_would_hold_a_thread_is_no_file_of_authorities(tmp_path: Path) -> None:
    """A pipe that nobody writes into, also by the way of /proc, a device without an end, a folder."""
    os.mkfifo(tmp_path / "fifo")
    reading, writing = os.pipe()
    try:
        for name in (str(tmp_path / "fifo"), f"/proc/self/fd/{reading}", "/dev/zero", str(tmp_path)):
            with pytest.raises(OSError, match="not a regular file"):
                await Contexts().get(verify=True, ca_file=name)
            files = CertificateFiles(Path(name), Path(name))
            with pytest.raises(CertificateFault, match="cannot be read"):
                await in_file_thread(files.load)
    finally:
        os.close(reading)
        os.close(writing)
