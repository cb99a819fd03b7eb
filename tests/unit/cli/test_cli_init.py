"""`relay init`: from nothing to files that work, and never over what is there."""

import os
import tomllib
from pathlib import Path

import pytest

from relay.cli.app import run
from tests.unit.cli.cli_kit import CommandLine
from tests.unit.cli.terminal import Terminal

pytestmark = pytest.mark.slow

OPEN = ["--host", "127.0.0.1", "--security", "none", "--auth", "none", "--override", "--no-test"]


@pytest.fixture
def common_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody without rights and without files, whose folders are in the home: the system's are never touched."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr("relay.config.machine.SYSTEM_SETTINGS", tmp_path / "none")


@pytest.mark.usefixtures("common_user")
def test_options_for_all_write_both_files_and_a_directory_that_works(relay: CommandLine) -> None:
    relay.settings_file.unlink()
    settings = relay.folder / "etc/relay/relay.toml"
    relay.settings_file = settings
    out = relay.good("init", *OPEN, "--address", "support@acmejets.example")
    assert f"wrote {settings}\n" in out
    assert out.endswith(f"ready; start it with: relay serve --config {settings}\n")
    assert settings.read_text() == (Path(__file__).parents[3] / "etc/relay.toml").read_text()
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
        "channels": {"support": {"address": "support@acmejets.example", "override": True, "server": "main"}},
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
    """The password is not echoed, and what is no answer is asked for again."""
    terminal = Terminal(relay, "init", "--no-test")
    for question, words in (
        ("takes your mail", ""),
        ("there is no default; write an answer, or end with Ctrl-C\r\nThe server that", "smtp.acmejets.example"),
        ("address that sends", "nonsense"),
        ("'nonsense' has no domain; write it as name@domain\r\nThe first address", "jane@acmejets.example"),
        ("account of its own (yes or no) [no]:", "perhaps"),
        ("'perhaps' is neither yes nor no; write one of them\r\nDoes", "yes"),
        ("Password for jane@acmejets.example:", "geheim-2"),
        ("The same again:", "geheim-3"),
        ("the two passwords differ\r\nPassword for", "geheim-2"),
        ("The same again:", ""),
        ("the two passwords differ\r\nPassword for", "geheim-2"),
        ("The same again:", "geheim-2"),
    ):
        terminal.answer(question, words)
    terminal.end()
    assert "geheim" not in terminal.seen
    jane = relay.ask("channel", "show", "jane")
    assert (jane["override"], jane["password_set"]) == (True, True)


def test_the_defaults_on_a_terminal_are_those_of_the_options(relay: CommandLine) -> None:
    terminal = Terminal(relay, "init", "--no-test")
    for question, words in (
        ("takes your mail", "smtp.acmejets.example"),
        ("address that sends", "support@acmejets.example"),
        ("account of its own (yes or no) [no]:", ""),
        ("Who logs in there then:", "mailer@acmejets.example"),
        ("Password for mailer@acmejets.example:", "geheim-2"),
        ("The same again:", "geheim-2"),
    ):
        terminal.answer(question, words)
    terminal.end()
    answered = relay.directory_file.read_text()
    relay.directory_file.unlink()
    server = ["--host", "smtp.acmejets.example", "--username", "mailer@acmejets.example"]
    relay.good("init", *server, "--address", "support@acmejets.example", "--no-test")
    assert relay.directory_file.read_text() == answered


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("smtp://smtp.acmejets.example", "is no server; write a host name or an IP address, with its port if need be"),
        ("two words", "'two words' is no server; write a host name"),
        ("smtp.acmejets.example:70000", "'70000' is no port; write a number from 1 to 65535"),
        ("smtp.acmejets.example:", "is no server; write a host name"),
        ("[::1", "is no server; write a host name"),
        ("gmail", "did you mean 'google'?"),
    ],
)
def test_a_host_that_is_none_is_refused_at_its_question(relay: CommandLine, bad: str, why: str) -> None:
    terminal = Terminal(relay, "init", "--no-test")
    terminal.answer("takes your mail", bad)
    terminal.wait_for(why)
    terminal.answer("The server that takes your mail", "smtp.acmejets.example")
    terminal.wait_for("address that sends")
    terminal.leave()


@pytest.mark.parametrize(
    ("text", "host", "port", "security"),
    [
        ("smtp.acmejets.example:2587", "smtp.acmejets.example", 2587, "starttls"),
        ("smtp.acmejets.example:465", "smtp.acmejets.example", 465, "tls"),
        ("[2001:db8::1]:587", "2001:db8::1", 587, "starttls"),
        ("2001:db8::1", "2001:db8::1", 587, "starttls"),
        ("192.0.2.1:25", "192.0.2.1", 25, "starttls"),
    ],
)
def test_a_host_may_have_its_port(relay: CommandLine, text: str, host: str, port: int, security: str) -> None:
    options = ["--username", "mailer@acmejets.example", "--address", "a@acmejets.example", "--no-test"]
    relay.good("init", "--host", text, *options)
    server = relay.ask("server", "show", "main")
    assert (server["host"], server["port"], server["security"]) == (host, port, security)


