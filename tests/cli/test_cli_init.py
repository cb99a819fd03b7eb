"""`relay init`: from nothing to files that work, and never over what is there."""

import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from relay.cli.app import run
from tests.cli.cli_kit import CommandLine

OPEN = ["--host", "127.0.0.1", "--security", "none", "--auth", "none", "--override", "--no-test"]


@pytest.fixture
def common_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody without rights and without files, whose folders are in the home: the system's are never touched."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr("relay.machine.SYSTEM_SETTINGS", tmp_path / "none")


@pytest.mark.usefixtures("common_user")
def test_options_for_all_write_both_files_and_a_directory_that_works(relay: CommandLine) -> None:
    relay.settings_file.unlink()
    settings = relay.folder / "etc/relay/relay.toml"
    relay.settings_file = settings
    out = relay.good("init", *OPEN, "--address", "support@acmejets.example")
    assert f"wrote {settings}\n" in out
    assert out.endswith(f"ready; start it with: relay serve --config {settings}\n")
    assert settings.read_text() == (Path(__file__).parents[2] / "etc/relay.toml").read_text()
    assert relay.good("check").startswith("no fault")
    assert (relay.folder / ".local/share/relay/directory.toml").exists()


def test_the_directory_has_comments_and_the_first_entries(relay: CommandLine) -> None:
    out = relay.good("init", *OPEN, "--address", "support@acmejets.example")
    assert str(relay.settings_file) not in out.splitlines()[0], "relay.toml was there already"
    text = relay.directory_file.read_text()
    assert text.startswith("# ")
    assert tomllib.loads(text) == {
        "default_server": "main",
        "servers": {"main": {"host": "127.0.0.1", "security": "none", "auth": "none"}},
        "channels": {"support": {"address": "support@acmejets.example", "override": True}},
    }
    relay.good("agent", "add", "jane", "--address", "jane@acmejets.example", "--override")
    assert "#verify_tls = true" in relay.directory_file.read_text()


def test_nothing_is_overwritten(relay: CommandLine) -> None:
    relay.good("init", *OPEN, "--address", "support@acmejets.example")
    before = relay.directory_file.read_bytes()
    done = relay("init", *OPEN, "--address", "other@acmejets.example")
    assert done.code == 1
    assert "is there already, and nothing is overwritten; go on with: relay server add" in done.err
    assert relay.directory_file.read_bytes() == before


def test_a_refused_entry_leaves_nothing_behind(relay: CommandLine) -> None:
    done = relay("init", "--host", "127.0.0.1", "--auth", "none", "--no-test", "--address", "support@acmejets.example")
    assert done.code == 1
    assert "servers.main.address" in done.err
    assert not relay.directory_file.exists()
    relay.good("init", *OPEN, "--address", "support@acmejets.example")


def test_nobody_is_asked_where_stdin_is_no_terminal(relay: CommandLine) -> None:
    done = relay("init")
    assert (done.code, done.out) == (2, "")
    assert "give --host, --address, --username" in done.err
    assert not relay.directory_file.exists()


def test_the_server_is_tried_and_a_failure_is_told(relay: CommandLine) -> None:
    arguments = ["init", "--host", "127.0.0.1", "--security", "none", "--username", "m@acmejets.example"]
    done = relay(*arguments, "--address", "a@acmejets.example", "--agent", "--password-stdin", stdin="geheim-1\n")
    assert done.code == 1
    assert "ok      resolve" in done.out
    assert "FAILED  connect" in done.out
    assert "ready" not in done.out
    config = f"--config {relay.settings_file}"
    assert done.err.splitlines() == [
        "the files are written, but the test failed",
        f"mend it with: relay server set main KEY=VALUE {config}",
        f"or, if the password is wrong: relay server password main {config}",
        f"test again with: relay agent test a --no-send {config}",
    ]
    assert relay.ask("server", "show", "main")["password_set"] is True
    assert relay.ask("agent", "show", "a")["resolved_server"] == "main"


def test_a_person_is_asked_for_what_is_missing(relay: CommandLine) -> None:
    """On a real terminal: the questions come one by one, and the password is not echoed."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "relay.cli.app", "--config", str(relay.settings_file), "init", "--no-test"]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    seen = ""
    for question, answer in (
        ("takes your mail", "smtp.acmejets.example"),
        ("address that sends", "nonsense"),
        ("'nonsense' has no domain; write it as name@domain\r\nThe first address", "jane@acmejets.example"),
        ("account of its own (yes or no) [yes]:", ""),
        ("Password for jane@acmejets.example:", "geheim-2"),
        ("The same again:", "geheim-3"),
        ("the two passwords differ\r\nPassword for", "geheim-2"),
        ("The same again:", ""),
        ("the two passwords differ\r\nPassword for", "geheim-2"),
        ("The same again:", "geheim-2"),
    ):
        seen += _read_until(main, question)
        os.write(main, answer.encode() + b"\n")
    seen += _read_until(main, "ready; start it with")
    assert process.wait(20) == 0
    os.close(main)
    assert "geheim" not in seen
    jane = relay.ask("channel", "show", "jane")
    assert (jane["override"], jane["password_set"]) == (True, True)


def test_a_person_may_name_a_provider_instead_of_a_host(relay: CommandLine) -> None:
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "relay.cli.app", "--config", str(relay.settings_file), "init", "--no-test"]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    seen = ""
    for question, answer in (
        ("takes your mail", "ses"),
        ("Its name (email-smtp.REGION.amazonaws.com):", "email-smtp.eu-west-1.amazonaws.com"),
        ("address that sends", "nonsense"),
    ):
        seen += _read_until(main, question)
        os.write(main, answer.encode() + b"\n")
    _read_until(main, "'nonsense' has no domain")
    process.terminate()
    process.wait(20)
    os.close(main)
    assert "SMTP credentials of the region" in seen


def _read_until(terminal: int, words: str) -> str:
    seen = b""
    while words.encode() not in seen:
        seen += os.read(terminal, 4096)
    return seen.decode()


@pytest.mark.usefixtures("common_user")
def test_without_any_settings_file_the_users_own_is_written(
    relay: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", *OPEN, "--address", "support@acmejets.example"]) == 0
    home = Path(os.environ["HOME"])
    assert (home / ".config/relay/relay.toml").exists()
    assert (home / ".local/share/relay/directory.toml").exists()
    assert (home / ".local/share/relay").stat().st_mode & 0o777 == 0o700
    assert capsys.readouterr().out.endswith("ready; start it with: relay serve\n")


def test_settings_that_send_for_strangers_are_no_trap(relay: CommandLine) -> None:
    relay.settings_file.write_text(f'{relay.settings_file.read_text()}policy.unknown_sender = "default"\n')
    server = ["--host", "smtp.acmejets.example", "--username", "mailer@acmejets.example"]
    relay.good("init", *server, "--address", "support@acmejets.example", "--no-test")
    assert relay.good("check").startswith("no fault")
