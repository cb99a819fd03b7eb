"""Every route and who may use it: a route that is not in the table, or that lets in somebody else, fails here."""

from collections.abc import Mapping
from typing import TypeAlias

import pytest

from tests.pages.described import Operation, read_description
from tests.pages.full_house import AGENT, House, page_routes
from tests.peers.api import Answer, ApiClient
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, VIEWER
from tests.peers.visitor import Page, Visitor, signed_in

pytestmark = pytest.mark.slow

Roles: TypeAlias = frozenset[str]
Rule: TypeAlias = Mapping[str, Roles]

_ADMIN = frozenset({"administrator"})
_STAFF = _ADMIN | {"viewer"}
_AGENT = frozenset({"agent"})
_ALL = _STAFF | _AGENT
_ANYBODY = _ALL | {"nobody"}

_SEE: Rule = {"GET": _STAFF}
_CHANGE: Rule = {"GET": _STAFF, "POST": _ADMIN}
_ADMINISTER: Rule = {"GET": _ADMIN, "POST": _ADMIN}
_DO: Rule = {"POST": _ADMIN}
_OWN: Rule = {"GET": _AGENT}
_DO_OWN: Rule = {"POST": _AGENT}
_OPEN: Rule = {"GET": _ANYBODY}
_OPEN_FORM: Rule = {"GET": _ANYBODY, "POST": _ANYBODY}

PAGES: Mapping[str, Rule] = {
    "/": {"GET": _ALL},  # leads agents to their own page
    "/accounts/release": _DO,
    "/administrators": _SEE,
    "/administrators/-/add": _ADMINISTER,
    "/administrators/-/tokens/add": _ADMINISTER,
    "/administrators/-/tokens/{name}/remove": _ADMINISTER,
    "/administrators/{name}": _ADMINISTER,
    "/administrators/{name}/password": _DO,
    "/administrators/{name}/remove": _ADMINISTER,
    "/agents": _SEE,
    "/agents/-/add": _ADMINISTER,
    "/agents/-/columns": {"POST": _STAFF},  # a cookie of the own browser
    "/agents/-/export": _SEE,
    "/agents/-/import": _ADMINISTER,
    "/agents/-/passwords": _ADMINISTER,
    "/agents/-/invite": _DO,
    "/agents/{name}": _CHANGE,
    "/agents/{name}/authorize": _ADMINISTER,
    "/agents/{name}/authorized": _DO,
    "/agents/{name}/invite": _DO,
    "/agents/{name}/remove": _ADMINISTER,
    "/agents/{name}/test": _DO,
    "/agents/-/test": _DO,
    "/alerts": _SEE,
    "/alerts/{number}/test": _DO,
    "/alerts/webhooks/replay": _DO,
    "/alerts/webhooks/{number}/test": _DO,
    "/applications": _SEE,
    "/applications/-/add": _ADMINISTER,
    "/applications/{name}": _CHANGE,
    "/applications/{name}/remove": _ADMINISTER,
    "/audit": _SEE,
    "/channels": _SEE,
    "/channels/-/add": _ADMINISTER,
    "/channels/-/export": _SEE,
    "/channels/-/import": _ADMINISTER,
    "/channels/-/passwords": _ADMINISTER,
    "/channels/{name}": _CHANGE,
    "/channels/{name}/authorize": _ADMINISTER,
    "/channels/{name}/authorized": _DO,
    "/channels/{name}/findings": _DO,
    "/channels/{name}/remove": _ADMINISTER,
    "/channels/{name}/test": _DO,
    "/channels/-/test": _DO,
    "/events": _SEE,
    "/healthz": _OPEN,
    "/messages": _SEE,
    "/messages/{id}": _SEE,
    "/messages/{id}/content": {"GET": _ADMIN},
    "/metrics": _OPEN,  # from this machine
    "/oauth/return": _OWN,
    "/profile": _OWN,
    "/profile/connect": _DO_OWN,
    "/profile/connect/address": _DO_OWN,
    "/profile/login": _DO_OWN,
    "/profile/messages": _OWN,
    "/profile/messages/{id}": _OWN,
    "/profile/password": _DO_OWN,
    "/profile/test": _DO_OWN,
    "/queue": _CHANGE,
    "/readyz": _OPEN,
    "/scripts": _SEE,
    "/scripts/-/add": _ADMINISTER,
    "/scripts/{name}": _CHANGE,
    "/scripts/{name}/remove": _ADMINISTER,
    "/servers": _SEE,
    "/servers/-/add": _ADMINISTER,
    "/servers/-/fill": _DO,
    "/servers/-/test": _DO,
    "/servers/{name}": _CHANGE,
    "/servers/{name}/authorize": _ADMINISTER,
    "/servers/{name}/authorized": _DO,
    "/servers/{name}/default": _ADMINISTER,
    "/servers/{name}/fill": _DO,
    "/servers/{name}/remove": _ADMINISTER,
    "/servers/{name}/test": _DO,
    "/servers/{name}/users": _SEE,
    "/sign-in": _OPEN_FORM,
    "/sign-out": {"POST": _ALL},
    "/static/{path}": _OPEN,
    "/tokens": _SEE,
    "/welcome/{token}": _OPEN_FORM,  # the link says who it is
}
# What the API shows to administrators alone, or asks others for; all else viewers may see, and they change nothing.
ADMIN_READS = frozenset({"/secrets", "/queue/{id}/content", "/doctor"})
_REFUSALS = ("this page is not for the role", "a viewer may look at everything", "with your own profile alone")
_OLD_FORM = "this form is out of date"


