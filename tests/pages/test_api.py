"""The API: what the pages do, in the words of HTTP, with every refusal as a problem."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from relay.web.api import nouns
from tests.pages.described import read_description
from tests.peers.api import ApiClient
from tests.peers.canaries import canary
from tests.peers.console import Console
from tests.peers.python_words import PYTHON
from tests.peers.recorder import Recorder
from tests.unit.control.control_kit import operations_in

# Streams of the commands that a page of the API takes the place of, and what has an address of its own.
ELSEWHERE = {
    "messages.follow",
    "messages.list",
    "queue.list",
    "server.list",
    "channel.list",
    "agent.list",
    "metrics",
    "agent.messages",
    "agent.message",
    "agent.sending",
    # Its passwords come from files of the machine, which only a command reads.
    "moving.import",
    # And whether a file or the database keeps the directory is the machine's business.
    "directory.import",
    "directory.export",
    # How the first administrator comes in is said on the machine.
    "admin.link",
    # The answer of server.default has the one, and the page the other.
    "server.followers",
    "server.entered_anew",
    # As is the store, which is looked at and copied by who has the machine.
    "store.check",
    "store.state",
    "store.copy",
}


@pytest.fixture(scope="module")
def api(console: Console) -> ApiClient:
    return ApiClient(console.url, console.add_token("writer"))


@pytest.fixture(scope="module")
def viewer(console: Console) -> ApiClient:
    return ApiClient(console.url, console.add_token("reader", "viewer"))


@pytest.fixture
def jane(api: ApiClient) -> Iterator[dict[str, Any]]:
    added = api.ask("POST", "/agents", {"name": "jane", "address": "jane@acmejets.example", "override": True})
    assert added.status == 201, added.content
    yield added.json
    api.ask("DELETE", "/agents/jane")


def test_an_entry_is_added_changed_and_removed(api: ApiClient, console: Console) -> None:
    added = api.ask("POST", "/channels", {"name": "sales", "address": "sales@acmejets.example"})
    assert (added.status, added.json["resolved_server"]) == (201, "acmejets")
    changed = api.ask("PATCH", "/channels/sales", {"aliases": ["deals@acmejets.example"], "mode": "queued"})
    assert (changed.status, changed.json["aliases"]) == (200, ["deals@acmejets.example"])
    assert changed.json["mode"] == "queued"
    restored = api.ask("PATCH", "/channels/sales", {"mode": None})
    assert (restored.json["mode"], restored.json["aliases"]) == (None, ["deals@acmejets.example"])
    assert console.relay.ask("channel", "show", "sales")["aliases"] == ["deals@acmejets.example"]
    assert api.ask("DELETE", "/channels/sales").status == 204
    assert api.ask("GET", "/channels/sales").status == 404


def test_who_was_slower_is_told(api: ApiClient, jane: dict[str, Any]) -> None:
    tag = api.ask("GET", "/agents/jane").headers["ETag"]
    assert tag == f'"{jane["version"]}"'
    first = api.ask("PATCH", "/agents/jane", {"group": "sales"}, If_Match=tag)
    assert first.status == 200
    second = api.ask("PATCH", "/agents/jane", {"group": "flights"}, If_Match=tag)
    assert (second.status, second.headers["Content-Type"]) == (412, "application/problem+json")
    assert "changed meanwhile" in second.json["detail"]
    assert api.ask("DELETE", "/agents/jane", If_Match=tag).status == 412
    assert api.get("/agents/jane")["group"] == "sales"
    assert api.ask("DELETE", "/agents/jane", If_Match=first.headers["ETag"]).status == 204


@pytest.mark.usefixtures("jane")
def test_a_refusal_names_the_keys_at_fault(api: ApiClient) -> None:
    wrong = api.ask("POST", "/agents", {"name": "joe", "address": "joe@", "server": "nowhere"})
    assert (wrong.status, wrong.headers["Content-Type"]) == (422, "application/problem+json")
    assert {fault["key"] for fault in wrong.json["errors"]} == {"address", "server"}
    script = api.ask("PATCH", "/channels/support", {"script": "nowhere", "incoming": {"host": "a b"}})
    assert {fault["key"] for fault in script.json["errors"]} == {"script", "incoming.host"}
    unknown = api.ask("POST", "/agents", {"name": "joe", "address": "joe@acmejets.example", "adress": "x"})
    assert (unknown.status, unknown.json["errors"][0]["key"]) == (422, "adress")
    missing = api.ask("POST", "/agents", {"name": "joe"})
    assert (missing.status, missing.json["errors"]) == (422, [{"key": "address", "message": "this is needed"}])
    for method, path, body, key in (
        ("PUT", "/agents/jane/login", {"password": "short"}, "password"),
        ("POST", "/servers/acmejets/test", {"to": "nobody"}, "to"),
    ):
        refused = api.ask(method, path, body)
        assert (refused.status, [fault["key"] for fault in refused.json["errors"]]) == (422, [key]), path


def test_where_another_entry_is_at_fault_its_key_is_whole(api: ApiClient, jane: dict[str, Any]) -> None:
    refused = api.ask("PATCH", "/channels/support", {"address": jane["address"]})
    assert (refused.status, refused.json["errors"][0]["key"]) == (422, "agents.jane.address")


@pytest.mark.parametrize(
    ("kind", "body", "status", "said"),
    [
        ("application/json", b'{"name": "x",}', 400, "the body is not JSON: "),
        ("application/json", b"", 422, "the body has to be a JSON object"),
        ("application/json", b"[]", 422, "the body has to be a JSON object"),
        ("text/plain", b'{"name": "x"}', 422, "Content-Type: application/json"),
    ],
)
def test_what_is_no_body_is_told_so(api: ApiClient, kind: str, body: bytes, status: int, said: str) -> None:
    own = {"Authorization": f"Bearer {api.token}", "Content-Type": kind}
    request = urllib.request.Request(api.address("/channels"), data=body, headers=own, method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    with refused.value as answer:
        problem = json.load(answer)
    assert (answer.code, said in problem["detail"]) == (status, True), problem


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/servers", ("host", "port", "internal", "message_size", "answers", "oauth", "incoming")),
        ("/channels", ("address", "aliases", "override", "mode", "incoming")),
        ("/agents", ("address", "may_send_as", "group")),
        ("/applications", ("may_send_as",)),
        ("/scripts", ("set_headers", "remove_headers")),
    ],
)
def test_a_value_of_another_type_is_said_without_python(api: ApiClient, path: str, keys: Sequence[str]) -> None:
    needed = {"name": "x", "address": "x@acmejets.example", "host": "smtp.example"}
    for key in keys:
        for value in (5, 1.5, "", [], ["a", None], [[1]], [{"match": None}], {}, {"a": None}, {"host": [None]}):
            refused = api.ask("POST", path, {**needed, key: value})
            if refused.status == 201:
                assert api.ask("DELETE", f"{path}/x").status == 204
                continue
            assert (refused.status, PYTHON.findall(refused.json["detail"])) == (422, []), (key, value, refused.json)


def test_a_name_that_is_taken_and_one_that_is_used_are_conflicts(api: ApiClient) -> None:
    taken = api.ask("POST", "/channels", {"name": "support", "address": "other@acmejets.example"})
    assert taken.status in {409, 422}
    assert "already" in taken.json["detail"]
    default = api.ask("DELETE", "/servers/acmejets")
    assert (default.status, "default server" in default.json["detail"]) == (409, True)


def test_without_a_token_nothing_is_told(console: Console) -> None:
    for token in ("", "wrong"):
        refused = ApiClient(console.url, token).ask("GET", "/status")
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert refused.json["title"] == "Unauthorized"


def test_a_viewer_reads_and_changes_nothing(viewer: ApiClient) -> None:
    assert viewer.get("/channels")["total"] == 1
    for method, path, body in (
        ("PATCH", "/channels/support", {"mode": "queued"}),
        ("PUT", "/channels/support/password", {"password": canary("support")}),
        ("DELETE", "/channels/support", None),
        ("POST", "/servers/acmejets/test", {"to": "you@customer.example"}),
        ("POST", "/servers/try", {"values": {"host": "127.0.0.1"}, "to": "you@customer.example"}),
        ("POST", "/tokens", {"name": "mine", "role": "administrator"}),
        ("GET", "/secrets", None),
    ):
        refused = viewer.ask(method, path, body)
        assert refused.status == 403, (method, path, refused.content)


def test_a_password_is_set_and_never_shown(api: ApiClient, jane: dict[str, Any]) -> None:
    assert api.ask("PUT", "/agents/jane/password", {"password": canary("jane")}).status == 204
    assert api.ask("PUT", "/agents/jane/login", {"password": canary("login")}).status == 204
    shown = api.ask("GET", "/agents/jane")
    assert (shown.json["password_set"], shown.json["login_set"]) == (True, True)
    for path in ("/agents/jane", "/audit", "/secrets", "/status"):
        assert b"kanarie" not in api.ask("GET", path).content
    empty = api.ask("PUT", "/agents/jane/password", {"password": ""})
    assert empty.status == 422
    wrong = api.ask("PUT", "/agents/jane/password", {"password": [canary("jane")]})
    assert wrong.status == 422
    assert b"kanarie" not in wrong.content


def test_a_file_of_the_machine_cannot_be_named_from_afar(api: ApiClient) -> None:
    for body in ({"password_from": "file:/etc/passwd"}, {"incoming": {"host": "h", "password_from": "env:HOME"}}):
        assert api.ask("PATCH", "/channels/support", body).status == 422


def test_a_server_is_tested_and_says_its_words(api: ApiClient, upstream: Recorder) -> None:
    before = len(upstream.messages)
    done = api.ask("POST", "/servers/acmejets/test", {"to": "you@customer.example"})
    assert (done.status, done.json["ok"]) == (200, True)
    assert len(upstream.messages) == before + 1
    values = {"host": "127.0.0.1", "port": 1, "security": "none", "auth": "none", "address": "a@acmejets.example"}
    failed = api.ask("POST", "/servers/try", {"values": values, "to": "you@customer.example"})
    assert (failed.status, failed.json["ok"]) == (200, False)
    assert "refused" in failed.json["steps"][-1]["detail"].lower()


def test_people_and_tokens_come_and_go(api: ApiClient, console: Console) -> None:
    added = api.ask("POST", "/tokens", {"name": "robot"})
    assert (added.status, added.json["role"]) == (201, "viewer")
    robot = ApiClient(console.url, added.json["token"])
    assert robot.get("/status")["running"]
    assert b'"token"' not in api.ask("GET", "/tokens").content
    assert api.ask("DELETE", "/tokens/robot").status == 204
    assert robot.ask("GET", "/status").status == 401
    invited = api.ask("POST", "/administrators", {"name": "ann", "role": "viewer"})
    assert (invited.status, invited.json["password_set"]) == (201, False)
    assert invited.json["url"].startswith(f"{console.url}/welcome/")
    assert api.ask("PATCH", "/administrators/ann", {"role": "administrator"}).json["role"] == "administrator"
    again = api.ask("POST", "/administrators/ann/invitation")
    assert (again.status, again.json["url"] != invited.json["url"]) == (201, True)
    assert api.ask("DELETE", "/administrators/ann").status == 204


def test_the_audit_says_who_did_what_by_the_api(api: ApiClient, jane: dict[str, Any]) -> None:
    api.ask("PATCH", "/agents/jane", {"group": "sales"})
    entry = api.get("/audit?what=jane&limit=1")["items"][0]
    assert (entry["who"], entry["way"], entry["operation"]) == ("writer", "api", "agent.set")
    assert entry["changes"] == [{"key": "agents.jane.group", "old": "", "new": "sales"}]


def test_a_table_is_shown_first_and_taken_when_confirmed(api: ApiClient) -> None:
    text = "name,address\nbob,bob@acmejets.example\nbad,bad@\n"
    shown = api.ask("POST", "/agents.csv", {"text": text})
    assert (shown.status, shown.json["done"], shown.json["faults"][0]["line"]) == (200, False, 3)
    good = api.ask("POST", "/agents.csv", {"text": text.rpartition("bad,")[0]}).json
    assert (good["adds"], good["done"]) == (["bob"], False)
    done = api.ask(
        "POST", "/agents.csv", {"text": text.rpartition("bad,")[0], "confirm": True, "expected": good["version"]}
    )
    assert done.json["done"]
    exported = api.ask("GET", "/agents.csv")
    assert exported.headers["Content-Type"].startswith("text/csv")
    assert b"bob@acmejets.example" in exported.content
    assert api.ask("DELETE", "/agents/bob").status == 204


async def test_every_operation_has_a_request(api: ApiClient, tmp_path: Path) -> None:
    """What the commands can do, the API can: an operation that no request is named after is one that was forgotten."""
    async with operations_in(tmp_path) as operations:
        names = set(operations.names)
    requests = [operation.said["operationId"] for operation in read_description(api).operations]
    assert set(requests) == names - ELSEWHERE
    assert len(set(requests)) == len(requests)


def test_what_an_address_does_not_take_it_says(api: ApiClient) -> None:
    for method, path, allowed in (("PATCH", "/status", "GET"), ("DELETE", "/channels", "GET, POST")):
        refused = api.ask(method, path)
        assert (refused.status, refused.headers["Allow"]) == (405, allowed)
        assert refused.json["detail"] == "this address takes no such request; see Allow"


def test_messages_are_counted_in_steps_of_any_width(api: ApiClient) -> None:
    span = "since=2026-11-23T00:00:00Z&until=2026-11-25T00:00:00Z"
    for width, steps in ((300, 576), (3600, 48), (86400, 2)):
        assert len(api.get(f"/messages/counts?{span}&step={width}")) == steps
    for wrong in ("60", "an hour", "3600.0"):
        assert api.ask("GET", f"/messages/counts?{span}&step={quote(wrong)}").status == 422


def test_an_account_without_a_user_name_or_with_a_slash_in_it_has_an_address(api: ApiClient) -> None:
    for username, words in (("", "account acmejets/ is not held"), ("a%2Fb", "there is no account 'acmejets/a/b'")):
        refused = api.ask("POST", f"/accounts/acmejets/{username}/release")
        assert refused.status in {404, 409}
        assert refused.json["detail"].startswith(words)


def test_profiles_are_listed_by_whether_their_password_is_set(api: ApiClient, jane: dict[str, Any]) -> None:
    assert (jane["password_set"], jane["password_needed"]) == (False, False)  # the server asks for no login
    assert [one["name"] for one in api.get("/agents?password=set")["items"]] == []
    assert api.ask("PUT", "/agents/jane/password", {"password": canary("jane")}).status == 204
    assert [one["name"] for one in api.get("/agents?password=set")["items"]] == ["jane"]
    assert api.get("/agents?password=missing")["total"] == 0
    assert api.ask("GET", "/agents?password=no").status == 422


@pytest.mark.parametrize("noun", nouns.NOUNS, ids=lambda noun: noun.word)
async def test_a_record_is_shown_whole(noun: nouns.Noun, tmp_path: Path) -> None:
    """A key that the description lacks would be left out silently."""
    directory: dict[str, Any] = {
        "default_server": "main",
        "servers": {"main": {"host": "smtp.main.example", "username": "mailer@main.example"}},
        "channels": {"support": {"address": "support@main.example"}},
        "agents": {"ann": {"address": "ann@main.example"}},
        "applications": {"shop": {"may_send_as": ["*"]}},
        "scripts": {"default": {"set_headers": {"Organization": "Main"}}},
    }
    async with operations_in(tmp_path, directory) as operations:
        record = (await operations.run(f"{noun.word}.list", {}))[0]
    assert set(record) == set(noun.record.model_fields)
