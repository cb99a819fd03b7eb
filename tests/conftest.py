"""Tests that need a system program run where it is installed; elsewhere they are left out, and the run says so.

With CI=true nothing is left out: a missing program ends the run as a failure that names its Debian package. With
WITHOUT_PACKAGES=true all of them are hidden, and so left out, as on a machine that has none (make test-bare).
"""

import gc
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

from relay import log
from tests.peers import long_run
from tests.peers.needs import Needs, declared_programs
from tests.peers.packages import HIDDEN, find_program, known_programs, package_of

# No example has a time limit: a busy machine is no fault. The examples are the same each time; `make test-long` takes
# others, by seeds that it prints.
settings.register_profile("relay", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("relay")

pytest_plugins = ["tests.peers.fixtures"]

_OF_THE_GATE = {"chromium", "haproxy", "postfix", "postgres", "strace"}
# Not a program, but asked for in the same way: Postfix starts only as root.
_ROOT = "root"
# Files of minutes, the longest first. One that begins last keeps one process busy when all others have ended.
_FIRST = (
    "tests/e2e/test_workers.py",
    "tests/e2e/docs/test_pages.py",
    "tests/e2e/test_limits_over_faults.py",
    "tests/e2e/packaging/test_packaging.py",
    "tests/e2e/test_nodes.py",
    "tests/e2e/test_lost_database.py",
    "tests/e2e/test_disk.py",
    "tests/e2e/test_leader.py",
    "tests/unit/limits/test_limiter_over_kills.py",
    "tests/e2e/test_kill_points.py",
    "tests/e2e/test_pacing.py",
    "tests/e2e/test_systemd.py",
    "tests/e2e/test_clients.py",
    "tests/e2e/test_failover.py",
    "tests/e2e/test_directory_failover.py",
    "tests/e2e/test_store_health.py",
    "tests/e2e/packaging/test_wheel.py",
    "tests/pages/test_admin_pages.py",
    "tests/pages/test_message_pages.py",
    "tests/pages/test_channel_pages.py",
)
_BEGUN = pytest.StashKey[float]()
_LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Watch what each test asks for. A hook for audits stays as long as the process."""
    config.stash[_BEGUN] = time.monotonic()
    needs = Needs()
    config.pluginmanager.register(needs)
    sys.addaudithook(needs.hear)


@pytest.hookimpl(tryfirst=True)  # before `-m` is looked at
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests whose programs are missing, and begin with the longest. Raises UsageError where CI=true.

    What needs a server, a browser or a tracer that takes long to start is a matter of `make test-all`: `make test` runs
    the same stores in SQLite, and looks at the same pages by HTTP.
    """
    for item in items:
        if declared_programs(item) & _OF_THE_GATE:
            item.add_marker("slow")
    reasons = {item: list(_reasons(item)) for item in items}
    left_out = [item for item in items if reasons[item]]
    counts = Counter(reason for item in left_out for reason in reasons[item])
    if counts and os.environ.get("CI") == "true" and not os.environ.get(HIDDEN):
        raise pytest.UsageError("CI runs every test, but " + "; ".join(sorted(counts)))
    config.stash[_LEFT_OUT] = counts
    config.hook.pytest_deselected(items=left_out)
    places = {config.rootpath / name: place for place, name in enumerate(_FIRST)}
    items[:] = sorted(
        (item for item in items if not reasons[item]), key=lambda item: places.get(item.path, len(places))
    )


def pytest_collection_finish() -> None:
    """Keep the collector of garbage from what lasts as long as the run.

    To look through ten thousand tests takes it 0.3 s, and a test that counts processor time may be the one it meets.
    """
    gc.freeze()


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Leave the log as it was: a command sets up that of its process, which here is everybody's."""
    output = {name: getattr(log._Output, name) for name in ("writer", "behind", "console", "priorities")}
    root, ours = logging.getLogger(), logging.getLogger("relay")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    for name, value in output.items():
        setattr(log._Output, name, value)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which tests were left out, and what to install; of `make test-long`, what a green run is recorded by."""
    for reason, count in sorted(config.stash.get(_LEFT_OUT, Counter()).items()):
        terminalreporter.write_line(f"left out {count} tests: {reason}", yellow=True)
    if config.option.markexpr == "long":
        passed, failed = (terminalreporter.stats.get(outcome, []) for outcome in ("passed", "failed"))
        counts = f"{len(passed)} passed, {len(failed)} failed"
        terminalreporter.section("for docs/guarantees.md")
        for line in long_run.lines(
            long_run.commit(), [*passed, *failed], time.monotonic() - config.stash[_BEGUN], counts
        ):
            terminalreporter.write_line(line)


def _reasons(item: pytest.Item) -> Iterator[str]:
    """What keeps a test from running. Raises UsageError for a program that packages.txt does not know."""
    for name in sorted(declared_programs(item)):
        if name == _ROOT:
            if os.geteuid() != 0:
                yield "not root (Postfix starts only as root)"
        elif name not in known_programs():
            raise pytest.UsageError(f"{item.nodeid} needs {name}, which tests/packages.txt does not name")
        elif find_program(name) is None:
            yield (
                f"{name} is hidden" if os.environ.get(HIDDEN) else f"{name} is missing (apt install {package_of(name)})"
            )
