"""Passwords go in and never come out: not on a page, not by the API, not in an export, and not in the log."""

from typing import Any

import pytest

from tests.peers.api import ApiClient
from tests.peers.canaries import MARK, canary, leaks_in
from tests.peers.console import ADMINISTRATOR, VIEWER, Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.visitor import Visitor, signed_in
from tests.web.full_house import page_routes

NAMES = {
    "administrators": ADMINISTRATOR,
    "admins": ADMINISTRATOR,
    "agents": "jane",
    "applications": "shop",
    "channels": "support",
    "scripts": "default",
    "servers": "closed",
    "tokens": "reader",
    "messages": "none",
    "queue": "none",
    "welcome": "none",
    "static": "relay.js",
}


def directory(port: int) -> dict[str, Any]:
    """Passwords that somebody wrote by hand, and entries that take others."""
    found: dict[str, Any] = one_channel(open_server(port))
    found["servers"]["closed"] = open_server(port, auth="plain", username="mailer@acmejets.example")
    found["servers"]["inline"] = open_server(
        port, auth="plain", username="x@acmejets.example", password=canary("inline")
    )
    found["channels"]["support"] |= {"server": "closed", "incoming": {"host": "127.0.0.1", "username": "support"}}
    found["agents"] = {"jane": {"address": "jane@acmejets.example", "override": True, "server": "closed"}}
    found["applications"] = {"shop": {"may_send_as": ["*"]}}
    found["scripts"] = {"default": {"set_headers": {"Organization": "Acme"}}}
    return found


def fill(api: ApiClient, boss: Visitor) -> None:
    """Set every kind of password, by page and by the API, and some that are refused."""
    for path in (
        "/servers/closed/password",
        "/channels/support/password",
        "/channels/support/login",
        "/channels/support/incoming",
        "/agents/jane/password",
        "/agents/jane/login",
        "/applications/shop/login",
    ):
        done = api.ask("PUT", path, {"password": canary(path)})
        assert done.status in {204, 404, 405}, (path, done.content)
        refused = api.ask("PUT", path, {"password": canary("two\nlines")})
        assert leaks_in(refused.content) == [], path
    for path in ("/servers/closed", "/servers/-/add", "/channels/support", "/agents/jane", "/administrators/-/add"):
        fields = dict.fromkeys(("password", "mail_password", "login_password", "client_secret"), canary("by page"))
        page = boss.submit(path, name="two words", address="no address", port="x", way="password", **fields)
        assert page.status == 422, (path, page.status)
        assert leaks_in(page.content) == [], path
    table = f"name,address,password\nbob,no address,{MARK}-in-a-table\n"
    page = boss.submit("/agents/-/import", text=table)
    assert leaks_in(page.content) == []


def walk_pages(visitor: Visitor) -> list[str]:
    """Return the addresses of the pages that tell a password."""
    found = []
    for path, methods in page_routes():
        parts = path.split("/")
        where = "/".join(NAMES[parts[at - 1]] if part.startswith("{") else part for at, part in enumerate(parts))
        if "GET" in methods and leaks_in(visitor.get(where).content):
            found.append(where)
    return found


def walk_api(api: ApiClient) -> list[str]:
    """Return the addresses of the API that tell a password."""
    found, seen = [], 0
    for path, methods in api.get("/openapi.json")["paths"].items():
        parts = path.split("/")
        where = "/".join(
            NAMES.get(parts[at - 1], "x") if part.startswith("{") else part for at, part in enumerate(parts)
        )
        if "get" in methods and where != "/doctor":
            answer = api.ask("GET", where)
            seen += answer.status == 200
            found += [where] if leaks_in(answer.content) else []
    assert seen > 15
    return found


def test_no_answer_tells_a_password(upstream: Recorder) -> None:
    # A relay of its own: `check_leaks` looks at its log, its store and its process at the end.
    with console_process(directory(upstream.port)) as console:
        boss = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
        api = ApiClient(console.url, console.add_token("writer"))
        console.add_token("reader", "viewer")
        fill(api, boss)
        agent = signed_in(console, "jane", canary("/agents/jane/login"))
        fields = {"present_password": canary("wrong one"), "new_password": canary("new one")}
        assert leaks_in(agent.submit("/profile/login", **fields).content) == []
        for visitor in (boss, agent, signed_in(console, VIEWER, canary(VIEWER)), Visitor(console.url)):
            assert walk_pages(visitor) == []
        assert walk_api(api) == []
        assert leaks_in(console.relay.log.encode()) == []


@pytest.mark.parametrize("way", ["query", "path", "header"])
def test_a_password_at_the_wrong_place_is_not_repeated(way: str, console: Console) -> None:
    secret = canary("misplaced").replace(" ", "").replace("%", "").partition("'")[0]
    visitor = Visitor(console.url)
    page = {
        "query": lambda: visitor.get(f"/sign-in?password={secret}"),
        "path": lambda: visitor.get(f"/agents/{secret}/{secret}"),
        "header": lambda: visitor.get("/api/v1/agents", Authorization=f"Bearer {secret}"),
    }[way]()
    assert page.status in {200, 401, 404}
    assert leaks_in(page.content) == []
