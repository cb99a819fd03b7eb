"""The commands' edits: what they change, and the sentence for what they refuse."""

import tomllib
from typing import Any

import pytest

from relay.directory.edit import add_entry, remove_entry, remove_server, set_entry
from relay.directory.kinds import AGENT, APPLICATION, CHANNEL, SERVER, EntryKind, set_default
from relay.directory.model import Agent, Application, Channel, Profile, Server
from relay.directory.rules.validation import parse_directory
from relay.directory.values import Editable, EditRefused, Remedy, parse_assignments, parse_value
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
    set_entry(house, CHANNEL, "support", values)
    incoming = house["channels"]["support"]["incoming"]
    assert incoming == {"host": "imap.acme.example", "watch_bounces": True}
    set_entry(house, CHANNEL, "support", {"incoming.watch_bounces": None})
    assert incoming == {"host": "imap.acme.example"}
    set_entry(house, CHANNEL, "support", {"incoming.host": None})
    assert "incoming" not in house["channels"]["support"]


def test_the_first_server_becomes_the_default() -> None:
    document: dict[str, Any] = {}
    add_entry(document, SERVER, "a", {"host": "a.example", "port": None, "internal": False})
    add_entry(document, SERVER, "b", {"host": "b.example"})
    assert document == {
        "servers": {"a": {"host": "a.example", "internal": False}, "b": {"host": "b.example"}},
        "default_server": "a",
    }
    add_entry(document, SERVER, "c", {"host": "c.example"})
    assert document["default_server"] == "a"


def test_a_new_default_moves_those_who_follow_it_and_no_others(house: dict[str, Any]) -> None:
    add_entry(house, SERVER, "other", {"host": "o.example", "username": "o@acme.example"})
    set_default(house, "other")
    after = parse_directory(house)
    assert {profile.name for profile in after.users_of("other")} == {"news"}
    # Their own accounts are at the server that was the default: it is written into their entries.
    assert {house["channels"][name]["server"] for name in ("support", "sales")} == {"custom"}
    assert {profile.name for profile in after.users_of("shared")} == {"jane"}


def test_keys_are_set_and_restored(house: dict[str, Any]) -> None:
    set_entry(house, SERVER, "shared", {"port": 2525, "address": None, "username": "a@b.example"})
    assert house["servers"]["shared"] == {
        "host": "smtp.shared.example",
        "internal": True,
        "username": "a@b.example",
        "port": 2525,
    }
    set_entry(house, AGENT, "jane", {"aliases": ("j@acme.example",), "group": None, "role": None})
    assert house["agents"]["jane"] == {
        "address": "Jane.Doe@acme.example",
        "server": "shared",
        "aliases": ["j@acme.example"],
    }


def test_profiles_are_added_and_removed(house: dict[str, Any]) -> None:
    add_entry(house, AGENT, "joe", {"address": "joe@acme.example", "override": True})
    assert parse_directory(house).agents["joe"].override
    remove_entry(house, AGENT, "joe")
    remove_entry(house, AGENT, "jane")
    assert "agents" not in house


def test_applications_are_added_changed_and_removed(house: dict[str, Any]) -> None:
    add_entry(house, APPLICATION, "crm", {"may_send_as": ["support"]})
    set_entry(house, APPLICATION, "crm", {"may_send_as": ("support", "group:sales")})
    assert parse_directory(house).applications["crm"].may_send_as == ("support", "group:sales")
    remove_entry(house, APPLICATION, "crm")
    assert house == tomllib.loads(HOUSE)


