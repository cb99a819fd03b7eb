"""`relay server` and its verbs."""

import tomllib

import pytest

from tests.peers.mailgun import mailgun_server
from tests.unit.cli.cli_kit import CommandLine
from tests.unit.cli.terminal import Terminal


def test_the_first_server_is_the_default_and_wants_a_password(relay: CommandLine) -> None:
    out = relay.good("server", "add", "acmejets", "--host", "smtp.acmejets.example", "--username", "m@acmejets.example")
    hint = f"relay server password acmejets --config {relay.settings_file}"
    assert out == f"server acmejets added as the default\nset its password with: {hint}\n"
    out = relay.good("server", "add", "open", "--host", "127.0.0.1", "--security", "none", "--auth", "none")
    assert out == "server open added\n"


def test_every_option_of_add_is_written(relay: CommandLine) -> None:
    options = ["--host", "h.example", "--security", "tls", "--port", "1465", "--auth", "cram-md5"]
    options += ["--username", "u@h.example", "--address", "a@h.example", "--internal", "--default", "--password-stdin"]
    relay.good("server", "add", "s", *options, stdin="geheim-1\n")
    assert tomllib.loads(relay.directory_file.read_text()) == {
        "default_server": "s",
        "servers": {
            "s": {
                "host": "h.example",
                "security": "tls",
                "port": 1465,
                "auth": "cram-md5",
                "username": "u@h.example",
                "address": "a@h.example",
                "internal": True,
            }
        },
    }
    assert relay.ask("server", "show", "s")["password_set"] is True


def test_a_mistyped_word_is_refused_with_a_suggestion(relay: CommandLine) -> None:
    done = relay("server", "add", "s", "--host", "h.example", "--security", "startls")
    assert done.code == 1
    assert "servers.s.security: 'startls' is not 'none', 'starttls' or 'tls'; did you mean 'starttls'?" in done.err
    assert not relay.directory_file.exists()


def test_the_list_fits_a_terminal_and_counts_the_users(peopled: CommandLine) -> None:
    lines = peopled.good("server", "list").splitlines()
    assert lines[0].split() == ["NAME", "HOST", "SECURITY", "AUTH", "CHANNELS", "AGENTS"]
    assert lines[1].split() == [
        "acmejets",
        "(default)",
        "smtp.acmejets.example:587",
        "starttls",
        "auto",
        "1",
        "1",
    ]
    assert all(line == line.rstrip() and len(line) <= 80 for line in lines)


def test_an_empty_list_says_so(relay: CommandLine) -> None:
    assert relay.good("server", "list") == "there is no server yet\n"
    assert relay.ask("server", "list") == []


def test_show_tells_every_key_and_no_password(peopled: CommandLine) -> None:
    peopled.good("server", "password", "acmejets", "--password-stdin", "--unchecked", stdin="geheim-2\n")
    shown = dict(line.split(None, 1) for line in peopled.good("server", "show", "acmejets").splitlines() if " " in line)
    assert shown["host"] == "smtp.acmejets.example"
    assert shown["password_set"] == "yes"
    assert "password" not in peopled.ask("server", "show", "acmejets")


def test_set_changes_and_restores(peopled: CommandLine) -> None:
    assert peopled.good("server", "set", "other", "port=1465", "max_connections=2") == "server other changed\n"
    assert peopled.ask("server", "show", "other")["port"] == 1465
    peopled.good("server", "set", "other", "port=")
    assert peopled.ask("server", "show", "other")["port"] == 465
    done = peopled("server", "set", "other", "prot=1")
    assert (done.code, done.err) == (1, "prot: there is no such key; did you mean 'port'?\n")


def test_set_names_every_fault_at_once(peopled: CommandLine) -> None:
    before = peopled.directory_file.read_bytes()
    done = peopled("server", "set", "other", "port=abc", "sec=tls", "host=h.example")
    assert (done.code, done.out) == (1, "")
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["port", "sec"]
    assert peopled.directory_file.read_bytes() == before


