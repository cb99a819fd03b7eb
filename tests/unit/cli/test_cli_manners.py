"""What a command does where its output cannot be written, or not in every letter, and for a user without a home."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

RELAY = Path(sys.executable).parent / "relay"


def started(
    folder: Path, *arguments: str, stdout: int | None = subprocess.PIPE, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command with an empty state folder."""
    settings = folder / "relay.toml"
    if not settings.exists():
        folder.chmod(0o700)
        settings.write_text(f'state_dir = "{folder}"\n')
    argv = [str(RELAY), "--config", str(settings), *arguments]
    return subprocess.run(
        argv, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **(env or {})}, timeout=60, check=False
    )


def with_agent(folder: Path) -> None:
    added = started(folder, "server", "add", "acmejets", "--host", "smtp.example", "--username", "m@acmejets.example")
    assert added.returncode == 0, added.stderr
    done = started(folder, "agent", "add", "jörg", "--address", "joerg@acmejets.example", "--full-name", "Jörg → 漢")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_letter_that_the_output_has_not_is_no_fault(tmp_path: Path, encoding: str) -> None:
    with_agent(tmp_path)
    narrow = {"PYTHONIOENCODING": encoding}
    shown = started(tmp_path, "agent", "show", "jörg", env=narrow)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"\\u2192 \\u6f22" in shown.stdout
    (record,) = json.loads(started(tmp_path, "agent", "list", "--json", env=narrow).stdout)
    assert record["full_name"] == "Jörg → 漢"


def test_a_full_output_is_a_failure_with_a_sentence(tmp_path: Path) -> None:
    with_agent(tmp_path)
    for arguments in (("agent", "list"), ("agent", "list", "--json"), ("--version",), ("--help",)):
        full = os.open("/dev/full", os.O_WRONLY)
        done = started(tmp_path, *arguments, stdout=full)
        os.close(full)
        assert done.returncode == 1, arguments
        assert done.stderr.decode() == "the output cannot be written: No space left on device\n"


def test_a_command_whose_reader_is_gone_ends_by_sigpipe(tmp_path: Path) -> None:
    with_agent(tmp_path)
    for arguments in (("agent", "list"), ("agent", "list", "--json"), ("--help",)):
        reader, writer = os.pipe()
        os.close(reader)
        done = started(tmp_path, *arguments, stdout=writer)
        os.close(writer)
        assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b""), arguments


@pytest.mark.needs("root", "setpriv")
def test_a_user_whom_the_system_does_not_know_has_a_sentence() -> None:
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    argv = ["setpriv", "--reuid", "54321", "--clear-groups", sys.executable, "-m", "relay.cli.app", "status"]
    folder = Path(__file__).parents[3]
    done = subprocess.run(argv, capture_output=True, env=env, timeout=60, check=False, cwd=folder)
    assert b"fault in relay" not in done.stderr
    assert done.returncode == 1


def test_what_is_added_and_changed_is_shown_as_json(tmp_path: Path) -> None:
    def ran(*arguments: str) -> dict[str, object]:
        done = started(tmp_path, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    host = ("--host", "smtp.example", "--username", "m@acmejets.example")
    assert ran("server", "add", "acmejets", *host) == ran("server", "show", "acmejets")
    assert ran("server", "set", "acmejets", "max_connections=2")["max_connections"] == 2
    assert ran("channel", "add", "support", "--address", "support@acmejets.example") == ran(
        "channel", "show", "support"
    )
    assert ran("channel", "set", "support", "mode=queued")["mode"] == "queued"
    assert ran("agent", "add", "jane", "--address", "jane@acmejets.example")["name"] == "jane"
    assert ran("agent", "set", "jane", "group=sales")["group"] == "sales"
    assert ran("application", "add", "crm", "--may-send-as", "*") == ran("application", "show", "crm")
    assert ran("application", "set", "crm", "may_send_as=jane")["may_send_as"] == ["jane"]
    refused = started(tmp_path, "channel", "set", "suport", "mode=queued", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["ok"] is False
    assert "there is no channel 'suport'" in json.loads(refused.stdout)["error"]