def test_a_profile_that_others_may_send_as_is_taken_out_there_first(house: dict[str, Any]) -> None:
    def refusal(kind: EntryKind[Profile], name: str) -> tuple[str, Remedy | None]:
        with pytest.raises(EditRefused) as caught:
            remove_entry(house, kind, name)
        return str(caught.value), caught.value.remedy

    add_entry(house, APPLICATION, "crm", {"may_send_as": ["news", "support", "*"]})
    set_entry(house, AGENT, "jane", {"may_send_as": ["jane", "news"]})
    assert refusal(CHANNEL, "support") == (
        "application crm may send as 'support'; take it out first",
        Remedy("application.set", "crm", {"may_send_as": ["news", "*"]}),
    )
    assert refusal(CHANNEL, "news") == (
        "agent jane and another login may send as 'news'; take it out first",
        Remedy("agent.set", "jane", {"may_send_as": ["jane"]}),
    )
    set_entry(house, APPLICATION, "crm", {"may_send_as": ["group:sales"]})
    assert refusal(AGENT, "jane") == (
        "application crm may send as group 'sales', which 'jane' is the last of; take it out first",
        Remedy("application.set", "crm", {"may_send_as": []}),
    )
    add_entry(house, AGENT, "joe", {"address": "joe@acme.example", "group": "sales"})
    remove_entry(house, AGENT, "jane")
    assert "jane" not in parse_directory(house).agents


@pytest.mark.parametrize("names", [5, "news", {"news": 1}, [["news"]]])
def test_what_is_no_list_of_names_names_nobody(house: dict[str, Any], names: Any) -> None:
    house["applications"] = {"crm": {"may_send_as": names}}
    remove_entry(house, CHANNEL, "news")


def test_a_removed_server_hands_its_profiles_over(house: dict[str, Any]) -> None:
    remove_server(house, "shared", move_to="custom")
    assert house["agents"]["jane"]["server"] == "custom"
    assert list(house["servers"]) == ["custom"]


def test_an_unused_server_is_just_removed(house: dict[str, Any]) -> None:
    add_entry(house, SERVER, "other", {"host": "o.example"})
    remove_entry(house, SERVER, "other")
    assert house == tomllib.loads(HOUSE)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda d: remove_entry(d, SERVER, "custom"),
            "'custom' is the default server; make another the default first",
        ),
        (lambda d: remove_server(d, "custom", "shared"), "'custom' is the default server; "),
        (lambda d: remove_entry(d, SERVER, "shared"), "1 profile sends through 'shared'; say where to"),
        (lambda d: remove_server(d, "shared", "shared"), "'shared' cannot take over from itself; name another server"),
        (lambda d: remove_server(d, "shared", "custm"), "there is no server 'custm'; did you mean 'custom'?"),
        (lambda d: remove_entry(d, SERVER, "x"), "there is no server 'x'"),
        (lambda d: set_default(d, "shard"), "there is no server 'shard'; did you mean 'shared'?"),
        (lambda d: set_entry(d, SERVER, "x", {}), "there is no server 'x'"),
        (
            lambda d: set_entry(d, CHANNEL, "suport", {}),
            "there is no channel 'suport'; did you mean 'support'?",
        ),
        (lambda d: remove_entry(d, AGENT, "support"), "there is no agent 'support'"),
        (
            lambda d: add_entry(d, SERVER, "shared", {"host": "h"}),
            "there is a server 'shared' already; name the server differently",
        ),
        (
            lambda d: add_entry(d, CHANNEL, "jane", {}),
            "there is an agent 'jane' already; name the channel differently",
        ),
        (
            lambda d: add_entry(d, APPLICATION, "jane", {}),
            "there is an agent 'jane' already; name the application differently",
        ),
        (lambda d: set_entry(d, APPLICATION, "crm", {}), "there is no application 'crm'"),
        (lambda d: remove_entry(d, APPLICATION, "crm"), "there is no application 'crm'"),
        (lambda d: add_entry(d, SERVER, "a/b", {"host": "h"}), "'a/b': a name has 1 to 64 letters"),
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
        remove_entry(document, SERVER, "a")


@pytest.mark.parametrize("document", [{"servers": 5}, {"servers": {"a": 5}}])
def test_a_file_that_is_wrong_already_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(EditRefused):
        set_entry(document, SERVER, "a", {"port": 5})
