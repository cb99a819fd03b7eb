"""The commands' edits: what they change, and the sentence for what they refuse."""

import tomllib
from typing import Any

import pytest

from relay.directory.edit import (
    Editable,
    EditRefused,
    add_application,
    add_profile,
    add_server,
    parse_assignments,
    parse_value,
    remove_application,
    remove_profile,
    remove_server,
    set_application,
    set_default,
    set_profile,
    set_server,
)
from relay.directory.model import Agent, Application, Channel, ProfileKind, Server
from relay.directory.rules.validation import parse_directory
from tests.peers.rows import each_row
from tests.unit.directory.directory_kit import HOUSE


@pytest.fixture
def house() -> dict[str, Any]:
    return tomllib.loads(HOUSE)


@each_row(
    ("model", "key", "text", "value"),
    [
        (Server, "host", "smtp.example", "smtp.example"),
        (Server, "security", "tls", "tls"),
        (Server, "port", "587", 587),
        (Server, "port", "", None),
        (Server, "internal", "true", True),
        (Server, "internal", "No", False),
        (Server, "max_connections", "8", 8),
        (Server, "message_size", "25MiB", "25MiB"),
        (Server, "message_size", "1000", 1000),
        (Server, "address", "", None),
        (Server, "password_from", "env:P", "env:P"),
        (Channel, "aliases", "a@x, b@y,", ["a@x", "b@y"]),
        (Channel, "aliases", "", None),
        (Channel, "server", "gmail", "gmail"),
        (Channel, "server", "", None),
        (Channel, "mode", "direct", "direct"),
        (Agent, "full_name", "Jane Doe", "Jane Doe"),
        (Application, "may_send_as", "support, group:sales,*", ["support", "group:sales", "*"]),
        (Application, "may_send_as", "", None),
        (Server, "oauth", "", None),
        (Server, "answers", "", None),
        (Channel, "incoming", "", None),
        (Server, "oauth.client_id", "0f4b2c1e", "0f4b2c1e"),
        (Server, "oauth.tenant", "", None),
        (Channel, "incoming.watch_bounces", "yes", True),
        (Channel, "incoming.port", "993", 993),
    ],
)
def test_a_text_is_read_by_the_type_of_its_key(model: Editable, key: str, text: str, value: Any) -> None:
    assert parse_value(model, key, text) == value
    assert type(parse_value(model, key, text)) is type(value)


@pytest.mark.parametrize(
    ("model", "key", "text", "sentence"),
    [
        (Server, "prot", "1", "prot: there is no such key; did you mean 'port'?"),
        (Channel, "group", "1", "group: there is no such key; remove it"),
        (Server, "port", "smtp", "port: 'smtp' is not a whole number"),
        (Server, "max_connections", "-1", "max_connections: '-1' is not a whole number"),
        (Server, "internal", "maybe", "internal: 'maybe' is neither true nor false"),
        (Channel, "address", "", "address: there is no default; write address=VALUE"),
        (Server, "name", "x", "name: a name cannot be changed; remove the entry and add it under the new name"),
        (
            Server,
            "password",
            "hunter2",
            "password: a password is never an argument; give it with the command `password NAME`",
        ),
        (Server, "answers", "x", "answers: this is a table; write it in directory.toml"),
        (Server, "oauth", "x", "oauth: this is a table; set the keys in it: oauth.KEY=VALUE"),
        (Server, "oauth.client", "x", "oauth.client: there is no such key; did you mean 'client_id'?"),
        (Server, "oauth.provider", "", "oauth.provider: there is no default; write provider=VALUE"),
        (Channel, "oauth.client_id", "x", "oauth.client_id: there is no such key; remove it"),
        (
            Channel,
            "incoming.password",
            "hunter2",
            "incoming.password: a password is never an argument; give it with `password NAME --incoming`",
        ),
        (Channel, "incoming.port", "imaps", "incoming.port: 'imaps' is not a whole number"),
        (Application, "may_sendas", "*", "may_sendas: there is no such key; did you mean 'may_send_as'?"),
        (Agent, "incoming", "x", "incoming: this is a table; set the keys in it: incoming.KEY=VALUE"),
        (Agent, "oauth", "", "oauth: there is no such key; remove it"),
    ],
)
def test_a_text_that_cannot_be_is_refused(model: Editable, key: str, text: str, sentence: str) -> None:
    with pytest.raises(EditRefused) as caught:
        parse_value(model, key, text)
    assert str(caught.value) == sentence


