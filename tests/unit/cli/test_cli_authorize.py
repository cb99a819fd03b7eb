"""What people are told about accounts that log in by OAuth, where no relay runs."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from relay.cli.account import token_words
from relay.control.json_values import as_json, from_json
from relay.control.results import NOT_RUNNING, TokenState
from relay.control.transport.client import ControlClient
from tests.unit.cli.cli_kit import CommandLine

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
URL = "http://127.0.0.1:1"


def record(state: str = "ok", error: str = "", *, minutes: int | None = 5) -> dict[str, object]:
    refreshed = None if minutes is None else (NOW - timedelta(minutes=minutes)).isoformat()
    expires = None if minutes is None else (NOW + timedelta(minutes=60 - minutes)).isoformat()
    return {"account": "acme/u", "state": state, "error": error, "refreshed": refreshed, "expires": expires}


@pytest.fixture
def relay_with_oauth(relay: CommandLine) -> CommandLine:
    relay.good("server", "add", "acme", "--host", "h", "--auth", "none")
    directory = relay.state_dir / "directory.toml"
    directory.write_text(
        f"""
default_server = "acme"
[servers.acme]
host = "h"
auth = "oauth2"
username = "u@acme.example"
[servers.acme.oauth]
provider = "custom"
client_id = "app"
flow = "code"
authorize_url = "{URL}/authorize"
token_url = "{URL}/token"
"""
    )
    return relay


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (record(), "token expires in 55 m, last renewed 5 m ago"),
        (record("missing", minutes=None), "nobody has authorized it yet"),
        (
            record("refused", "invalid_grant: a\x1b[2Jb", minutes=80),
            "token expired 20 m ago, last renewed 1 h ago; refused: invalid_grant: a [2Jb",
        ),
        (record("delayed", "away", minutes=None), "token not had yet; delayed: away"),
    ],
)
def test_how_a_token_is(found: dict[str, object], words: str) -> None:
    assert token_words(from_json(TokenState, found), NOW) == words


def test_the_status_shows_expiry_and_last_renewal_of_tokens_and_those_in_trouble_first(
    relay_with_oauth: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = {"running": True, "version": "1", "pid": 1, "since": "2025", "listeners": ["127.0.0.1:2525"]}
    found = {**as_json(NOT_RUNNING), **running, "oauth": [record(), record("missing", minutes=None)]}
    monkeypatch.setattr(ControlClient, "status", lambda _: found)
    first, second = relay_with_oauth.good("status").splitlines()[-2:]
    assert first == "  acme/u: nobody has authorized it yet"
    assert re.fullmatch(r"  acme/u: token expire(d|s) .*, last renewed .*", second)
    found["oauth"] = [record(), *[record("missing", minutes=None)] * 12]
    monkeypatch.setattr(ControlClient, "status", lambda _: found)
    lines = relay_with_oauth.good("status").splitlines()
    assert lines.count("  acme/u: nobody has authorized it yet") == 10
    assert lines[-1].startswith("  and 3 more: relay account list")


def test_the_list_of_accounts_says_how_each_token_is(relay_with_oauth: CommandLine) -> None:
    assert "nobody has authorized it yet" in relay_with_oauth.good("account", "list")
    (account,) = relay_with_oauth.ask("account", "list")
    assert account["oauth"]["state"] == "missing"


def test_a_profile_with_an_account_of_its_own_is_to_be_authorized_next(relay_with_oauth: CommandLine) -> None:
    out = relay_with_oauth.good("agent", "add", "jane", "--address", "jane@acme.example", "--override")
    assert "let it log in with: relay agent authorize jane" in out.replace(str(relay_with_oauth.state_dir), "")


def test_nobody_is_asked_where_nobody_can_be(relay_with_oauth: CommandLine) -> None:
    for options in ([], ["--redirect-stdin"]):
        done = relay_with_oauth("server", "authorize", "acme", *options)
        assert (done.code, "ended before there was an address" in done.err) == (1, True)
        assert f"  {URL}/authorize?" in done.out


def test_without_a_terminal_the_address_is_read_from_stdin(relay_with_oauth: CommandLine) -> None:
    done = relay_with_oauth("server", "authorize", "acme", stdin="http://localhost/?code=c&state=other\n")
    assert (done.code, "its state differs" in done.err) == (1, True)


def test_a_client_secret_is_no_argument_and_shown_nowhere(relay_with_oauth: CommandLine) -> None:
    said = relay_with_oauth.good(
        "server", "password", "acme", "--client-secret", "--password-stdin", stdin="hush-hush\n"
    )
    assert said == "the client secret of server acme is set\n"
    listed = relay_with_oauth.good("secrets", "list")
    assert "client/acme" in listed
    assert "hush" not in listed
