"""What a run of `make test-long` found, in few lines: they stand in docs/guarantees.md behind a green one."""

import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.peers.system import run

# What a test says of its chance, and of what it has counted.
_SEED = re.compile(r"^(?:[A-Z_]*SEED=\d+|more than once: .*|milliseconds with .*)")


def commit() -> str:
    """Return what is run; "unknown" outside of a clone, and without git."""
    try:
        said = run(["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]).out.strip()
    except FileNotFoundError:
        said = ""
    return said or "unknown"


def lines(what: str, reports: Iterable[pytest.TestReport], seconds: float, counts: str) -> Iterator[str]:
    """Yield the commit, the date and what passed; then the seeds and figures of each test that says some."""
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    yield f"{what}, {datetime.now(UTC):%Y-%m-%d}, {python}: {counts} in {seconds / 60:.0f} min"
    for report in reports:
        for line in report.capstdout.splitlines():
            if _SEED.match(line):
                yield f"{report.nodeid.rpartition('::')[2]}: {line}"
