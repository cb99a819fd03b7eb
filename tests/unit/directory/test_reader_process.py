"""A large directory.toml is read by another process: what comes back is what reading it here gives."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.config.faults import Fault, Faults
from relay.config.settings import load_settings
from relay.directory import file as directory_file
from relay.directory import reader_process
from relay.directory.file import LARGE, DirectoryFile
from relay.directory.reader_process import ReaderProcess
from tests.peers.system import run
from tests.unit.directory.directory_kit import HOUSE

AGENTS = "".join(
    f'[agents.a{n}]\naddress = "a{n}@acme.example"\ngroup = "many"\naliases = ["b{n}@acme.example"]\n'
    for n in range(1201)
)


@pytest.fixture
def large(tmp_path: Path) -> DirectoryFile:
    path = tmp_path / "directory.toml"
    path.write_text(HOUSE + AGENTS)
    assert path.stat().st_size > LARGE / 2
    return DirectoryFile(path)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let every file but the smallest count as large, and note for which ones a process was started."""
    seen: list[Path] = []
    start = reader_process._start

    def noting(what: str, path: Path) -> "subprocess.Popen[bytes]":
        seen.append(path)
        return start(what, path)

    monkeypatch.setattr(directory_file, "LARGE", 10_000)
    monkeypatch.setattr(reader_process, "_start", noting)
    return seen


def test_it_reads_what_is_read_here(large: DirectoryFile, started: list[Path]) -> None:
    there, here = ReaderProcess().read(large), large.read()
    assert there == here
    assert list(there.directory.agents) == list(here.directory.agents)
    assert started == [large.path]
    groups = {id(agent.group) for agent in there.directory.agents.values()}
    assert len(groups) < 10, "equal texts are one object, or one of each piece"


def test_what_was_begun_ahead_is_read_once(large: DirectoryFile, started: list[Path]) -> None:
    with ReaderProcess() as reader:
        reader.begin_directory(large.path)
        assert reader.read(large) == large.read()
        assert len(started) == 1
        large.path.write_text(HOUSE)
        assert reader.read(large) == large.read()
    assert len(started) == 1, "a small file is read here"


def test_what_was_begun_and_is_not_needed_ends(large: DirectoryFile, started: list[Path]) -> None:
    with ReaderProcess() as reader:
        reader.begin_directory(large.path)
        process = reader._begun
        assert process is not None
    assert process.returncode is not None


def test_faults_come_back_as_they_are_found(large: DirectoryFile, started: list[Path]) -> None:
    large.path.write_text((HOUSE + AGENTS).replace('group = "many"', 'groop = "many"', 2))
    with pytest.raises(Faults) as here:
        large.read()
    with pytest.raises(Faults) as there:
        ReaderProcess().read(large)
    assert there.value.faults == here.value.faults
    assert len(there.value.faults) == 2
    assert started


def test_what_stands_elsewhere_is_looked_at_too(large: DirectoryFile, started: list[Path]) -> None:
    fault = Fault("relay.toml", "policy.unknown_sender", "it does not suit")
    with pytest.raises(Faults, match="it does not suit"):
        ReaderProcess().read(DirectoryFile(large.path, lambda _: (fault,)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE),
        lambda: subprocess.Popen([sys.executable, "-c", "print('x' * 99999)"], stdout=subprocess.PIPE),
        lambda: subprocess.Popen(["/nowhere/python"], stdout=subprocess.PIPE),
    ],
    ids=["it ends before its end", "it says something else", "there is no such program"],
)
def test_where_no_process_does_it_it_is_read_here(
    large: DirectoryFile, started: list[Path], monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    monkeypatch.setattr(reader_process, "_start", lambda *_: make())
    assert ReaderProcess().read(large) == large.read()


@pytest.fixture
def settings_file(large: DirectoryFile) -> Path:
    file = large.path.with_name("relay.toml")
    file.write_text(f'state_dir = "{large.path.parent}"\nhostname = "relay.example"\n')
    return file


def test_settings_and_the_directory_that_they_name_come_from_one_process(
    large: DirectoryFile, settings_file: Path, started: list[Path]
) -> None:
    with ReaderProcess() as reader:
        reader.begin(settings_file)
        assert reader.settings(settings_file) == load_settings(settings_file)
        assert reader.read(large) == large.read()
    assert started == [settings_file]


def test_faults_of_the_settings_come_back_as_they_are_found(settings_file: Path, started: list[Path]) -> None:
    settings_file.write_text('hostnam = "relay.example"\nworkers = 0\n')
    with pytest.raises(Faults) as here:
        load_settings(settings_file)
    with ReaderProcess() as reader:
        reader.begin(settings_file)
        with pytest.raises(Faults) as there:
            reader.settings(settings_file)
    assert there.value.faults == here.value.faults
    assert len(there.value.faults) == 2


def test_faults_of_the_directory_come_after_good_settings(
    large: DirectoryFile, settings_file: Path, started: list[Path]
) -> None:
    large.path.write_text("[servers.x]\n")
    with ReaderProcess() as reader:
        reader.begin(settings_file)
        assert reader.settings(settings_file).hostname == "relay.example"
        with pytest.raises(Faults, match=r"servers\.x\.host"):
            reader.read(large)


def test_settings_are_read_here_where_no_process_does_it(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = partial(subprocess.Popen, [sys.executable, "-c", ""], stdout=subprocess.PIPE)
    monkeypatch.setattr(reader_process, "_start", lambda *_: ends())
    with ReaderProcess() as reader:
        reader.begin(settings_file)
        assert reader.settings(settings_file).hostname == "relay.example"
        assert reader.settings(None) == load_settings(None), "what is read later is read here"


def test_of_a_directory_in_the_store_the_process_reads_nothing_and_ends(settings_file: Path) -> None:
    settings_file.write_text(settings_file.read_text() + 'directory = "database"\n')
    with ReaderProcess() as reader:
        reader.begin(settings_file)
        process = reader._begun
        assert process is not None
        assert reader.settings(settings_file) == load_settings(settings_file)
        assert process.returncode is not None


def test_who_lets_another_process_read_does_without_what_reads(settings_file: Path, large: DirectoryFile) -> None:
    """What reads tables takes 15 MB, which would stay."""
    words = (
        "import sys; from pathlib import Path; from relay.directory.reader_process import ReaderProcess; "
        "from relay.directory.file import DirectoryFile; file = Path(sys.argv[1]); apart = ReaderProcess(); "
        "apart.begin(file); apart.read(DirectoryFile(apart.settings(file).directory_path)); "
        "print('pydantic' in sys.modules)"
    )
    done = run([sys.executable, "-c", words, str(settings_file)])
    assert (done.status, done.text) == (0, "False\n")


def test_a_file_that_is_not_there_is_an_empty_directory(tmp_path: Path) -> None:
    file = DirectoryFile(tmp_path / "directory.toml")
    with ReaderProcess() as reader:
        reader.begin_directory(file.path)
        assert reader.read(file) == file.read()
