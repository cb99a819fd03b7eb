"""What relay.toml and directory.toml must agree on."""

import tomllib

import pytest

from relay.config.settings import Listener, Policy, Settings
from relay.directory.directory import Directory
from relay.directory.rules.validation import check_together, parse_directory, warnings_together
from tests.unit.directory.directory_kit import HOUSE

EMPTY = Directory()
DEFAULT = Policy(unknown_sender="default")


def sentences(settings: Settings, directory: Directory) -> list[str]:
    return [str(fault) for fault in check_together(settings, directory, directory_file="directory.toml")]


def parsed(text: str) -> Directory:
    return parse_directory(tomllib.loads(text))


def listening(*may_send_as: str) -> Settings:
    return Settings(listeners=(Listener(may_send_as=may_send_as),))


@pytest.mark.parametrize("directory", [EMPTY, parsed(HOUSE)])
def test_the_defaults_fit_every_directory(directory: Directory) -> None:
    assert sentences(Settings(), directory) == []


def test_names_and_groups_that_exist_are_no_fault() -> None:
    assert sentences(listening("support", "jane", "group:sales", "*"), parsed(HOUSE)) == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("suport", "there is no channel or agent 'suport'; did you mean 'support'?"),
        ("nobody", "there is no channel or agent 'nobody'"),
        ("group:sale", "there is no group 'sale'; did you mean 'sales'?"),
        ("", "there is no channel or agent ''"),
    ],
)
def test_a_listener_names_who_is_there(name: str, sentence: str) -> None:
    assert sentences(listening(name), parsed(HOUSE)) == [f"relay.toml: listener.local.may_send_as: {sentence}"]


def test_the_bounces_of_a_listener_leave_from_who_is_there() -> None:
    good, bad = (Settings(listeners=(Listener(bounces=name),)) for name in ("support", "group:sales"))
    assert sentences(good, parsed(HOUSE)) == []
    (sentence,) = sentences(bad, parsed(HOUSE))
    assert sentence.startswith("relay.toml: listener.local.bounces: there is no channel or agent 'group:sales'")


def test_the_users_of_a_unix_socket_are_given_who_is_there() -> None:
    users = {"www-data": ("support", "group:sales", "*"), "1000": ("suport",)}
    settings = Settings(listeners=(Listener(address="unix:/run/mail.sock", users=users),))
    assert sentences(settings, parsed(HOUSE)) == [
        "relay.toml: listener.local.users.1000: there is no channel or agent 'suport'; did you mean 'support'?"
    ]


def test_unknown_senders_by_the_default_server_wait_for_a_server() -> None:
    """That is a warning: whoever begins with an empty directory must be able to add the server."""
    assert sentences(Settings(policy=DEFAULT), EMPTY) == []
    assert [str(warning) for warning in warnings_together(Settings(policy=DEFAULT), EMPTY)] == [
        (
            "relay.toml: policy.unknown_sender: 'default' has no effect yet, because there is no server; "
            "add one: relay server add"
        )
    ]
    assert sentences(Settings(policy=DEFAULT), parsed(HOUSE)) == []
    assert warnings_together(Settings(policy=DEFAULT), parsed(HOUSE)) == ()
    assert warnings_together(Settings(), EMPTY) == ()


def test_unknown_senders_need_the_default_servers_account_and_address() -> None:
    who = 'a sender that is nobody\'s (unknown_sender = "default")'
    assert sentences(Settings(policy=DEFAULT), parsed("default_server = 's'\n[servers.s]\nhost = 'h'")) == [
        (
            f"directory.toml: servers.s.address: {who} sends with this server's address, "
            'and it has none; add address = "…"'
        ),
        (
            f"directory.toml: servers.s.username: {who} sends with this server's account; "
            'add username = "…", or auth = "none"'
        ),
    ]