def test_assignments_are_key_and_value() -> None:
    assert parse_assignments(Server, ["port=25", "username=a=b", "address="]) == {
        "port": 25,
        "username": "a=b",
        "address": None,
    }
    with pytest.raises(EditRefused, match="'port' is no assignment; write KEY=VALUE, or KEY= for the default"):
        parse_assignments(Server, ["port"])


def test_the_tables_inside_an_entry_come_with_their_first_key_and_go_with_their_last(house: dict[str, Any]) -> None:
    values = parse_assignments(Channel, ["incoming.host=imap.acme.example", "incoming.watch_bounces=true"])
    set_profile(house, ProfileKind.CHANNEL, "support", values)
    incoming = house["channels"]["support"]["incoming"]
    assert incoming == {"host": "imap.acme.example", "watch_bounces": True}
    set_profile(house, ProfileKind.CHANNEL, "support", {"incoming.watch_bounces": None})
    assert incoming == {"host": "imap.acme.example"}
    set_profile(house, ProfileKind.CHANNEL, "support", {"incoming.host": None})
    assert "incoming" not in house["channels"]["support"]


def test_the_first_server_becomes_the_default() -> None:
    document: dict[str, Any] = {}
    add_server(document, "a", {"host": "a.example", "port": None, "internal": False})
    add_server(document, "b", {"host": "b.example"})
    assert document == {
        "servers": {"a": {"host": "a.example", "internal": False}, "b": {"host": "b.example"}},
        "default_server": "a",
    }
    add_server(document, "c", {"host": "c.example"}, default=True)
    assert document["default_server"] == "c"


def test_a_new_default_moves_those_who_follow_it_and_no_others(house: dict[str, Any]) -> None:
    add_server(house, "other", {"host": "o.example", "username": "o@acme.example"})
    set_default(house, "other")
    after = parse_directory(house)
    assert {profile.name for profile in after.users_of("other")} == {"news"}
    # Their own accounts are at the server that was the default: it is written into their entries.
    assert {house["channels"][name]["server"] for name in ("support", "sales")} == {"custom"}
    assert {profile.name for profile in after.users_of("shared")} == {"jane"}


def test_keys_are_set_and_restored(house: dict[str, Any]) -> None:
    set_server(house, "shared", {"port": 2525, "address": None, "username": "a@b.example"})
    assert house["servers"]["shared"] == {
        "host": "smtp.shared.example",
        "internal": True,
        "username": "a@b.example",
        "port": 2525,
    }
    set_profile(house, ProfileKind.AGENT, "jane", {"aliases": ("j@acme.example",), "group": None, "role": None})
    assert house["agents"]["jane"] == {
        "address": "Jane.Doe@acme.example",
        "server": "shared",
        "aliases": ["j@acme.example"],
    }


def test_profiles_are_added_and_removed(house: dict[str, Any]) -> None:
    add_profile(house, ProfileKind.AGENT, "joe", {"address": "joe@acme.example", "override": True})
    assert parse_directory(house).agents["joe"].override
    remove_profile(house, ProfileKind.AGENT, "joe")
    remove_profile(house, ProfileKind.AGENT, "jane")
    assert "agents" not in house


def test_applications_are_added_changed_and_removed(house: dict[str, Any]) -> None:
    add_application(house, "crm", {"may_send_as": ["support"]})
    set_application(house, "crm", {"may_send_as": ("support", "group:sales")})
    assert parse_directory(house).applications["crm"].may_send_as == ("support", "group:sales")
    remove_application(house, "crm")
    assert house == tomllib.loads(HOUSE)


