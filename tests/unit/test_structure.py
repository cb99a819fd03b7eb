"""The house as docs/architecture.md draws it: who may import whom, and which library stays behind which door."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "relay"
# Top to bottom: a folder imports only folders that stand before it.
FOLDERS = (
    "system",
    "config",
    "mail",
    "sendmail",
    "directory",
    "moving",
    "secrets",
    "limits",
    "store",
    "upstream",
    "incoming",
    "doctor",
    "delivery",
    "webhooks",
    "alerts",
    "listener",
    "cluster",
    "control",
    "web",
    "cli",
)
# All but the pure `mail` may tell the log and count. Both work by `system` alone.
MODULES = ("", "log", "metrics")
# These put everything together and see all of it.
SEE_ALL = ("cli", "app")
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "aiosmtpd": ("listener",),
    "aiosmtplib": ("upstream",),
    "sqlalchemy": ("store",),
    "alembic": ("store",),
    "psycopg": ("store",),
    "authlib": ("secrets",),
    "httpx2": ("secrets", "upstream"),
    "httpcore2": ("webhooks",),
    "scramp": ("secrets", "upstream", "listener"),
    "dns": ("doctor",),
    "spf": ("doctor",),
    "fastapi": ("web",),
    "jinja2": ("web",),
    "starlette": ("control", "web"),
    "uvicorn": ("control", "web"),
    "prometheus_client": ("metrics",),
    "structlog": ("log",),
    "typer": ("cli",),
    "rich": ("cli",),
}
# In parts, because no file names one, this one included.
REGISTRIES = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("deb", "debian", "org"),
    ("proxy", "golang", "org"),
    ("ghcr", "io"),
    ("docker", "io"),
)


def module_name(path: Path) -> str:
    """relay/mail/address.py is relay.mail.address; a package is named without its __init__."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """The modules that a file imports anywhere in it; a name imported from a module counts as one too."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def place(module: str) -> str:
    """relay.mail.address stands in "mail", relay.config.units in "units", relay itself in ""."""
    return module.partition(".")[2].partition(".")[0]


def resolve(imported: str) -> str | None:
    """The module of ours that an import loads: a name in a module is that module. None for anyone else's."""
    while imported.startswith("relay.") or imported == "relay":
        if imported in FILES:
            return imported
        imported = imported.rpartition(".")[0]
    return None


@cache
def graph() -> Mapping[str, set[str]]:
    """What each of our modules imports of our modules."""
    return {
        module: {found for name in imports_of(path) if (found := resolve(name)) not in {None, module}}
        for module, path in FILES.items()
    }


def may_import(here: str, there: str) -> bool:
    """Whether a module that stands in one place may import one that stands in the other."""
    if here == there or here in SEE_ALL:
        return True
    if there in SEE_ALL:
        return False
    if here == "mail":
        return False
    if there in MODULES:
        return True
    if here in MODULES:
        return there == "system"
    return {here, there} <= set(FOLDERS) and FOLDERS.index(there) < FOLDERS.index(here)


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= {*FOLDERS, *SEE_ALL}
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "log.py", "metrics.py"}


def test_a_module_imports_only_what_stands_above_it() -> None:
    wrong = [
        f"{module} imports {there}"
        for module, imported in graph().items()
        for there in sorted(imported)
        if not may_import(place(module), place(there))
    ]
    assert not wrong


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stays_behind_its_door(library: str) -> None:
    users = {place(module) for module, path in FILES.items() if library in {n.split(".")[0] for n in imports_of(path)}}
    assert users <= set(LIBRARIES[library])


def test_no_import_goes_in_a_circle() -> None:
    edges = graph()
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for there in edges[module]:
                visit(there, (*trail, module))
            done.add(module)

    for module in edges:
        visit(module, ())


def test_a_package_file_holds_only_its_sentence() -> None:
    for path in PACKAGE.rglob("*/__init__.py"):
        statements = ast.parse(path.read_text()).body
        is_door = path.parent.name == "cli"  # the command's entry point is relay.cli:main
        assert ast.get_docstring(ast.parse(path.read_text())), path
        assert len(statements) == 1 or is_door, path


def test_no_file_names_a_package_registry() -> None:
    hosts = [".".join(parts).encode() for parts in REGISTRIES]
    folders = ("relay", "tests", "docs", "etc", "systemd", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    naming = [
        str(path)
        for path in files
        if "__pycache__" not in path.parts and any(host in path.read_bytes() for host in hosts)
    ]
    assert not naming


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ("directory", "mail", True),
        ("mail", "directory", False),
        ("mail", "config", False),
        ("store", "config", True),
        ("config", "mail", False),
        ("config", "system", True),
        ("app", "listener", True),
        ("cli", "app", True),
        ("listener", "app", False),
        ("upstream", "delivery", False),
        ("web", "cli", False),
    ],
)
def test_the_rule_itself(here: str, there: str, expected: bool) -> None:
    assert may_import(here, there) == expected


