"""A test that needs a missing program is left out by name, and one that asks for a program says that it needs it."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.peers.needs import SearchPath
from tests.peers.system import Finished, run

HERE = Path(__file__).parents[1]
PROBE = """
import pytest

@pytest.mark.needs("swaks")
def test_swaks():
    assert False

@pytest.mark.needs("{program}")
def test_other():
    pass
"""

# Each asks for cat or head, which are installed everywhere, in its own way. Both fixtures are made for the first test.
ASKING = """
import os
import re
import shutil
import subprocess

import pytest

from tests.peers.packages import program
from tests.peers.system import run

@pytest.fixture(scope="module")
def at_once():
    return program("cat")

@pytest.fixture(scope="module")
def when_asked():
    yield run([program("head"), "--version"]).out
    assert run(["head", "--version"]).status == 0

@pytest.mark.needs("cat", "head")
def test_declares_both(at_once, when_asked):
    assert run(["sh", "-c", "cat --version | head -1"]).status == 0

@pytest.mark.needs("head")
def test_uses_a_fixture(at_once):
    pass

@pytest.mark.needs("cat")
def test_asks_for_a_fixture(request):
    assert request.getfixturevalue("when_asked")

@pytest.mark.needs("head")
def test_asks():
    program("cat")

@pytest.mark.needs("head")
def test_asks_and_passes_over_what_it_hears():
    try:
        program("cat")
    except LookupError:
        pass

@pytest.mark.needs("head")
def test_starts_by_path():
    assert run([CAT, "--version"]).status == 0

@pytest.mark.needs("head")
def test_starts_by_a_search_path_of_its_own():
    subprocess.run(["cat", "--version"], check=True, env={"PATH": os.path.dirname(CAT)})

@pytest.mark.needs("head")
def test_starts_by_name():
    run(["cat", "--version"])

@pytest.mark.needs("head")
def test_lets_a_shell_start_it():
    assert run(["sh", "-c", "cat --version"]).status == 0

@pytest.mark.needs("head")
def test_finds_nothing_but_what_it_declares():
    assert (shutil.which("cat"), bool(shutil.which("head")), bool(shutil.which("sh"))) == (None, True, True)

@pytest.mark.needs("head")
def test_has_a_program_of_its_own_by_that_name(tmp_path):
    own = tmp_path / "cat"
    own.write_text("#!/bin/sh\\n")
    own.chmod(0o755)
    assert run([str(own)]).status == 0

def test_needs_nothing():
    assert run([SH, "-c", "exit 3"]).status == 3
