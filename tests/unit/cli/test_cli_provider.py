"""`relay provider list`, and `--provider` where servers are added."""

import tomllib

import pytest

from relay.cli.app import run
from relay.directory.presets import presets
from tests.unit.cli.cli_kit import CommandLine


def test_the_list_needs_no_relay_and_says_what_to_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--config", "/nowhere/relay.toml", "provider", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "HOST", "SECURITY", "AUTH"]
    position = next(number for number, line in enumerate(lines) if line.startswith("microsoft365 "))
    assert lines[position].split() == ["microsoft365", "smtp.office365.com:587", "starttls", "oauth2"]
    assert lines[position + 1].startswith(
        "  3 connections, 30 messages a minute, 10000 recipients a day, 500 recipients"
    )


def test_the_json_list_has_every_figure_with_its_source(relay: CommandLine) -> None:
    records = {record["name"]: record for record in relay.ask("provider", "list")}
    assert list(records) == sorted(presets())
    keys = {"name", "title", "host", "port", "security", "auth", "username", "limits", "note", "sources", "values"}
    assert all(set(record) == keys for record in records.values())
    ses = records["ses"]
    assert (ses["host"], ses["port"]) == ("email-smtp.REGION.amazonaws.com", 587)
    assert ses["limits"] == {"recipients_per_message": 50, "message_size": 40 * 2**20}
    assert all(set(record["limits"]) <= set(record["sources"]) for record in records.values())


def test_a_preset_is_written_out_and_what_is_given_wins(relay: CommandLine) -> None:
    out = relay.good("server", "add", "fast", "--provider", "fastmail", "--username", "m@acme.example", "--default")
    assert "fastmail: needs an app password" in out
    assert "set its password with: relay server password fast" in out
    given = ["--provider", "fastmail", "--security", "starttls", "--auth", "login", "--username", "n@acme.example"]
    relay.good("server", "add", "other", "--host", "smtp.acme.example", *given)
    assert tomllib.loads(relay.directory_file.read_text())["servers"] == {
        "fast": {"host": "smtp.fastmail.com", "security": "tls", "auth": "plain", "username": "m@acme.example"},
        "other": {
            "host": "smtp.acme.example",
            "security": "starttls",
            "auth": "login",
            "username": "n@acme.example",
        },
    }
    assert relay.ask("server", "show", "fast")["port"] == 465
    assert relay.good("check").startswith("no fault")


def test_an_app_may_be_registered_after_the_server_is_added(relay: CommandLine) -> None:
    out = relay.good("server", "add", "ms", "--provider", "microsoft365", "--username", "m@acme.example")
    assert "register an app at the provider, and set its id with: relay server set ms oauth.client_id=ID" in out
    shown = relay.ask("server", "show", "ms")
    assert (shown["host"], shown["port"], shown["security"]) == ("smtp.office365.com", 587, "starttls")
    assert (shown["auth"], shown["oauth"]["provider"], shown["oauth"]["client_id"]) == ("oauth2", "microsoft", "")
    limits = ("max_connections", "messages_per_minute", "recipients_per_day", "recipients_per_message")
    assert [shown[key] for key in limits] == [3, 30, 10000, 500]
    checked = relay("check")
    assert checked.code == 0
    assert "servers.ms.oauth.client_id: there is none yet, so nobody can log in" in checked.err
    refused = relay("server", "authorize", "ms")
    assert (refused.code, "register one there, and set its id with: relay server set ms" in refused.err) == (1, True)
    relay.good("server", "set", "ms", "oauth.client_id=0f4b2c1e", "oauth.tenant=acme.onmicrosoft.com")
    assert relay.ask("server", "show", "ms")["oauth"]["client_id"] == "0f4b2c1e"
    assert relay("check").err == ""
    relay.good("server", "set", "ms", "auth=login", "oauth=")
    assert relay.ask("server", "show", "ms")["oauth"] is None


@pytest.mark.parametrize("provider", [name for name, found in presets().items() if not found.host_form])
def test_every_provider_needs_no_more_than_a_name_and_an_account(provider: str, relay: CommandLine) -> None:
    account = ["--username", "m@acme.example"]
    relay.good("server", "add", "mine", "--provider", provider, *account)
    assert relay.ask("server", "show", "mine")["host"] == presets()[provider].host
    assert relay("check").code == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--provider", "fastmial"],
            "there is no provider 'fastmial'; did you mean 'fastmail'?; see relay provider list",
        ),
        (["--provider", "ses"], "ses has a host for each region; give --host email-smtp.REGION.amazonaws.com"),
    ],
)
def test_what_a_preset_lacks_is_asked_for_in_one_sentence(
    options: list[str], sentence: str, relay: CommandLine
) -> None:
    done = relay("server", "add", "x", *options)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(sentence)
    assert not relay.directory_file.exists()


def test_init_takes_a_provider_instead_of_a_host(relay: CommandLine) -> None:
    account = ["--username", "m@acmejets.example", "--address", "support@acmejets.example"]
    out = relay.good("init", "--provider", "fastmail", *account, "--no-test")
    assert "ready; start it with: relay serve" in out
    assert tomllib.loads(relay.directory_file.read_text())["servers"] == {
        "main": {"host": "smtp.fastmail.com", "security": "tls", "auth": "plain", "username": "m@acmejets.example"}
    }


def test_init_says_what_a_provider_needs_besides(relay: CommandLine) -> None:
    done = relay("init", "--provider", "ses", "--username", "m@acmejets.example", "--address", "s@acmejets.example")
    assert (done.code, done.err) == (2, "stdin is no terminal, so nobody can be asked; give --host\n")
    done = relay("init", "--provider", "microsoft365", "--override", "--address", "s@acmejets.example")
    assert "give --client-id (or another --auth)" in done.err
    done = relay("init", "--provider", "gogle", "--override", "--address", "s@acmejets.example")
    assert (done.code, done.err.partition(";")[0]) == (1, "there is no provider 'gogle'")
