"""The house as docs/architecture.md draws it: who may import whom, and which library stays behind which door."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "relay"
# Top to bottom: a folder imports only folders that stand before it.
FOLDERS = (
    "mail",
    "sendmail",
    "directory",
    "moving",
    "secrets",
    "store",
    "upstream",
    "incoming",
    "doctor",
    "delivery",
    "listener",
    "workers",
    "control",
    "web",
    "cli",
)
# These put everything together and see all of it. Every other module beside the folders imports no folder.
SEE_ALL = ("cli", "service", "answering", "standing", "reloading", "process", "worker", "demo", "__main__")
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "aiosmtpd": ("listener",),
    "aiosmtplib": ("upstream",),
    "sqlalchemy": ("store",),
    "alembic": ("store",),
    "psycopg": ("store",),
    "authlib": ("secrets",),
    "httpx2": ("secrets",),
    "scramp": ("secrets", "upstream", "listener"),
    "dns": ("doctor",),
    "spf": ("doctor",),
    "fastapi": ("web",),
    "jinja2": ("web",),
    "starlette": ("control", "web"),
    "uvicorn": ("control", "web"),
    "prometheus_client": ("metrics",),
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
    """relay.mail.address stands in "mail", relay.units in "units", relay itself in ""."""
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
    if there not in FOLDERS:
        return True
    return here in FOLDERS and FOLDERS.index(there) < FOLDERS.index(here)


def test_every_folder_has_its_place() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(FOLDERS)


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
    for path in PACKAGE.glob("*/__init__.py"):
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
        ("mail", "units", False),
        ("store", "faults", True),
        ("settings", "mail", False),
        ("settings", "units", True),
        ("service", "listener", True),
        ("cli", "service", True),
        ("listener", "service", False),
        ("upstream", "delivery", False),
        ("web", "cli", False),
    ],
)
def test_the_rule_itself(here: str, there: str, expected: bool) -> None:
    assert may_import(here, there) == expected
