"""Requests that another site makes a browser send, or lays before it: none of them changes anything."""

import pytest

from tests.pages.full_house import AGENT, House, page_routes
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, VIEWER
from tests.peers.visitor import FORM, Visitor, signed_in

pytestmark = pytest.mark.slow

EVIL = "https://evil.example"
CHANGE = "/channels/support/remove"
# By what a browser, or an older one, tells where a form came from.
FOREIGN = {
    "another site": {"Origin": EVIL},
    "a sandboxed frame": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://127.0.0.1:1"},
    "a name that begins alike": {"Origin": "http://127.0.0.1.evil.example"},
    "no address at all": {"Origin": "http://[::1"},
    "cross-site": {"Sec-Fetch-Site": "cross-site"},
    "a site beside ours": {"Sec-Fetch-Site": "same-site"},
    "both, one of them ours": {"Sec-Fetch-Site": "same-origin", "Origin": EVIL},
}


@pytest.fixture(scope="module")
def victim(house: House) -> Visitor:
    """An administrator who is signed in while visiting another site."""
    return signed_in(house.console, ADMINISTRATOR, canary(ADMINISTRATOR))


@pytest.mark.parametrize("whose", ["none", "empty", "another session's", "another person's", "an ended session's"])
def test_a_form_without_the_key_of_its_session_does_nothing(whose: str, house: House, victim: Visitor) -> None:
    others = {
        "another session's": signed_in(house.console, ADMINISTRATOR, canary(ADMINISTRATOR)),
        "another person's": signed_in(house.console, VIEWER, canary(VIEWER)),
        "an ended session's": signed_in(house.console, ADMINISTRATOR, canary(ADMINISTRATOR)),
    }
    keys = {"none": {}, "empty": {"form_key": ""}} | {name: {"form_key": one.form_key} for name, one in others.items()}
    others["an ended session's"].submit("/sign-out")
    before = house.everything
    refused = victim.post(CHANGE, keys[whose], Origin=victim.url)
    assert (refused.status, "this form is out of date" in refused.text) == (403, True)
    assert house.everything == before


@pytest.mark.parametrize("how", FOREIGN)
def test_a_form_of_another_site_does_nothing_even_with_the_key(how: str, house: House, victim: Visitor) -> None:
    before = house.everything
    body = f"form_key={victim.form_key}".encode()
    refused = victim.send("POST", CHANGE, body, {"Content-Type": FORM, **FOREIGN[how]})
    assert (refused.status, "sent from another site" in refused.text) == (403, True)
    assert house.everything == before


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out", "/welcome/any"])
def test_nobody_is_signed_in_or_out_by_another_site(path: str, house: House, victim: Visitor) -> None:
    """Else somebody could work, and enter passwords, in an account that is the attacker's."""
    fields = {"name": VIEWER, "password": canary(VIEWER), "form_key": victim.form_key}
    refused = victim.post(path, fields, Origin=EVIL)
    assert (refused.status, refused.set_cookie()) == (403, "")
    assert victim.get("/agents").status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "", "multipart/form-data; boundary=none"])
def test_a_body_that_only_looks_like_a_form_does_nothing(kind: str, house: House, victim: Visitor) -> None:
    """A page may send these kinds to another site without asking it first."""
    before = house.everything
    body = f"form_key={victim.form_key}&x=1".encode()
    refused = victim.send("POST", CHANGE, body, {"Content-Type": kind, "Origin": victim.url})
    assert refused.status in {400, 403}
    assert house.everything == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_a_form_is_posted_and_nothing_else(method: str, house: House, victim: Visitor) -> None:
    before = house.everything
    for path in (CHANGE, "/agents/-/invite", "/queue", "/accounts/release"):
        where = f"{path}?form_key={victim.form_key}&name=ben&action=remove&confirm=yes&id={house.held}"
        answer = victim.send(method, where, None, {"X-HTTP-Method-Override": "POST", "Origin": victim.url})
        is_page = method in {"GET", "HEAD"} and path in {CHANGE, "/queue"}
        assert answer.status == (200 if is_page else 405), path
    assert house.everything == before


def test_looking_changes_nothing(house: House, victim: Visitor) -> None:
    """Every page is asked for by everybody, once more with what could be taken for an order."""
    before = house.everything
    agent = signed_in(house.console, AGENT, canary(AGENT))
    after_sign_in = house.everything
    assert after_sign_in[0] == before[0]
    orders = "?action=remove&confirm=yes&name=ben&role=viewer&address=x@y.example&code=a&state=b"
    for path, methods in page_routes():
        if "GET" not in methods:
            continue
        for visitor in (victim, agent, Visitor(victim.url)):
            for method in ("GET", "HEAD"):
                answer = visitor.send(method, house.filled(path) + orders)
                assert answer.status < 500, (method, path)
    assert house.everything == after_sign_in


def test_other_sites_read_nothing(house: House, victim: Visitor) -> None:
    """No answer says that another origin may have it, however it asks."""
    for path in ("/agents", "/agents/-/export", "/events", "/api/v1/agents", "/api/v1/openapi.json", "/metrics"):
        for method in ("GET", "OPTIONS"):
            asked = {"Origin": EVIL, "Access-Control-Request-Method": "GET"}
            headers = victim.send(method, path, None, asked).headers
            assert not [name for name in headers if name.lower().startswith("access-control-")], path
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