CLOCKS = {"monotonic", "process_time", "perf_counter", "thread_time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS}
# Attributes that hold how long something took, whoever measured it; a file's own are found by what it writes to them.
MEASURES = {"cpu_seconds", "seconds", "elapsed", "took", "duration"}


def is_clock(node: ast.AST) -> bool:
    """Whether it reads a clock, or what a process has used."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in CLOCKS
    if isinstance(node, ast.Subscript):  # a counter of the relay
        return isinstance(node.slice, ast.Constant) and str(node.slice.value).endswith("lag_seconds")
    return isinstance(node, ast.Attribute) and node.attr in MEASURES


def reads_clock(node: ast.AST, names: Iterable[str]) -> bool:
    """Whether a clock is in an expression, or a name that is bound to what one said."""
    return any(is_clock(one) or _bound_name(one) in names for one in ast.walk(node))


def _bound_name(node: ast.AST) -> str:
    """A name as it is written, an attribute of whatever as ".seconds"; "" for all else."""
    if isinstance(node, ast.Attribute):
        return f".{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _bound_names(target: ast.AST) -> Iterable[str]:
    """What an assignment binds: names, and attributes, but not the objects whose attributes they are."""
    if isinstance(target, ast.Tuple | ast.List):
        return {name for one in target.elts for name in _bound_names(one)}
    return {name} if (name := _bound_name(target)) else set()


def timed_names(function: ast.AST, attributes: Iterable[str] = ()) -> set[str]:
    """The names that a function binds to what a clock said, and to what it reckons of that; attributes among them."""
    names = set(attributes)
    for _ in range(3):  # a difference of names, and what is chosen of differences
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and reads_clock(node.value, names):
                names |= {name for target in node.targets for name in _bound_names(target)}
            elif (
                isinstance(node, ast.AnnAssign | ast.AugAssign)
                and node.value is not None
                and reads_clock(node.value, names)
            ):
                names |= set(_bound_names(node.target))
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "append"
                and isinstance(node.func.value, ast.Name)
                and any(reads_clock(one, names) for one in node.args)
            ):
                names.add(node.func.value.id)
    return names


def is_bound(test: ast.AST, names: Iterable[str]) -> bool:
    """Whether something must not take longer than a number. So long at least it may be: no slow machine breaks that."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
                less, more = (left, right) if isinstance(operator, ast.Lt | ast.LtE) else (right, left)
                if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE) and reads_clock(less, names):
                    # Two moments are in an order; two durations are not, on a busy machine.
                    return not reads_clock(more, names) or any(
                        isinstance(one, ast.Attribute) and one.attr in MEASURES for one in ast.walk(more)
                    )
    return False


def bounds_of_time(source: str) -> list[int]:
    """The lines of a test file at which it asserts how long something takes at most."""
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    functions = [one for one in functions if "long" not in {ast.unparse(mark)[12:] for mark in one.decorator_list}]
    attributes: set[str] = set()
    for _ in range(2):  # one method writes what another reckons with
        attributes |= {name for one in functions for name in timed_names(one, attributes) if name.startswith(".")}
    return sorted(
        {
            node.lineno
            for function in functions
            for names in [timed_names(function, attributes)]
            for node in ast.walk(function)
            if isinstance(node, ast.Assert) and is_bound(node.test, names)
        }
    )


def test_no_test_asserts_how_long_something_takes() -> None:
    """What is about time is a bound of tests/bench, which prints it; other tests count."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if not {"bench", "long"}.intersection(path.parts)]
    wrong = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in bounds_of_time(path.read_text())]
    assert not wrong


def test_a_bound_of_time_is_found() -> None:
    head = "def test_it():\n    began = time.monotonic()\n    took = time.monotonic() - began\n"
    for assertion in ("took < 5", "1 < took < 5", "5 > time.process_time() - began", "max(took, 1) <= 5"):
        assert bounds_of_time(f"{head}    assert {assertion}\n") == [4], assertion
    for assertion in ("took > 5", "relay.seconds > 5", "relay.messages < 5", "time.monotonic() > began"):
        assert bounds_of_time(f"{head}    assert {assertion}\n") == [], assertion
    for assertion in (
        "relay.cpu_seconds - before < 6",
        "full.seconds < empty.seconds + 2",
        "relay.counters()['relay_loop_lag_seconds'] < 1",
    ):
        assert bounds_of_time(f"def test_it():\n    assert {assertion}\n") == [2], assertion


def test_a_bound_of_time_is_found_where_an_object_keeps_it() -> None:
    writes = "class Clients:\n    def send(self):\n        began = time.monotonic()\n"
    asserts = "def test_it():\n    assert clients.longest < 5\n    assert clients.sent < 5\n"
    for kept in (
        "self.longest = max(self.longest, time.monotonic() - began)",
        "self.longest: float = time.monotonic() - began",
        "self.longest += time.monotonic() - began",
        "_, self.longest = time.monotonic(), time.monotonic() - began",
    ):
        assert bounds_of_time(f"{writes}        {kept}\n{asserts}") == [6], kept
    begins = "class Clients:\n    def begin(self):\n        self.began = time.monotonic()\n"
    assert bounds_of_time(f"{begins}def test_it():\n    assert time.monotonic() - clients.began < 5\n") == [5]


def test_no_test_module_is_imported() -> None:
    """What several share stands in a kit, which is named for what it gives."""
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in imports_of(path)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    ]
    assert not wrong
