"""A user of this machine without rights, while a relay runs as its service: who asks that one is told so.

What such a user has not begun is no relay of the own, so nothing is said of it and nothing is begun by accident.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cli import invocation
from tests.unit.cli.cli_kit import CommandLine

ROOT = Path(__file__).parents[3]
SAID = "a relay may run as the service of this machine ({}), and only root and its owner may ask; try again with sudo"
SERVER = ("server", "add", "acmejets", "--host", "smtp.acmejets.example", "--username", "mailer@acmejets.example")
COMMANDS = [
    ["status"],
    ["queue", "list"],
    ["queue", "retry", "--all"],
    ["messages", "list"],
    ["messages", "list", "--follow"],
    ["account", "list"],
    ["channel", "list"],
    ["channel", "test", "support", "--no-send"],
    ["route", "support@acmejets.example"],
    ["doctor"],
    ["admin", "link"],
    ["secrets", "list"],
    ["backup", "backup.tar.gz"],
    ["restore", "backup.tar.gz"],
    list(SERVER),
]


@pytest.fixture
def control_socket(relay: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That of the service, whose settings are those of our command line, too. Nobody of ours may connect to it."""
    folder = relay.folder / "run"
    folder.mkdir()
    monkeypatch.chdir(relay.folder)
    monkeypatch.setattr(invocation, "SYSTEM_RUNTIME", folder)
    monkeypatch.setattr(invocation, "SYSTEM_SETTINGS", relay.settings_file)
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(folder / "control.sock"))
        yield folder / "control.sock"


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_who_may_not_ask_is_told_so(relay: CommandLine, control_socket: Path, arguments: list[str]) -> None:
    done = relay(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(SAID.format(control_socket))
    assert "no relay is running" not in done.err
    assert not relay.state_dir.exists()


def test_it_is_told_in_json(relay: CommandLine, control_socket: Path) -> None:
    for arguments in (("status",), ("queue", "list")):
        done = relay(*arguments, "--json")
        assert (done.code, done.json["ok"]) == (1, False)
        assert done.json["error"].startswith(SAID.format(control_socket))


@pytest.mark.usefixtures("control_socket")
def test_check_looks_at_what_this_user_may_read(relay: CommandLine) -> None:
    done = relay("check")
    assert done.code == 0
    looked = f"no fault in {relay.settings_file}; the directory of this machine's service was not looked at, "
    assert done.out == f"{looked}as only root and its owner may: sudo relay check --config {relay.settings_file}\n"
    relay.settings_file.write_text("workers = 0\n")
    assert "workers" in relay("check").err


@pytest.mark.usefixtures("control_socket")
def test_a_relay_of_the_own_is_meant_where_there_is_one(relay: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(invocation, "SYSTEM_RUNTIME", relay.folder / "none")
        relay.good(*SERVER)
    assert [server["name"] for server in relay.ask("server", "list")] == ["acmejets"]
    assert relay("status").out.startswith("no relay is running; start it with: relay serve")
    assert relay.good("check").startswith(f"no fault in {relay.settings_file} and {relay.directory_file}\n")


@pytest.mark.usefixtures("control_socket")
def test_settings_of_the_own_are_meant_where_they_are_named(
    relay: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocation, "SYSTEM_SETTINGS", Path("/etc/relay/relay.toml"))
    assert relay.ask("server", "list") == []
    assert relay("status").out.startswith("no relay is running")


def test_without_a_service_nothing_is_different(relay: CommandLine, control_socket: Path) -> None:
    control_socket.unlink()
    control_socket.touch()  # no socket, so nobody's
    assert relay.ask("queue", "list") == []
    assert relay("status").out.startswith("no relay is running")


@pytest.mark.needs("root", "setpriv")
def test_a_folder_that_may_not_be_looked_into_may_have_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    script = (
        "import sys; from pathlib import Path; from relay.config import machine; "
        "from relay.cli import app, invocation; "
        f"invocation.SYSTEM_RUNTIME = Path({str(folder)!r}); "
        "machine.SYSTEM_SETTINGS = Path('/nonexistent/relay.toml'); "
        "sys.exit(app.run(sys.argv[1:]))"
    )
    env = {name: value for name, value in os.environ.items() if name != "RELAY_CONFIG"} | {"HOME": "/nonexistent"}
    for arguments in (("status",), ("queue", "list")):
        argv = ["setpriv", "--reuid", "54321", "--clear-groups", sys.executable, "-c", script, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60, check=False, cwd=ROOT)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(SAID.format(folder / "control.sock"))
