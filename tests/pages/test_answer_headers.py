"""What every answer tells a browser: what is forbidden, under which names, and when a notice was shown."""

import socket
from urllib.parse import urlsplit

import pytest

from tests.pages.full_house import AGENT, House, page_routes
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR
from tests.peers.system import LOOPBACK
from tests.peers.visitor import Page, Visitor, signed_in

MIB = 1024 * 1024
REFUSED_PATHS = ("/nothing-here", "/agents/nobody", "/messages/%00", "/sign-in?next=http://[", "/api/v1/nothing-here")


@pytest.fixture(scope="module")
def boss(house: House) -> Visitor:
    return signed_in(house.console, ADMINISTRATOR, canary(ADMINISTRATOR))


@pytest.fixture(scope="module")
def agent(house: House) -> Visitor:
    return signed_in(house.console, AGENT, canary(AGENT))


def check_headers(page: Page, path: str) -> None:
    policy = {one.strip().partition(" ")[0]: one.strip() for one in page.headers["Content-Security-Policy"].split(";")}
    assert policy["default-src"] == "default-src 'none'", path
    assert policy["script-src"] == "script-src 'self'", path
    assert policy["style-src"] == "style-src 'self'", path
    assert policy["form-action"] == "form-action 'self'", path
    assert policy["frame-ancestors"] == "frame-ancestors 'none'", path
    assert policy["base-uri"] == "base-uri 'none'", path
    assert page.headers["X-Content-Type-Options"] == "nosniff", path
    assert page.headers["X-Frame-Options"] == "DENY", path
    assert page.headers["Referrer-Policy"] in {"same-origin", "no-referrer"}, path
    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin", path
    assert "Server" not in page.headers, path
    kept = "immutable" if path.startswith("/static/") and page.status == 200 else "no-store"
    assert kept in page.headers["Cache-Control"], path


def test_every_answer_forbids_frames_foreign_scripts_and_copies(house: House, boss: Visitor, agent: Visitor) -> None:
    for path, methods in page_routes():
        where = house.filled(path)
        for visitor in (boss, agent, Visitor(boss.url)):
            if "GET" in methods:
                check_headers(visitor.get(where), where)
            check_headers(visitor.post(where), where)
    for path in (*REFUSED_PATHS, "/api/v1/openapi.json"):
        check_headers(boss.get(path), path)
    check_headers(boss.send("DELETE", "/agents"), "/agents")
    check_headers(boss.get("/agents", Host="evil.example"), "/agents")
    check_headers(boss.send("POST", "/agents/-/add", b"", {"Content-Length": str(17 * MIB)}), "/agents")


def test_pages_have_no_script_or_style_of_their_own(house: House, boss: Visitor, agent: Visitor) -> None:
    """The policy would stop them; a page that has one is broken, or was broken into."""
    for path, methods in page_routes():
        for visitor in (boss, agent):
            page = visitor.get(house.filled(path)) if "GET" in methods else None
            if page is None or "text/html" not in page.headers.get("Content-Type", ""):
                continue
            assert " style=" not in page.text, path
            assert "<style" not in page.text, path
            assert "javascript:" not in page.text, path
            assert page.text.count("<script") == page.text.count('<script src="/static/relay.js?') == 1, path
            assert " onclick=" not in page.text, path


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:80",
        "relay.test",
        "localhost.evil.example:{port}",
        "127.0.0.1:{port}.evil.example",
        "evil.example#127.0.0.1:{port}",
        "",
    ],
)
def test_a_page_under_a_name_that_is_not_ours_is_nobodys(host: str, house: House, boss: Visitor) -> None:
    """DNS rebinding: another site's name can be made to mean 127.0.0.1, and then its scripts could read us."""
    port = urlsplit(boss.url).port
    before = house.everything
    for path in ("/", "/agents", "/sign-in", "/api/v1/status", "/metrics", "/static/relay.css", "/nothing"):
        page = boss.get(path, Host=host.format(port=port))
        assert page.status == 421, path
        assert "open it by the [web] public_url" in page.text
        assert page.set_cookie() == ""
    assert boss.post("/sign-out", {"form_key": boss.form_key}, Host=host.format(port=port)).status == 421
    # A forwarded name is what anybody wrote, too.
    assert boss.get("/agents", Host=host.format(port=port), X_Forwarded_Host=f"{LOOPBACK}:{port}").status == 421
    assert house.everything == before


def test_a_request_of_two_names_is_none(boss: Visitor) -> None:
    where = urlsplit(boss.url)
    for lines in ("Host: {0}\r\nHost: evil.example", "Host: evil.example\r\nHost: {0}", "X: y"):
        with socket.create_connection((LOOPBACK, where.port or 0), timeout=10) as client:
            client.sendall(
                f"GET /agents HTTP/1.1\r\n{lines.format(where.netloc)}\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.split()[1] in {b"400", b"421"}, lines


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
def test_the_machines_own_names_are_ours(name: str, boss: Visitor) -> None:
    assert boss.get("/agents", Host=f"{name}:{urlsplit(boss.url).port}").status == 200


def test_a_page_that_looks_by_itself_leaves_the_notice_to_the_page_that_shows_it(boss: Visitor) -> None:
    """A page in another window may look between a redirect and the page that the redirect leads to."""
    cookies = f"relay={boss.cookie}; relay-notice=It%20is%20saved."
    by_itself = boss.get("/agents", Cookie=cookies, Relay_By_Itself="1")
    assert not by_itself.set_cookie("relay-notice")
    shown = boss.get("/agents", Cookie=cookies)
    assert "It is saved." in shown.text
    assert shown.set_cookie("relay-notice"), "it is shown once"
