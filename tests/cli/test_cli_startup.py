"""A command that asks a running relay starts quickly: it loads none of the libraries that the relay itself needs."""

import json
import subprocess
import sys

import pytest

from tests.cli.cli_kit import CommandLine

HEAVY = (
    "sqlalchemy",
    "alembic",
    "aiosmtplib",
    "aiosmtpd",
    "starlette",
    "uvicorn",
    "cryptography",
    "tomlkit",
)
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


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--json"],
        ["server", "list"],
        ["channel", "list", "--json"],
        ["queue", "list"],
        ["messages", "list"],
        ["account", "list"],
    ],
)
def test_commands_over_the_socket_load_little(words: list[str], peopled: CommandLine) -> None:
    with peopled.running():
        _, modules = _modules("--config", str(peopled.settings_file), *words)
    assert "relay.control.client" in modules
    assert "relay.cli.local" not in modules, "the relay was asked"
    assert [name for name in HEAVY if name in modules] == []
    assert len(modules) < 650


def test_the_version_loads_no_settings() -> None:
    code, modules = _modules("--version")
    assert code == 0
    assert "pydantic" not in modules
    assert len(modules) < 300
