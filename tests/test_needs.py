"""A test that needs a missing program is left out by name; in continuous integration it fails the run."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.peers.system import Finished, run

HERE = Path(__file__).parent
PROBE = """
import pytest

@pytest.mark.needs("swaks")
def test_swaks():
    assert False

@pytest.mark.needs("{program}")
def test_other():
    pass
"""


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


def collect(folder: Path, program: str, ci: str) -> Finished:
    """Run a test of swaks, where there is none, and of another program under our conftest."""
    tests = folder / "tests"
    shutil.copytree(HERE / "peers", tests / "peers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "conftest.py"):
        shutil.copy(HERE / name, tests)
    (tests / "packages.txt").write_text("swaks-package: /nowhere/swaks\ncoreutils: cat\n")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs: programs\naddopts = --strict-markers\n")
    (tests / "test_probe.py").write_text(PROBE.format(program=program))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    return run(argv, env={**os.environ, "CI": ci}, seconds=100)