def test_the_default_moves_those_who_follow_it(peopled: CommandLine) -> None:
    peopled.good("server", "set", "other", "username=m@other.example")
    assert peopled.good("server", "default", "other") == "server other is the default; 1 profile follows it\n"
    assert peopled.ask("channel", "show", "support")["resolved_server"] == "other"
    assert [record["server"] for record in peopled.ask("agent", "list")] == ["acmejets"], "its own account stays"
    done = peopled("server", "remove", "other", "--move-to", "acmejets")
    assert (done.code, done.out) == (1, "")
    assert "is the default server" in done.err


def test_a_server_in_use_needs_to_know_where_its_users_go(peopled: CommandLine) -> None:
    done = peopled("server", "remove", "other")
    assert (done.code, done.err) == (1, "1 profile sends through 'other'; say where to: --move-to SERVER\n")
    out = peopled.good("server", "remove", "other", "--move-to", "acmejets")
    assert out == "server other removed; 1 profile moved to acmejets\n"


def test_a_test_of_a_server_that_is_not_there_fails_step_by_step(peopled: CommandLine) -> None:
    peopled.good("server", "set", "acmejets", "host=127.0.0.1", "port=1")
    done = peopled("server", "test", "acmejets", "--to", "you@customer.example")
    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[0].startswith("ok      resolve  127.0.0.1")
    assert lines[1].startswith("FAILED  connect  ")
    done = peopled("server", "test", "acmejets", "--to", "you@customer.example", "--no-send", "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    assert [step.keys() for step in done.json["steps"]] == [{"step", "ok", "detail"}] * 2


def test_a_failure_with_json_is_json(peopled: CommandLine) -> None:
    done = peopled("server", "test", "acmejet", "--to", "you@customer.example", "--json")
    assert (done.code, done.err) == (1, "")
    assert done.json == {"ok": False, "error": "there is no server 'acmejet'; did you mean 'acmejets'?"}


def test_a_directory_that_relay_toml_speaks_of_already_can_be_begun(relay: CommandLine) -> None:
    """Settings that name a server and a channel which nobody has added yet are no trap: each command adds its part."""
    settings = relay.settings_file.read_text()
    relay.settings_file.write_text(
        f'{settings}policy.unknown_sender = "default"\n[[listener]]\nmay_send_as = ["support"]\n'
    )
    before = relay("check")
    assert "policy.unknown_sender: 'default' has no effect yet" in before.err
    assert "listener.local.may_send_as: there is no channel or agent 'support'" in before.err
    done = relay("server", "add", "main", "--host", "smtp.acmejets.example", "--auth", "none")
    assert "sends with this server's address, and it has none" in done.err, "what is new must be good"
    relay.good("server", "add", "main", "--host", "smtp.acmejets.example", "--username", "mailer@acmejets.example")
    relay.good("channel", "add", "support", "--address", "support@acmejets.example")
    assert relay.good("check").startswith("no fault")


@pytest.fixture
def terminal(peopled: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Somebody sits at a terminal; the server and jane have passwords, and there is a second server."""
    peopled.good("server", "add", "second", "--host", "smtp.second.example", "--username", "m@second.example")
    peopled.good("server", "password", "acmejets", "--password-stdin", "--unchecked", stdin="geheim-1\n")
    peopled.good("agent", "set", "jane", "override=true")
    peopled.good("agent", "password", "jane", "--password-stdin", "--unchecked", stdin="geheim-2\n")
    monkeypatch.setattr("relay.cli.server.is_person", lambda: True)
    return peopled


def confirmed(terminal: CommandLine, *arguments: str) -> str:
    """Run a command, say yes to its question, and return what it printed."""
    done = terminal(*arguments, stdin="yes\n")
    assert done.code == 0, done
    assert "Go on?" in done.err
    return done.out


def test_a_terminal_says_before_another_host_whose_passwords_count_no_more(terminal: CommandLine) -> None:
    done = terminal("server", "set", "acmejets", "host=smtp.elsewhere.example", stdin="no\n")
    assert done.code == 1
    assert "would have to be set anew: the server's own account, jane" in done.err
    assert "nothing was changed" in done.err
    assert terminal.ask("server", "show", "acmejets")["host"] == "smtp.acmejets.example"
    out = confirmed(terminal, "server", "set", "acmejets", "host=smtp.elsewhere.example")
    assert "server acmejets changed" in out
    assert "must be set anew: jane" in out
    assert "needs a password for acmejets" in terminal.good("server", "list")
    # What is lost already is no news, and what loses nothing is not asked.
    assert "server acmejets changed" in terminal.good("server", "set", "acmejets", "max_connections=2")


def test_a_terminal_asks_nothing_where_passwords_are_kept(terminal: CommandLine) -> None:
    out = terminal.good("server", "set", "acmejets", "host=smtp.elsewhere.example", "--keep-passwords")
    assert out == "server acmejets changed\n"
    assert terminal.ask("agent", "show", "jane")["password_set"] is True


def test_a_terminal_says_before_a_server_goes_whose_passwords_are_not_for_the_next(terminal: CommandLine) -> None:
    confirmed(terminal, "server", "default", "second")
    remove = ("server", "remove", "acmejets", "--move-to", "second")
    done = terminal(*remove, stdin="no\n")
    assert done.code == 1
    assert "would have to be set anew: jane" in done.err
    assert "acmejets" in [one["name"] for one in terminal.ask("server", "list")]
    out = confirmed(terminal, *remove)
    assert "moved to second" in out
    assert "must be set anew: jane" in out


def test_a_terminal_says_before_a_new_default_who_follows_and_who_stays(terminal: CommandLine) -> None:
    terminal.good("agent", "add", "joe", "--address", "joe@acmejets.example")
    done = terminal("server", "default", "second", stdin="no\n")
    assert done.code == 1
    assert "server second would be the default; " in done.out
    assert "follow" in done.out
    assert [one["name"] for one in terminal.ask("server", "list") if one["default"]] == ["acmejets"]
    assert confirmed(terminal, "server", "default", "second").endswith("server second is the default\n")
    assert terminal.ask("agent", "show", "jane")["password_set"] is True, "it is for the server that she stays at"


def test_a_provider_with_a_key_is_asked_about(relay: CommandLine) -> None:
    terminal = Terminal(relay, "server", "add", "ses", "--provider", "ses-api", "--unchecked")
    terminal.answer("The region", "eu-central-1")
    terminal.answer("The access key id", "AKIDEXAMPLE")
    terminal.answer("The address", "mailer@acme.example")
    terminal.answer("(the secret access key)", "geheim-1")
    terminal.answer("again", "geheim-1")
    terminal.end("server ses added as the default")
    found = relay.ask("server", "show", "ses")
    assert (found["kind"], found["api"], found["host"]) == ("https", "ses", "email.eu-central-1.amazonaws.com")
    assert (found["port"], found["security"], found["password_set"]) == (443, "tls", True)
    assert relay("check").err == ""


def test_the_key_of_a_provider_is_tried_without_a_message(relay: CommandLine) -> None:
    relay.good("server", "add", "mailgun", "--provider", "mailgun-api", "--username", "mg.acme.example")
    with mailgun_server() as mailgun:
        relay.good("server", "set", "mailgun", "host=", f"api_url={mailgun.url}", "address=m@acme.example")
        refused = relay("server", "password", "mailgun", "--password-stdin", stdin="wrong\n")
        assert (refused.code, "mailgun refuses this password for mg.acme.example" in refused.err) == (1, True)
        done = relay("server", "password", "mailgun", "--password-stdin", stdin="right\n")
        words = "logged in as mg.acme.example: the key is good for mg.acme.example"
        assert (done.code, done.out) == (0, f"the password of server mailgun is set\nit works: {words}\n")
        assert mailgun.sent == ()


def test_a_provider_with_an_api_is_asked_about_and_tried(relay: CommandLine) -> None:
    terminal = Terminal(relay, "server", "add", "graph", "--provider", "microsoft365-graph")
    terminal.answer("The mailbox that sends", "mailer@acme.example")
    terminal.answer("The client id", "11111111-2222-3333-4444-555555555555")
    terminal.answer("The tenant", "acme.example")
    terminal.answer("have a client secret", "no")
    terminal.end("oauth.key_file=PATH")
    found = relay.ask("server", "show", "graph")
    assert (found["kind"], found["host"], found["security"]) == ("msgraph", "graph.microsoft.com", "tls")
    assert (found["username"], found["oauth"]["tenant"]) == ("mailer@acme.example", "acme.example")
