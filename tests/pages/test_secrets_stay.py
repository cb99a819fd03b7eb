"""Passwords go in and never come out: not on a page, not by the API, not in an export, and not in the log."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pages.described import Operation, read_description
from tests.pages.full_house import page_routes
from tests.peers.api import ApiClient
from tests.peers.canaries import MARK, canary, leaks_in
from tests.peers.console import ADMINISTRATOR, VIEWER, Console, console_process
from tests.peers.dns import name_server
from tests.peers.form_filler import form_values
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.visitor import Page, Visitor, signed_in

pytestmark = [pytest.mark.slow, pytest.mark.needs("nsd")]

# What stands in a path, by what stands before it.
NAMES = {
    "accounts": "closed",
    "administrators": "ann",
    "admins": "ann",
    "agents": "jane",
    "applications": "shop",
    "channels": "support",
    "closed": "mailer@acmejets.example",
    "scripts": "default",
    "servers": "closed",
    "tokens": "reader",
    "messages": "000000",
    "queue": "000000",
    "welcome": "none",
    "static": "relay.js",
}
_ONE_LINE = "a password is one line of text and not empty"


def directory(port: int) -> dict[str, Any]:
    """Passwords that somebody wrote by hand, and entries that take every other kind."""
    found: dict[str, Any] = one_channel(open_server(port))
    mailbox = {"host": "127.0.0.1", "username": "support"}
    closed = open_server(port, auth="plain", username="mailer@acmejets.example")
    found["servers"]["closed"] = {**closed, "incoming": mailbox}
    found["servers"]["inline"] = {**closed, "username": "x@acmejets.example", "password": canary("inline")}
    found["servers"]["consented"] = {**closed, "auth": "oauth2", "oauth": {"provider": "google", "client_id": "4711"}}
    found["channels"]["support"] |= {"server": "closed", "incoming": mailbox}
    jane = {"address": "jane@acmejets.example", "override": True, "server": "closed", "incoming": mailbox}
    found["agents"] = {"jane": jane}
    found["applications"] = {"shop": {"may_send_as": ["*"]}}
    found["scripts"] = {"default": {"set_headers": {"Organization": "Acme"}}}
    return found


@pytest.fixture(scope="module")
def guarded(upstream: Recorder) -> Iterator[Console]:
    """A relay of its own: `check_leaks` looks at its log, its store and its process at the end."""
    with name_server("") as dns, console_process(directory(upstream.port), {"dns": {"servers": [dns]}}) as console:
        yield console


@pytest.fixture(scope="module")
def boss(guarded: Console) -> Visitor:
    return signed_in(guarded, ADMINISTRATOR, canary(ADMINISTRATOR))


@pytest.fixture(scope="module")
def api(guarded: Console) -> ApiClient:
    client = ApiClient(guarded.url, guarded.add_token("writer"))
    guarded.add_token("reader", "viewer")
    added = client.ask("POST", "/administrators", {"name": "ann", "password": canary("ann")})
    assert (added.status, leaks_in(added.content)) == (201, [])
    return client


@pytest.fixture(scope="module")
def filled(api: ApiClient) -> ApiClient:
    """The API, when every password that it takes is set."""
    for operation in passwords(api):
        where = address(operation)
        untried = {"unchecked": True} if "unchecked" in operation.example else {}
        done = api.ask("PUT", where, {"password": canary(where), **untried})
        assert done.status == 204, (where, done.content)
    return api


def passwords(api: ApiClient) -> list[Operation]:
    """Return the requests that take a password alone."""
    found = [one for one in read_description(api).operations if one.method == "PUT"]
    assert all(set(one.example) - {"unchecked"} == {"password"} for one in found)
    assert len(found) == 11
    return found


def address(operation: Operation) -> str:
    path = filled_path(operation.path)
    return "/servers/consented/client-secret" if path == "/servers/closed/client-secret" else path


def filled_path(path: str) -> str:
    parts = path.split("/")
    for at, part in enumerate(parts):
        parts[at] = NAMES[parts[at - 1]] if part.startswith("{") else part
    return "/".join(parts)


def leaking_pages(visitor: Visitor) -> list[str]:
    """Return the addresses of the pages that tell a password."""
    found = [filled_path(path) for path, methods in page_routes() if "GET" in methods]
    assert len(found) > 50
    return [where for where in found if leaks_in(visitor.get(where).content)]


def is_quiet(page: Page) -> bool:
    return leaks_in(page.content) == []


def test_every_kind_of_password_is_set(filled: ApiClient) -> None:
    secrets = {one["owner"] for one in filled.get("/secrets") if one["source"] == "vault"}
    assert secrets >= {
        "admin/ann",
        "client/consented",
        "login/jane",
        "login/shop",
        "login/support",
        "profile/jane",
        "profile/support",
        "server/closed",
    }
    assert sum("incoming" in owner for owner in secrets) == 3


def test_no_page_tells_a_password(filled: ApiClient, guarded: Console, boss: Visitor) -> None:
    agent = signed_in(guarded, "jane", canary("/agents/jane/login"))
    wrong = {"present_password": canary("wrong one"), "new_password": canary("new one")}
    refused = agent.submit("/profile/login", **wrong)
    assert (refused.status, is_quiet(refused)) == (422, True)
    for visitor in (boss, agent, signed_in(guarded, VIEWER, canary(VIEWER)), Visitor(guarded.url)):
        assert leaking_pages(visitor) == []


def test_no_answer_of_the_api_tells_a_password(filled: ApiClient) -> None:
    leaking, seen = [], 0
    for operation in read_description(filled).operations:
        if operation.method == "GET":
            answer = filled.ask("GET", filled_path(operation.path) + operation.query)
            # There is no message here.
            assert answer.status == (404 if "{id}" in operation.path else 200), (operation.line, answer.content)
            seen += answer.status == 200
            leaking += [operation.line] if leaks_in(answer.content) else []
    assert leaking == []
    assert seen > 20


def test_the_doctor_and_tests_log_in_and_tell_no_password(filled: ApiClient, boss: Visitor, upstream: Recorder) -> None:
    """They hold the passwords in their hands: every account logs in, and each step is told."""
    before = len(upstream.conversations)
    findings = boss.submit("/channels/support/findings")
    assert (findings.status, is_quiet(findings)) == (200, True)
    assert "the login works (plain)" in findings.text
    found = filled.ask("GET", "/doctor")
    assert (found.status, leaks_in(found.content)) == (200, [])
    assert {one["check"] for one in found.json["findings"]} >= {"server", "login", "send-as", "spf", "dmarc"}
    description = read_description(filled)
    assert description.faults({"$ref": "#/components/schemas/Diagnosis"}, found.json) == []
    for path in ("/servers/closed/test", "/channels/support/test", "/agents/jane/test"):
        entry = path.removesuffix("/test")
        form = form_values(boss.get(entry).text, entry) | {"to": "you@customer.example", "send": "true"}
        page = boss.post(path, form, Origin=boss.url)
        assert (page.status, is_quiet(page)) == (200, True), path
        said = filled.ask("POST", path, {"to": "you@customer.example"})
        assert (said.status, said.json["ok"], leaks_in(said.content)) == (200, True, []), path
    conversations = upstream.conversations[before:]
    assert sum(bool(leaks_in(bytes(one.received))) for one in conversations) > 8


def test_a_refused_password_is_not_repeated(api: ApiClient, boss: Visitor) -> None:
    for operation in passwords(api):
        where = address(operation)
        for wrong, statuses in ((canary("two\nlines"), {409, 422}), ([canary("in a list")], {422}), ("", {422})):
            refused = api.ask("PUT", where, {"password": wrong})
            assert refused.status in statuses, (where, refused.status, refused.content)
            assert leaks_in(refused.content) == [], where
    fields = dict.fromkeys(("password", "mail_password", "login_password", "client_secret"), canary("by page"))
    for path in ("/servers/closed", "/servers/-/add", "/channels/support", "/agents/jane", "/administrators/-/add"):
        page = boss.submit(path, name="two words", address="no address", port="x", way="password", **fields)
        assert (page.status, is_quiet(page)) == (422, True), path
    trial = {"values": {"host": "127.0.0.1", "port": 0}, "to": "you@customer.example", "password": canary("trial")}
    tried = api.ask("POST", "/servers/try", trial)
    assert (tried.status, leaks_in(tried.content)) == (422, [])


def test_a_table_with_passwords_is_shown_without_them(filled: ApiClient, boss: Visitor) -> None:
    head, secret = "name,address,override,server,password\n", f"{MARK}-in-a-table"
    wrong = f"{head}bob,no address,true,closed,{secret}\n"
    good = f"{head}bob,bob@acmejets.example,true,closed,{secret}\n"
    page = boss.submit("/agents/-/import", text=wrong)
    assert (page.status, is_quiet(page)) == (422, True)
    assert "1 fault in 1 row" in page.text
    told = filled.ask("POST", "/agents.csv", {"text": wrong})
    assert (told.status, told.json["faults"][0]["key"], leaks_in(told.content)) == (200, "address", [])
    shown = boss.submit("/agents/-/import", text=good)
    assert (shown.status, is_quiet(shown)) == (200, True)
    assert "1 added, 0 changed" in shown.text
    kept = {key: _hidden(shown, key) for key in ("kept", "version")}
    done = boss.submit("/agents/-/import", **kept)
    assert (done.status, is_quiet(done)) == (303, True)
    assert filled.get("/agents/bob")["password_set"]
    for where in ("/agents.csv", "/agents/bob", "/audit", "/secrets"):
        assert leaks_in(filled.ask("GET", where).content) == [], where
    assert is_quiet(boss.get("/agents/-/export"))


def _hidden(page: Page, name: str) -> str:
    """Return what a hidden field of a page holds."""
    found = re.search(rf'name="{name}" value="([^"]+)"', page.text)
    assert found, page.text
    return found.group(1)


@pytest.mark.parametrize("way", ["query", "path", "header"])
def test_a_password_at_the_wrong_place_is_not_repeated(way: str, guarded: Console) -> None:
    secret = canary("misplaced").replace(" ", "").replace("%", "").partition("'")[0]
    visitor = Visitor(guarded.url)
    page = {
        "query": lambda: visitor.get(f"/sign-in?password={secret}"),
        "path": lambda: visitor.get(f"/agents/{secret}/{secret}"),
        "header": lambda: visitor.get("/api/v1/agents", Authorization=f"Bearer {secret}"),
    }[way]()
    assert page.status in {200, 401, 404}
    assert leaks_in(page.content) == []


def test_the_log_tells_no_password(filled: ApiClient, guarded: Console) -> None:
    """What everything above left there; `check_leaks` looks at the files, too."""
    assert '"agent.password"' in guarded.relay.log
    assert leaks_in(guarded.relay.log.encode()) == []