def test_a_profile_that_others_may_send_as_is_taken_out_there_first(house: dict[str, Any]) -> None:
    def refusal(kind: ProfileKind, name: str) -> str:
        with pytest.raises(EditRefused) as caught:
            remove_profile(house, kind, name)
        return str(caught.value)

    add_application(house, "crm", {"may_send_as": ["news", "support", "*"]})
    set_profile(house, ProfileKind.AGENT, "jane", {"may_send_as": ["jane", "news"]})
    assert refusal(ProfileKind.CHANNEL, "support") == (
        "application crm may send as 'support'; take it out first: relay application set crm 'may_send_as=news,*'"
    )
    assert refusal(ProfileKind.CHANNEL, "news") == (
        "agent jane and another login may send as 'news'; take it out first: relay agent set jane may_send_as=jane"
    )
    set_application(house, "crm", {"may_send_as": ["group:sales"]})
    assert refusal(ProfileKind.AGENT, "jane") == (
        "application crm may send as group 'sales', which 'jane' is the last of; "
        "take it out first: relay application set crm may_send_as="
    )
    add_profile(house, ProfileKind.AGENT, "joe", {"address": "joe@acme.example", "group": "sales"})
    remove_profile(house, ProfileKind.AGENT, "jane")
    assert "jane" not in parse_directory(house).agents


@pytest.mark.parametrize("names", [5, "news", {"news": 1}, [["news"]]])
def test_what_is_no_list_of_names_names_nobody(house: dict[str, Any], names: Any) -> None:
    house["applications"] = {"crm": {"may_send_as": names}}
    remove_profile(house, ProfileKind.CHANNEL, "news")


def test_a_removed_server_hands_its_profiles_over(house: dict[str, Any]) -> None:
    remove_server(house, "shared", move_to="custom")
    assert house["agents"]["jane"]["server"] == "custom"
    assert list(house["servers"]) == ["custom"]


def test_an_unused_server_is_just_removed(house: dict[str, Any]) -> None:
    add_server(house, "other", {"host": "o.example"})
    remove_server(house, "other")
    assert house == tomllib.loads(HOUSE)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda d: remove_server(d, "custom"),
            "'custom' is the default server; make another the default first: relay server default shared",
        ),
        (lambda d: remove_server(d, "custom", "shared"), "'custom' is the default server; "),
        (lambda d: remove_server(d, "shared"), "1 profile sends through 'shared'; say where to: --move-to SERVER"),
        (lambda d: remove_server(d, "shared", "shared"), "--move-to names 'shared' itself; name another server"),
        (lambda d: remove_server(d, "shared", "custm"), "there is no server 'custm'; did you mean 'custom'?"),
        (lambda d: remove_server(d, "x"), "there is no server 'x'"),
        (lambda d: set_default(d, "shard"), "there is no server 'shard'; did you mean 'shared'?"),
        (lambda d: set_server(d, "x", {}), "there is no server 'x'"),
        (
            lambda d: set_profile(d, ProfileKind.CHANNEL, "suport", {}),
            "there is no channel 'suport'; did you mean 'support'?",
        ),
        (lambda d: remove_profile(d, ProfileKind.AGENT, "support"), "there is no agent 'support'"),
        (
            lambda d: add_server(d, "shared", {"host": "h"}),
            "there is a server 'shared' already; name the server differently",
        ),
        (
            lambda d: add_profile(d, ProfileKind.CHANNEL, "jane", {}),
            "there is an agent 'jane' already; name the channel differently",
        ),
        (
            lambda d: add_application(d, "jane", {}),
            "there is an agent 'jane' already; name the application differently",
        ),
        (lambda d: set_application(d, "crm", {}), "there is no application 'crm'"),
        (lambda d: remove_application(d, "crm"), "there is no application 'crm'"),
        (lambda d: add_server(d, "a/b", {"host": "h"}), "'a/b' is no name; write 1 to 64 letters"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(house: dict[str, Any], edit: Any, sentence: str) -> None:
    with pytest.raises(EditRefused) as caught:
        edit(house)
    assert str(caught.value).startswith(sentence)
    assert house == tomllib.loads(HOUSE)


def test_the_only_server_stays() -> None:
    document = {"default_server": "a", "servers": {"a": {"host": "h"}}}
    with pytest.raises(EditRefused, match="'a' is the default server; it is the only one"):
        remove_server(document, "a")


@pytest.mark.parametrize("document", [{"servers": 5}, {"servers": {"a": 5}}])
def test_a_file_that_is_wrong_already_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(EditRefused):
        set_server(document, "a", {"port": 5})
