"""A command starts quickly: it loads what it needs, and none of the libraries that only the relay itself needs.

What each may load is said here. A library more is 10 to 200 ms for whoever types the command.
"""

import json
import subprocess
import sys

import pytest

from tests.unit.cli.cli_kit import CommandLine

pytestmark = pytest.mark.slow

# Typer, and what it brings along.
TYPER = {"typer", "annotated_doc", "shellingham"}
# Settings and the directory are read by pydantic.
SETTINGS = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
# Of Rich only how wide a text is; of the relay what stands behind a command that asks another one.
TABLES = {"rich"}
# Of incoming only what a status says of mailboxes.
ASKING = {"cli", "config", "control", "incoming", "mail", "system"}
READING = ASKING | {"directory"}
SCRIPT = """
import json, sys
from relay.cli.app import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def _modules(*arguments: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, modules


def libraries(modules: list[str]) -> set[str]:
    """Everybody else's packages; what begins with "_" belongs to one of them, or to this way of installing us."""
    names = {name.split(".")[0] for name in modules} - sys.stdlib_module_names - {"relay"}
    return {name for name in names if not name.startswith("_")}


def ours(modules: list[str]) -> set[str]:
    """Our own folders and files at the top."""
    return {name.split(".")[1] for name in modules if name.startswith("relay.")}


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--json"],
        ["route", "support@acmejets.example"],
        ["server", "list"],
        ["channel", "list", "--json"],
        ["queue", "list"],
        ["messages", "list"],
        ["account", "list"],
        ["secrets", "list"],
    ],
    ids=" ".join,
)
def test_commands_over_the_socket_load_little(words: list[str], peopled: CommandLine) -> None:
    with peopled.running():
        _, modules = _modules("--config", str(peopled.settings_file), *words)
    assert "relay.control.transport.client" in modules
    assert "relay.cli.local" not in modules, "the relay was asked"
    assert libraries(modules) <= TYPER | SETTINGS | TABLES
    assert ours(modules) <= ASKING
    assert "asyncio" not in modules
    assert len(modules) < 400


@pytest.mark.parametrize(
    ("words", "allowed", "parts"),
    [
        (["--version"], TYPER, ASKING),
        (["config", "show"], TYPER | SETTINGS | {"tomli_w"}, ASKING),
        (["provider", "list"], TYPER | SETTINGS | TABLES | {"idna"}, READING),
        (["check"], TYPER | SETTINGS | {"idna", "tomli_w", "cryptography"}, READING),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_that_read_files_open_no_store(
    words: list[str], allowed: set[str], parts: set[str], peopled: CommandLine
) -> None:
    code, modules = _modules("--config", str(peopled.settings_file), *words)
    assert code == 0
    assert libraries(modules) <= allowed
    assert ours(modules) <= parts
    assert "asyncio" not in modules


def test_commands_that_open_the_store_load_nothing_of_what_only_serves(peopled: CommandLine) -> None:
    code, modules = _modules("--config", str(peopled.settings_file), "queue", "list")
    assert code == 0
    assert "relay.cli.local" in modules
    assert libraries(modules) & {"alembic", "fastapi", "jinja2", "uvicorn", "starlette", "aiosmtpd", "scramp"} == set()
    assert libraries(modules) & {"tomlkit", "dns", "httpx2", "authlib", "asyncpg"} == set()
    assert "sqlalchemy.orm" not in modules
    assert "sqlalchemy.dialects.postgresql" not in modules


def test_the_version_loads_no_settings() -> None:
    code, modules = _modules("--version")
    assert code == 0
    assert "pydantic" not in modules
    assert len(modules) < 300


def test_a_relay_that_nobody_asks_anything_holds_little() -> None:
    """What answers commands and pages, reads tables or speaks of certificates is loaded when it is needed first."""
    words = "import json, sys; import relay.cli.startup, relay.app.process; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60, check=True)
    modules = json.loads(done.stdout)
    assert libraries(modules) & {"typer", "click", "pydantic", "pydantic_core", "starlette", "uvicorn", "h11"} == set()
    assert (
        libraries(modules) & {"fastapi", "jinja2", "alembic", "tomlkit", "dns", "httpx2", "authlib", "scramp"} == set()
    )
    assert libraries(modules) & {"structlog", "rich"} == set()
    for module in ("relay.control.operations", "relay.doctor", "cryptography.x509", "imaplib"):
        assert module not in modules
