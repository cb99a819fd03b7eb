"""The command line as a whole: help, versions, mistypings, `--config`, exit codes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from relay import __version__
from relay.cli.app import app, run
from relay.cli.invocation import Invocation
from relay.cli.startup import config_first
from relay.config.settings import Settings
from relay.directory.reader_process import ReaderProcess
from tests.peers.rows import each_row
from tests.unit.cli.cli_kit import CommandLine

VERBS = {
    "server": "add list show set remove default password test authorize",
    "channel": "add list show set remove password test authorize",
    "agent": "add list show set remove password test authorize invite",
    "application": "add list show set remove password",
    "queue": "list show retry hold release remove export",
    "account": "list release",
    "messages": "list show",
    "node": "list drain",
    "provider": "list",
    "webhook": "list test replay",
    "alert": "list test",
    "secrets": "list import rotate",
    "import": "postfix msmtp",
    "directory": "import export",
    "config": "show",
    "admin": "add list set password link remove",
    "token": "add list remove",
}
PLAIN = ("serve", "init", "demo", "check", "status", "route", "doctor", "sendmail", "backup", "restore")
COMMANDS = [(name,) for name in PLAIN] + [(noun, verb) for noun, verbs in VERBS.items() for verb in verbs.split()]


def test_these_are_the_commands() -> None:
    assert set(_commands()) == set(COMMANDS)


def _commands() -> Iterator[tuple[str, ...]]:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        verbs = getattr(command, "commands", None)
        yield from [(name,)] if verbs is None else [(name, verb) for verb in verbs]


@each_row("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_one_example_that_fits_a_terminal(
    words: tuple[str, ...], relay: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = relay.good(*words, "--help")
    assert out.count("Example:") == 1
    assert f"relay {' '.join(words)}" in out.partition("Example:")[2]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("words", [[], ["server"], ["server", "add"]])
def test_help_has_a_short_name_too(words: list[str], relay: CommandLine) -> None:
    assert relay.good(*words, "-h") == relay.good(*words, "--help")


@pytest.mark.parametrize("words", [[], ["server"], ["secrets"]])
def test_a_command_without_its_verb_shows_its_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], *([noun] for noun in VERBS)])
def test_no_line_of_a_list_of_commands_is_cut(
    words: list[str], relay: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    commands = relay.good(*words, "--help").partition("Commands:")[2]
    assert [line for line in commands.splitlines() if line.endswith("...") or len(line) > 80] == []


def test_the_version(relay: CommandLine) -> None:
    assert relay.good("--version") == f"relay {__version__}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sever", "list"], "No such command 'sever'. Did you mean 'server'"),
        (["server", "lsit"], "No such command 'lsit'. Did you mean 'list'"),
        (["help"], "No such command 'help'"),
        (["server", "add", "x"], "give --host HOST or --provider P"),
        (["server", "add", "x", "--host", "h", "--prt", "1"], "No such option: --prt"),
        (["server", "add", "x", "--host", "h", "--port", "many"], "Invalid value for '--port'"),
        (["server", "set", "x"], "Missing argument"),
        (["server", "show"], "Missing argument 'NAME'"),
        (["agent", "password", "x", "--incoming", "--login"], "give one of --login and --incoming"),
        (["application", "add", "x"], "Missing option '--may-send-as'"),
        (["route"], "Missing argument 'SENDER'"),
        (["demo", "--port", "70000"], "Invalid value for '--port'"),
        (["queue", "show"], "Missing argument 'ID'"),
        (["account", "release"], "Missing argument 'SERVER/USERNAME'"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_sentence(words: list[str], sentence: str, relay: CommandLine) -> None:
    done = relay(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(sentence)
    assert done.err.splitlines()[1].startswith("Try: relay ")
    done = relay(*words, "--json")
    assert (done.code, done.err, done.json["ok"]) == (2, "", False)


def test_config_may_stand_before_or_after_the_command(
    relay: CommandLine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = str(relay.settings_file)
    for arguments in (
        ["--config", file, "check"],
        ["check", "--config", file],
        ["check", f"--config={file}"],
        ["server", "list", "--config", file],
        ["server", "--config", file, "list"],
    ):
        assert run(arguments) == 0, arguments
    assert run(["check", "--config"]) == 2
    assert "--config" in capsys.readouterr().err


def test_what_stands_after_two_hyphens_is_no_option() -> None:
    assert config_first(["route", "--", "--config", "x"]) == ["route", "--", "--config", "x"]
    assert config_first(["a", "--config", "x", "b"]) == ["--config", "x", "a", "b"]


def test_the_settings_file_may_be_named_by_the_environment(
    relay: CommandLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELAY_CONFIG", str(relay.settings_file))
    assert run(["config", "show"]) == 0
    assert capsys.readouterr().out.startswith(f"# {relay.settings_file}\n")


def test_a_fault_of_ours_is_a_sentence_with_its_place(relay: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise KeyError("nothing")

    monkeypatch.setattr("relay.cli.check.check_files", break_down)
    done = relay("check")
    assert done.code == 1
    assert done.err.startswith("this is a fault in relay, please report it: KeyError in test_cli_usage.py:")


def test_a_folder_that_cannot_be_made_is_a_sentence(relay: CommandLine) -> None:
    (relay.folder / "file").write_text("")
    relay.settings_file.write_text(f'state_dir = "{relay.folder}/file/state"\n')
    done = relay("server", "list")
    assert done.code == 1
    assert "Not a directory" in done.err
    assert len(done.err.splitlines()) == 1


def test_serve_and_demo_hand_over_and_end_with_the_exit_code(
    relay: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def serve(settings: Settings, settings_file: Path | None, apart: ReaderProcess) -> int:
        assert isinstance(apart, ReaderProcess)
        seen.append((settings.hostname, settings_file))
        return 7

    def demo(port: int, *, send: bool) -> int:
        seen.append((port, send))
        return 3

    monkeypatch.setattr("relay.app.process.run", serve)
    monkeypatch.setattr("relay.app.demo.run", demo)
    assert relay("serve").code == 7
    assert relay("demo", "--send", "--port", "2500").code == 3
    relay("demo")
    relay("demo", "--send")
    assert seen == [("relay.test", relay.settings_file), (2500, True), (2525, False), (0, True)]


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        (
            "there is no account 'x'; see relay account list",
            "there is no account 'x'; see relay account list --config F",
        ),
        ("go on with: relay account release a/b", "go on with: relay account release a/b --config F"),
        ("one: relay server list\ntwo: relay check", "one: relay server list --config F\ntwo: relay check --config F"),
        ("relay.toml: relay.hostname: nobody knows it", "relay.toml: relay.hostname: nobody knows it"),
        ("stop relay and put back a backup", "stop relay and put back a backup"),
    ],
)
def test_a_command_to_go_on_with_names_the_same_settings(sentence: str, told: str) -> None:
    assert Invocation(Path("F")).told(sentence) == told
    assert Invocation(None).told(sentence) == sentence


@pytest.mark.parametrize("where", [["--config", "F"], ["--config=F"], ["--config", "other", "--config=F"]])
def test_a_refusal_names_the_settings_that_were_given(where: list[str], relay: CommandLine) -> None:
    file = str(relay.settings_file)
    done = relay("account", "release", "no/body", *(word.replace("F", file) for word in where))
    assert done.err == f"there is no account 'no/body'; see relay account list --config {file}\n"
