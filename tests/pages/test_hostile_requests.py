"""Requests that no page of ours sends: paths out of the folder, other sites to go on to, endless bodies."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest

from tests.pages.full_house import AGENT, House
from tests.pages.posting import post
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR
from tests.peers.system import LOOPBACK, wait_until
from tests.peers.visitor import FORM, Page, Visitor, signed_in

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
# What no answer says: our folders, our modules, and how Python tells what went wrong.
INSIDE = ("Traceback", ".py", "site-packages", "starlette", "Exception", "Error:", "/relay/", "sqlite", "relay.db")
ODD_PATHS = (
    "/agents/%00",
    "/agents/%ff%fe",
    "/agents/%0d%0aSet-Cookie:%20x=1",
    "/agents/..%2f..%2fetc%2fpasswd",
    "/agents/{{7*7}}",
    "/messages/%00",
    "/messages/" + "a" * 3000,
    "/messages?at=%00&state=nothing&since=never",
    "/messages?after=x&before=x&at=x",
    "/queue?at=x&state=%00&account=x",
    "/agents?start=-1&limit=-5&sort=no&page=x",
    "/agents?start=99999999999999999999999999",
    "/servers/-/add?provider=%00&security=x&port=x",
    "/audit?since=x&until=x&at=x",
    "/?span=x",
    "/oauth/return?code=%00&state=%00",
    "/nothing-here",
    "/api/v1/nothing-here",
    "/api/v1/agents?limit=x",
    "/api/v1/agents/%00",
    "/sign-in?next=http://[",
    "/sign-in?next=//[::1",
    "/welcome/%00",
    "/welcome/..%2f..",
)


@pytest.fixture(scope="module")
def boss(house: House) -> Visitor:
    return signed_in(house.console, ADMINISTRATOR, canary(ADMINISTRATOR))


@pytest.fixture(scope="module")
def agent(house: House) -> Visitor:
    return signed_in(house.console, AGENT, canary(AGENT))


def is_quiet(page: Page) -> bool:
    return not [word for word in INSIDE if word.lower() in page.text.lower()]


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "/\t/evil.example/",
        " //evil.example/",
        "/%0d%0aSet-Cookie: relay=fixed\r\nX: y",
        "javascript:alert(1)",
        "evil.example",
        "http:evil.example",
        "//[",
        "http://[::1",
        "data:text/html,x",
    ],
)
def test_a_sign_in_leads_nowhere_else(wanted: str, house: House) -> None:
    visitor = Visitor(house.console.url)
    asked = visitor.get("/sign-in?next=" + "".join(f"%{octet:02x}" for octet in wanted.encode()))
    assert asked.status == 200
    assert "evil.example" not in asked.text
    page = visitor.sign_in(ADMINISTRATOR, canary(ADMINISTRATOR), next=wanted)
    assert page.status == 303
    assert page.where.startswith("/")
    assert not page.where.startswith(("//", "/\\"))
    assert "evil.example" not in page.where
    assert page.headers["X"] is None
    assert page.cookie() == visitor.cookie


def test_a_sign_in_leads_on_to_where_one_wanted_to_be(house: House) -> None:
    page = Visitor(house.console.url).sign_in(ADMINISTRATOR, canary(ADMINISTRATOR), next="/agents?q=a%20b")
    assert (page.status, page.where) == (303, "/agents?q=a%20b")


@pytest.mark.parametrize("path", ["/queue", "/agents/-/columns"])
def test_a_form_leads_nowhere_else(path: str, boss: Visitor) -> None:
    for back in ("//evil.example/", "https://evil.example/", "//["):
        page = boss.submit(path, back=back, action="hold")
        assert page.status == 303
        assert page.where.startswith("/")
        assert "evil.example" not in page.where


@pytest.mark.parametrize(
    "path",
    [
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "%2e%2e%2fapp.py",
        "..%5capp.py",
        "....//app.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "relay.css/..%2f..%2fapp.py",
        "%00",
        "relay.css%00.py",
        "",
        ".",
        "a" * 5000,
        "%ff",
    ],
)
def test_nothing_but_the_static_files_is_served(path: str, boss: Visitor) -> None:
    page = boss.get(f"/static/{path}")
    assert page.status in {404, 405}
    assert is_quiet(page)
    assert "root:" not in page.text


def test_odd_addresses_are_told_apart_from_faults(house: House, boss: Visitor, agent: Visitor) -> None:
    for path in ODD_PATHS:
        for visitor in (boss, agent, Visitor(boss.url)):
            page = visitor.get(path)
            assert page.status < 500, (path, page.text)
            assert is_quiet(page), (path, page.text)
            assert not [name for name in page.headers if name == "x"]
    assert '"a page failed' not in house.console.relay.log


def test_a_refusal_names_the_key_and_not_our_folders(house: House, boss: Visitor) -> None:
    wrong = {"name": "joe", "address": "joe@", "server": "nowhere"}
    told = house.writer.ask("POST", "/agents", wrong)
    assert told.status == 422
    assert "address: " in told.json["detail"]
    for said in (told.content.decode(), boss.submit("/agents/-/add", **wrong).text):
        assert "directory.toml" not in said
        assert str(house.console.relay.folder) not in said


def test_odd_forms_are_told_apart_from_faults(house: House, boss: Visitor) -> None:
    before = house.everything
    many = "&".join(f"f{number}=x" for number in range(2000)).encode()
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="../../b"\r\n\r\nc\r\n'
    bodies = (
        (FORM, many),
        (FORM, b"%ff=%fe&form_key=%00&\xff\xfe"),
        ("multipart/form-data; boundary=x", part * 5 + b"--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nno header at all"),
        ("multipart/form-data", part),
        ("multipart/form-data; boundary=" + "y" * 300, part),
        ("application/json", b'{"a":' * 3000),
    )
    for path in ("/sign-in", "/agents/-/add", "/agents/-/import", "/servers/-/test", "/api/v1/agents", "/welcome/x"):
        for kind, body in bodies:
            page = boss.send("POST", path, body, {"Content-Type": kind, "Origin": boss.url})
            assert page.status < 500, (path, kind, page.text)
            assert is_quiet(page), (path, kind, page.text)
    assert house.everything == before
    assert '"a page failed' not in house.console.relay.log


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/sign-in", 0),
        ("/agents/-/add", 1),
        ("/profile/password", 1),
        ("/agents/-/import", 16),
        ("/welcome/x", 0),
        ("/api/v1/agents", 1),
        ("/api/v1/agents.csv", 16),
    ],
)
@pytest.mark.parametrize("way", ["with its length", "in chunks"])
def test_a_body_has_an_end(way: str, path: str, most: int, house: House, boss: Visitor) -> None:
    """It is refused before it is read, or as soon as it is more than may come (MiB; 0 is 16 KiB)."""

    def endless() -> Iterator[bytes]:
        yield b"form_key=" + boss.form_key.encode() + b"&name="
        for _ in range(most + 1):
            yield b"a" * MIB

    connection = http.client.HTTPConnection(urlsplit(boss.url).netloc, timeout=30)
    headers = {"Content-Type": FORM if not path.startswith("/api") else "application/json"}
    headers |= {"Cookie": f"relay={boss.cookie}", "Authorization": f"Bearer {house.writer.token}"}
    is_chunked = way == "in chunks"
    headers |= {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str((most + 2) * MIB)}
    with suppress(OSError):  # where we are refused while we send
        connection.request("POST", path, endless(), headers, encode_chunked=is_chunked)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    # An invitation that is none is refused without reading, as is the page of somebody else.
    size = f"{most} MiB" if most else "16 KiB"
    others = {"/profile/password": 403, "/welcome/x": 410} if is_chunked else {}
    assert answer.status == others.get(path, 413), said
    assert answer.status != 413 or f"a request to this address has at most {size}".encode() in said


def test_dawdlers_keep_nobody_waiting(house: House, boss: Visitor) -> None:
    """Heads and bodies that never end, and answers that nobody reads: mail and other pages go on meanwhile."""
    where = (LOOPBACK, urlsplit(boss.url).port or 0)
    rest = f" HTTP/1.1\r\nHost: {urlsplit(boss.url).netloc}\r\n"
    beginnings = (
        b"GET /agents HT",
        f"GET /agents{rest}X-Slow: ".encode(),
        f"POST /sign-in{rest}Content-Type: {FORM}\r\nContent-Length: 5000\r\n\r\nname=a".encode(),
        f"GET /static/relay.css{rest}\r\n".encode() * 50,
    )
    with ExitStack() as stack:
        for number in range(200):
            client = stack.enter_context(socket.create_connection(where, timeout=10))
            client.sendall(beginnings[number % len(beginnings)])
        assert boss.get("/agents").status == 200
        post(house.console, "Sent while others dawdle", sender="support@acmejets.example")
        assert boss.get("/healthz").status == 200
    # The history is written behind the message; whoever has the house next must not see it change.
    wait_until(lambda: "Sent while others dawdle" in boss.get("/messages").text, "the message in the history")


@pytest.mark.parametrize("token", ["", "nonsense"])
def test_nothing_of_a_strangers_request_to_the_api_is_read(token: str, house: House) -> None:
    host = urlsplit(house.console.url).netloc
    head = f"POST /api/v1/agents HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {MIB // 2}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    with socket.create_connection((LOOPBACK, int(host.rpartition(":")[2])), timeout=20) as client:
        client.sendall(f"{head}\r\n[[[".encode())  # the rest never comes
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"application/problem+json" in answer