"""
PASS = {
    "declares_both",
    "finds_nothing_but_what_it_declares",
    "has_a_program_of_its_own_by_that_name",
    "needs_nothing",
}
SAID = {
    "uses_a_fixture": 'asks for cat (by its fixture at_once); declare it: @pytest.mark.needs("cat")',
    "asks_for_a_fixture": 'asks for head (by its fixture when_asked); declare it: @pytest.mark.needs("head")',
    "asks": 'asks for cat; declare it: @pytest.mark.needs("cat")',
    "asks_and_passes_over_what_it_hears": 'asks for cat; declare it: @pytest.mark.needs("cat")',
    "starts_by_path": 'asks for cat; declare it: @pytest.mark.needs("cat")',
    "starts_by_a_search_path_of_its_own": 'asks for cat; declare it: @pytest.mark.needs("cat")',
    "starts_by_name": "FileNotFoundError: [Errno 2] No such file or directory: 'cat'",
    "lets_a_shell_start_it": "cat: not found",
}


@pytest.mark.slow
@pytest.mark.parametrize("ci", ["", "true"])
def test_a_missing_program(ci: str, tmp_path: Path) -> None:
    done = collect(tmp_path, "cat", ci)
    if ci:
        assert done.status == pytest.ExitCode.USAGE_ERROR
        assert "CI runs every test, but swaks is missing (apt install swaks-package)" in done.text
    else:
        assert done.status == pytest.ExitCode.OK, done.text
        assert "left out 1 tests: swaks is missing (apt install swaks-package)" in done.out
        assert "1 passed, 1 deselected" in done.out


@pytest.mark.slow
def test_a_program_that_the_list_does_not_name(tmp_path: Path) -> None:
    done = collect(tmp_path, "sendmail", "")
    assert done.status == pytest.ExitCode.USAGE_ERROR
    assert "test_other needs sendmail, which tests/packages.txt does not name" in done.text


@pytest.mark.slow
def test_what_a_test_asks_for_it_says(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "coreutils: cat head\n", asking(), CI="")
    assert done.status == pytest.ExitCode.TESTS_FAILED, done.text
    assert f"{len(SAID) - 1} failed, {len(PASS)} passed, 1 error" in done.out, done.out
    for name, words in SAID.items():
        report = re.findall(
            rf"^_+ (?:ERROR at setup of )?test_{name} _+\n(.*?)(?=^_+ test_|^=+ )", done.out, re.MULTILINE | re.DOTALL
        )
        assert words in "".join(report), (name, done.out)


@pytest.mark.slow
def test_all_programs_can_be_hidden(tmp_path: Path) -> None:
    """Who needs one is left out, in continuous integration, too; who needs one without saying so has none."""
    done = run_tests(tmp_path, "coreutils: cat head\n", asking(), CI="true", WITHOUT_PACKAGES="true")
    assert done.status == pytest.ExitCode.OK, done.text
    assert "left out 2 tests: cat is hidden" in done.out
    assert f"1 passed, {len(SAID) + len(PASS) - 1} deselected" in done.out
    silent = re.sub(r"^@pytest.mark.needs.*\n", "", asking(), flags=re.MULTILINE)
    done = run_tests(tmp_path, "coreutils: cat head\n", silent, CI="true", WITHOUT_PACKAGES="true")
    assert done.status == pytest.ExitCode.TESTS_FAILED, done.text
    passed = set(re.findall(r"^PASSED .*::test_(\w+)$", done.out, re.MULTILINE))
    assert passed == {"has_a_program_of_its_own_by_that_name", "needs_nothing"}, done.out


def test_a_folder_without_the_hidden_programs_stays_as_it_is(tmp_path: Path) -> None:
    full, other = tmp_path / "full", tmp_path / "other"
    for folder, names in ((full, ("a", "b", "c")), (other, ("d",))):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    path = SearchPath(f"{full}:{other}::{tmp_path}/nowhere")
    left, *rest = path.without(frozenset({"a", "c"})).split(":")
    assert rest == [str(other), f"{tmp_path}/nowhere"]
    assert [(link.name, link.resolve()) for link in Path(left).iterdir()] == [("b", full / "b")]
    assert path.without(frozenset({"a", "c", "x"})).split(":")[0] == left, "it is made once"


def asking() -> str:
    """The tests that ask, with the paths of two programs."""
    return ASKING + f"CAT, SH = {shutil.which('cat', path=os.defpath)!r}, {shutil.which('sh', path=os.defpath)!r}\n"


def collect(folder: Path, program: str, ci: str) -> Finished:
    """Run a test of swaks, where there is none, and of another program under our conftest."""
    return run_tests(folder, "swaks-package: /nowhere/swaks\ncoreutils: cat\n", PROBE.format(program=program), CI=ci)


def run_tests(folder: Path, packages: str, probe: str, **env: str) -> Finished:
    """Run tests under our conftest with a list of packages."""
    tests = folder / "tests"
    shutil.rmtree(tests, ignore_errors=True)
    shutil.copytree(HERE / "peers", tests / "peers", ignore=shutil.ignore_patterns("__pycache__", "test_*.py"))
    for name in ("__init__.py", "conftest.py"):
        shutil.copy(HERE / name, tests)
    (tests / "packages.txt").write_text(packages)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs: programs\naddopts = --strict-markers -rpfE\n")
    (tests / "test_probe.py").write_text(probe)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    return run(argv, env={**os.environ, **env}, seconds=100)
