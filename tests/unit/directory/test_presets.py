"""The presets of providers: every one makes a server that works, and every figure says where it is from."""

from typing import Any

import pytest

from relay.config.faults import Faults
from relay.config.schema import TableFaults
from relay.directory.edit import add_entry
from relay.directory.kinds import SERVER
from relay.directory.model import Auth
from relay.directory.presets import Preset, preset, presets
from relay.directory.rules.validation import parse_directory
from relay.directory.values import EditRefused
from tests.peers.rows import each_row

# The issue names these; others may come.
NAMED = {
    *("google", "google-relay", "microsoft365", "outlook", "ses", "sendgrid", "mailgun", "postmark", "brevo"),
    *("zoho", "yandex", "fastmail", "icloud"),
}
OWN: dict[str, Any] = {"username": "mailer@acme.example", "address": "mailer@acme.example"}


def filled(name: str, **given: Any) -> dict[str, Any]:
    found = preset(name)
    form = {"host": found.host_form.replace("REGION", "eu-central-1")} if found.host_form else {}
    given = {**OWN, **form, **given}
    return found.fill(given)


def faults_of(document: dict[str, Any]) -> list[str]:
    try:
        parse_directory(document, "directory.toml")
    except Faults as faults:
        return [fault.message for fault in faults.faults]
    return []


def test_the_providers_that_people_ask_for_are_there() -> None:
    assert set(presets()) >= NAMED


@each_row("name", presets())
def test_every_preset_is_a_server_without_fault(name: str) -> None:
    document: dict[str, Any] = {}
    add_entry(document, SERVER, "mine", filled(name))
    assert faults_of(document) == []


@each_row("name", presets())
def test_every_figure_has_a_page_as_its_source(name: str) -> None:
    found = preset(name)
    assert found.sources.keys() == found.values.keys()
    assert all(source.startswith("https://") for source in found.sources.values())
    assert found.title
    assert found.note
    assert "auth" in found.values
    assert {"security", "kind"} & found.values.keys()
    assert found.server().effective_security.value != "none"


def test_what_the_person_gives_wins() -> None:
    values = filled("google", host="smtp.other.example", recipients_per_day=10000, security="tls")
    assert (values["host"], values["recipients_per_day"], values["security"]) == ("smtp.other.example", 10000, "tls")
    assert values["recipients_per_message"] == 100
    assert "port" not in values  # it follows the security
    assert filled("sendgrid", username="other")["username"] == "other"


def test_only_a_login_by_oauth_has_its_table() -> None:
    assert filled("microsoft365", oauth={"client_id": "c", "tenant": "t"})["oauth"] == {
        "provider": "microsoft",
        "flow": "code",
        "client_id": "c",
        "tenant": "t",
    }
    assert "oauth" not in filled("google")
    google = filled("google", oauth={"client_id": "c"})
    assert (google["auth"], google["oauth"]["provider"]) == ("oauth2", "google")
    # The app may be registered later: the server is there, and `check` says what it lacks.
    assert preset("microsoft365").fill(OWN)["oauth"] == {"provider": "microsoft", "flow": "code"}
    assert "oauth" not in preset("microsoft365").fill({**OWN, "auth": "login"})
    with pytest.raises(EditRefused, match="a client id is for auth oauth2 alone"):
        filled("google", auth="plain", oauth={"client_id": "c"})


def test_a_provider_with_many_hosts_needs_one() -> None:
    with pytest.raises(EditRefused, match=r"give --host email-smtp\.REGION\.amazonaws\.com"):
        preset("ses").fill(OWN)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gogle", "google"),
        ("microsoft356", "microsoft365"),
        ("fastmial", "fastmail"),
        ("gmail", "google"),
        ("office365", "microsoft365"),
        ("Exchange", "microsoft365"),
        ("hotmail", "outlook"),
        ("amazonaws", "ses"),
    ],
)
def test_a_mistyped_provider_is_refused_with_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(EditRefused) as refused:
        preset(name)
    sentence = f"there is no provider '{name}'; did you mean '{meant}'?; see relay provider list"
    assert str(refused.value) == sentence


@pytest.mark.parametrize("name", ["sendgrid-api", "postmark-api"])
def test_a_provider_whose_api_takes_no_whole_message_says_so(name: str) -> None:
    with pytest.raises(EditRefused, match=r"takes no whole message by its API, .* with port 2525 where 587 is blocked"):
        preset(name)


def test_a_preset_without_a_source_or_a_host_cannot_be() -> None:
    values = {"security": "tls", "auth": "auto"}
    with pytest.raises(ValueError, match="each value needs its source"):
        Preset(name="x", title="X", note="", values=values, sources={"security": "https://x.example"}, host_form="h")
    sources = dict.fromkeys(values, "https://x.example")
    with pytest.raises(ValueError, match="either a host or the form of one"):
        Preset(name="x", title="X", note="", values=values, sources=sources)
    mistyped = Preset(
        name="x", title="X", note="", values={**values, "hots": 1}, sources={**sources, "hots": ""}, host_form="h"
    )
    with pytest.raises(TableFaults, match="did you mean 'host'"):
        mistyped.server()


def test_the_figures_of_the_two_that_lock_accounts_most() -> None:
    microsoft = preset("microsoft365").server()
    assert (microsoft.max_connections, microsoft.messages_per_minute, microsoft.recipients_per_day) == (3, 30, 10000)
    assert microsoft.auth is Auth.OAUTH2
    google = preset("google").server()
    assert (google.recipients_per_day, google.recipients_per_message) == (2000, 100)