@pytest.fixture(scope="module")
def visitors(house: House) -> Mapping[str, Visitor]:
    """One of each role, and one whose session has ended."""
    console = house.console
    ended = signed_in(console, VIEWER, canary(VIEWER))
    assert ended.submit("/sign-out").status == 303
    return {
        "nobody": Visitor(console.url),
        "ended": ended,
        "administrator": signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR)),
        "viewer": signed_in(console, VIEWER, canary(VIEWER)),
        "agent": signed_in(console, AGENT, canary(AGENT)),
    }


def outcome(page: Page) -> str:
    """Return what stopped a request: the sign-in, the role, the form's key; "" for nothing."""
    if page.status == 401 or (page.status == 303 and page.where.startswith("/sign-in")):
        return "sign-in"
    if page.status == 403 and any(words in page.text for words in _REFUSALS):
        return "role"
    return "key" if page.status == 403 and _OLD_FORM in page.text else ""


def expected(rule: Rule, method: str, who: str) -> str:
    """Return what must stop somebody. A role that may send a form here sends one without its key."""
    may = rule[method]
    role = "nobody" if who == "ended" else who
    if role in may:
        return "key" if method == "POST" and "nobody" not in may else ""
    return "sign-in" if role == "nobody" else "role"


def ask(visitor: Visitor, method: str, path: str, *, with_key: bool) -> Page:
    if method == "GET":
        return visitor.get(path)
    return visitor.submit(path, name="ben", password=canary("laid there")) if with_key else visitor.post(path)


def test_the_table_names_every_route() -> None:
    assert {path: set(methods) for path, methods in page_routes()} == {path: set(rule) for path, rule in PAGES.items()}


@pytest.mark.parametrize("who", ["nobody", "ended", "viewer", "agent", "administrator"])
def test_every_page_lets_in_whom_it_is_for_and_nothing_is_changed(
    who: str, house: House, visitors: Mapping[str, Visitor]
) -> None:
    visitor = visitors[who]
    before = house.everything
    wrong = []
    for path, rule in PAGES.items():
        for method in rule:
            wanted = expected(rule, method, who)
            found = outcome(ask(visitor, method, house.filled(path), with_key=wanted == "role"))
            if found != wanted:
                wrong.append(f"{method} {path}: stopped by {found or 'nothing'}, not by {wanted or 'nothing'}")
    assert not wrong
    assert house.everything == before


def operations(house: House) -> list[Operation]:
    """Return all that the API's description has."""
    found = read_description(house.writer).operations
    assert len(found) > 50
    return found


def test_the_api_wants_a_token_for_everything_and_takes_no_session(
    house: House, visitors: Mapping[str, Visitor]
) -> None:
    before = house.everything
    url = house.console.url
    for one in operations(house):
        where = house.filled(one.path) + one.query
        assert ApiClient(url, "").ask(one.method, where, one.example).status == 401, one.line
        # A page of another site can make a browser send its cookie, and no Authorization.
        headers = {"Content-Type": "application/json"}
        answer = visitors["administrator"].send(one.method, f"/api/v1{where}", b"{}", headers)
        assert answer.status == 401, one.line
    assert house.everything == before


def test_a_viewers_token_reads_and_changes_nothing(house: House) -> None:
    before = house.everything
    wrong = []
    for one in operations(house):
        answer = house.reader.ask(one.method, house.filled(one.path) + one.query, one.example)
        is_allowed = one.method == "GET" and one.path not in ADMIN_READS
        if (answer.status == 403) is is_allowed or not _is_told(answer):
            wrong.append(f"{one.line}: {answer.status} {answer.content[:200]!r}")
        if (one.role == "viewer") is not is_allowed:
            wrong.append(f"{one.line}: described as for the role {one.role}")
    assert not wrong
    assert house.everything == before


def _is_told(answer: Answer) -> bool:
    """Whether an answer is what was asked for, or says by whom it may be."""
    return answer.status != 403 or "ask an administrator" in answer.json["detail"]


def test_no_token_is_for_agents(house: House) -> None:
    done = house.console.relay.command("token", "add", "jane", "--role", "agent")
    assert done.status != 0
    assert house.writer.ask("POST", "/tokens", {"name": "jane", "role": "agent"}).status == 422


def test_a_token_opens_no_page(house: House) -> None:
    token = house.console.add_token("third")
    page = Visitor(house.console.url).get("/agents", Authorization=f"Bearer {token}")
    assert outcome(page) == "sign-in"


def test_a_removed_token_opens_nothing(house: House) -> None:
    client = ApiClient(house.console.url, house.console.add_token("brief"))
    assert client.ask("GET", "/agents").status == 200
    assert house.writer.ask("DELETE", "/tokens/brief").status == 204
    assert client.ask("GET", "/agents").status == 401