def test_a_host_with_its_port_is_an_answer(relay: CommandLine) -> None:
    terminal = Terminal(
        relay, "init", "--no-test", "--address", "a@acmejets.example", "--username", "m@acmejets.example"
    )
    terminal.answer("takes your mail", "[::1]:465")
    terminal.answer("Password for m@acmejets.example:", "geheim-2")
    terminal.answer("The same again:", "geheim-2")
    terminal.end()
    server = relay.ask("server", "show", "main")
    assert (server["host"], server["port"], server["security"]) == ("::1", 465, "tls")


def test_options_are_judged_before_anybody_is_asked(relay: CommandLine) -> None:
    for options, why in (
        (["--security", "tsl"], "servers.main.security: 'tsl' is not 'none', 'starttls' or 'tls'; did you mean 'tls'?"),
        (["--host", "a b"], "'a b' is no server"),
        (["--address", "nonsense"], "'nonsense' has no domain"),
    ):
        done = relay("init", *options)
        assert (done.code, done.out) == (1, "")
        assert why in done.err
    assert not relay.directory_file.exists()


def test_an_address_that_makes_no_name_is_asked_for_one(relay: CommandLine) -> None:
    options = ["--host", "127.0.0.1", "--username", "m@acmejets.example", "--no-test"]
    terminal = Terminal(relay, "init", *options)
    terminal.answer("address that sends", "o'brien@acmejets.example")
    terminal.answer("What to call it [channel]:", "o'brien")
    terminal.answer("a name has 1 to 64 letters", "obrien")
    terminal.answer("Password for m@acmejets.example:", "geheim-2")
    terminal.answer("The same again:", "geheim-2")
    terminal.end()
    assert relay.ask("channel", "show", "obrien")["address"] == "o'brien@acmejets.example"
    relay.directory_file.unlink()
    done = relay("init", *options, "--address", "o'brien@acmejets.example")
    assert done.code == 2
    assert "give the profile a name with --profile" in done.err


def test_a_user_name_that_is_no_address_lets_mail_leave_with_the_first_one(relay: CommandLine) -> None:
    relay.good("init", "--provider", "sendgrid", "--address", "support@acmejets.example", "--no-test")
    server = relay.ask("server", "show", "main")
    assert (server["username"], server["address"]) == ("apikey", "support@acmejets.example")


def test_who_sends_for_strangers_is_asked_for_the_servers_account(relay: CommandLine) -> None:
    relay.settings_file.write_text(f'{relay.settings_file.read_text()}policy.unknown_sender = "default"\n')
    terminal = Terminal(relay, "init", "--host", "127.0.0.1", "--address", "a@acmejets.example", "--no-test")
    terminal.answer("sends by the server's own account\r\nWho logs in there:", "m@acmejets.example")
    terminal.answer("Password for m@acmejets.example:", "geheim-2")
    terminal.answer("The same again:", "geheim-2")
    terminal.end()
    assert relay.good("check").startswith("no fault")


def test_the_directory_is_private_whoever_writes_it(relay: CommandLine) -> None:
    """A file that people gave another mode keeps it."""
    relay.good("init", *OPEN, "--address", "support@acmejets.example")
    assert relay.directory_file.stat().st_mode & 0o777 == 0o600
    relay.good("agent", "add", "jane", "--address", "jane@acmejets.example", "--override")
    assert relay.directory_file.stat().st_mode & 0o777 == 0o600
    relay.directory_file.chmod(0o640)
    relay.good("agent", "add", "joe", "--address", "joe@acmejets.example", "--override")
    assert relay.directory_file.stat().st_mode & 0o777 == 0o640
    relay.directory_file.unlink()
    relay.good("server", "add", "main", "--host", "127.0.0.1", "--auth", "none")
    assert relay.directory_file.stat().st_mode & 0o777 == 0o600


def test_a_person_may_name_a_provider_instead_of_a_host(relay: CommandLine) -> None:
    terminal = Terminal(relay, "init", "--no-test")
    terminal.answer("takes your mail", "ses")
    terminal.answer("Its name (email-smtp.REGION.amazonaws.com):", "email-smtp.eu-west-1.amazonaws.com")
    terminal.answer("address that sends", "nonsense")
    terminal.wait_for("'nonsense' has no domain")
    terminal.leave()
    assert "SMTP credentials of the region" in terminal.seen


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
