"""Holds each test to the programs that it declares with @pytest.mark.needs (tests/packages.txt).

Every other program of the list is out of its search path, and so out of that of all that it starts: a test that needs
one and does not say so fails on every machine, as it would on one that lacks it. To start one by its path, or to ask
`program` for it, is a failure, too, whatever came of it.

A program that a fixture of a wider scope starts is asked for by each test that uses the fixture, whichever made it run;
what a fixture does at its end is nobody's. Not seen is what is no program (the libraries in the list), and what a child
starts by a path of its own. Nobody has to declare python3, by which the tests run.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.peers.packages import ASKED, DECLARED, find_installed, known_programs

_FREE = frozenset({"python3"})
_STARTS = frozenset({"subprocess.Popen", "os.exec", "os.posix_spawn"})
_Fixture = pytest.FixtureDef[Any]


def declared_programs(item: pytest.Item) -> frozenset[str]:
    """Return what a test declares."""
    return frozenset(str(name) for marker in item.iter_markers("needs") for name in marker.args)


class SearchPath:
    """The search path of this process, and what is left of it without programs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._links: Path | None = None
        self._without: dict[tuple[str, frozenset[str]], str] = {}
        self._paths: dict[frozenset[str], str] = {}

    def without(self, programs: frozenset[str]) -> str:
        """Return the path by which none of these is found, and everything else is."""
        path = self._paths.get(programs)
        if path is None:
            path = os.pathsep.join(self._folder(folder, programs) for folder in self._path.split(os.pathsep) if folder)
            self._paths[programs] = path
        return path

    def _folder(self, folder: str, programs: frozenset[str]) -> str:
        """Return the folder itself, or where it has some of them one with links to all that is left."""
        real = os.path.realpath(folder)
        hidden = frozenset(name for name in programs if os.path.lexists(os.path.join(real, name)))  # noqa: PTH118
        if not hidden:
            return folder
        if (real, hidden) not in self._without:
            self._without[real, hidden] = self._linked(real, hidden)
        return self._without[real, hidden]

    def _linked(self, real: str, hidden: frozenset[str]) -> str:
        if self._links is None:
            self._links = Path(tempfile.mkdtemp(prefix="search-path-"))
            self._links.chmod(0o755)  # servers give up root and go on searching
            atexit.register(shutil.rmtree, self._links, ignore_errors=True)
        links = self._links / str(len(self._without))
        links.mkdir()
        for name in os.listdir(real):  # noqa: PTH208 - the names are all that is wanted of thousands
            if name not in hidden:
                os.symlink(f"{real}/{name}", f"{links}/{name}")  # noqa: PTH211
        return str(links)


class Needs:
    """A plugin of pytest: what the running test declares and has asked for, and what its fixtures have."""

    def __init__(self) -> None:
        self._path = SearchPath(os.environ.get("PATH", os.defpath))
        self._allowed: frozenset[str] | None = None
        self._undeclared: set[str] = set()
        self._fixtures: list[_Fixture] = []
        self._of_fixtures: dict[_Fixture, set[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Give the test the search path of what it declares."""
        before = {name: os.environ.get(name) for name in ("PATH", DECLARED)}
        self._allow(declared_programs(item))
        try:
            return (yield)
        finally:
            self._allowed = None
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Fail a test whose fixtures asked for what it does not declare."""
        try:
            return (yield)
        finally:
            self._judge(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Fail a test that asked for what it does not declare."""
        try:
            return (yield)
        finally:
            self._judge(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Let the fixtures end what they began: the test that is the last to use one may be another's."""
        self._allow(frozenset(known_programs()))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: _Fixture) -> Iterator[Any]:
        """Keep for which fixture a program is asked."""
        self._fixtures.append(fixturedef)
        self._of_fixtures.pop(fixturedef, None)
        try:
            return (yield)
        finally:
            self._fixtures.pop()

    def hear(self, event: str, args: Sequence[Any]) -> None:
        """An audit hook (sys.addaudithook): it is called for all that happens, and nothing but starts is looked at."""
        if self._allowed is None:
            return
        if event == ASKED:
            self._note(str(args[0]))
        elif event in _STARTS:
            program = os.fsdecode(args[0] if args[0] is not None else args[1][0])
            name = os.path.basename(program)  # noqa: PTH119
            if name in known_programs() and self._is_of_system(name, program, args[-1]):
                self._note(name)

    def _allow(self, programs: frozenset[str]) -> None:
        self._allowed = programs
        os.environ["PATH"] = self._path.without(frozenset(known_programs()) - programs - _FREE)
        os.environ[DECLARED] = " ".join(sorted(programs))

    def _note(self, name: str) -> None:
        if self._fixtures:
            self._of_fixtures.setdefault(self._fixtures[-1], set()).add(name)
        if self._allowed is not None and name not in self._allowed | _FREE:
            self._undeclared.add(name)

    @staticmethod
    def _is_of_system(name: str, program: str, env: Mapping[str, str] | None) -> bool:
        """Whether it is the program that the list means: not a test's own of that name, and none that is not found."""
        path = (os.environ if env is None else env).get("PATH", os.defpath)
        found, meant = shutil.which(program, path=path), find_installed(name)
        return found is not None and meant is not None and Path(found).samefile(meant)

    def _judge(self, item: pytest.Item) -> None:
        declared = declared_programs(item) | _FREE
        # Of all that is in use, also by request.getfixturevalue(): pytest tells it nowhere else.
        in_use: dict[str, _Fixture] = item._request._fixture_defs if isinstance(item, pytest.Function) else {}
        asked = dict.fromkeys(self._undeclared, "")
        for fixture in in_use.values():
            undeclared = self._of_fixtures.get(fixture, set()) - declared
            asked |= dict.fromkeys(undeclared, f" (by its fixture {fixture.argname})")
        self._undeclared.clear()
        if asked:
            words = ", ".join(f"{name}{by}" for name, by in sorted(asked.items()))
            marker = ", ".join(f'"{name}"' for name in sorted(asked))
            pytest.fail(f"{item.nodeid} asks for {words}; declare it: @pytest.mark.needs({marker})", pytrace=False)
