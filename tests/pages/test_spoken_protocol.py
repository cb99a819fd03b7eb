"""The test button makes this machine connect where somebody says: it speaks SMTP there, and nothing else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, expect

from tests.peers.api import ApiClient
from tests.peers.console import Console
from tests.peers.system import LOOPBACK
from tests.peers.visitor import Visitor

RECIPIENT = "you@customer.example"
NO_HOSTS = (
    "127.0.0.1\r\nGET / HTTP/1.1",
    "127.0.0.1\nX: y",
    "127.0.0.1\0.evil.example",
    "127.0.0.1\tx",
    "two words.example",
    "file:///etc/passwd",
    "/etc/passwd",
    "unix:/run/docker.sock",
    "http://127.0.0.1/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "127.0.0.1/latest/meta-data",
    "user@127.0.0.1",
    "127.0.0.1:80",
    "-oProxyCommand=x",
    "$(reboot)",
    "a" * 300,
    "a..example",
)


@dataclass(slots=True)
class Other:
    """A service that is no mail server: what it says to whoever connects, and what it was sent."""

    says: bytes
    port: int = 0
    heard: list[bytes] = field(default_factory=list)


@contextmanager
def other_service(says: bytes) -> Iterator[Other]:
    """It says its words at once, listens for two seconds and hangs up."""
    other = Other(says)
    with socket.create_server((LOOPBACK, 0)) as listening:
        other.port = listening.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.settimeout(2)
                    heard = b""
                    try:
                        client.sendall(says)
                        while data := client.recv(4096):
                            heard += data
                    except OSError:
                        pass
                    other.heard.append(heard)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield other
        finally:
            listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.fixture(scope="module")
def api(console: Console) -> ApiClient:
    return ApiClient(console.url, console.add_token("writer"))


def values(port: int, host: str = LOOPBACK) -> dict[str, object]:
    return {"host": host, "port": port, "security": "none", "auth": "none", "address": "mailer@acmejets.example"}


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<script>window.__xss=1</script>",
        b"-ERR unknown command 'EHLO'\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"+OK POP3 ready\r\n* OK IMAP4rev1\r\n",
        b"\x00\xff" * 2000,
        b"2" * 100_000,
    ],
    ids=["web", "400", "redis", "ssh", "mailbox", "octets", "long"],
)
def test_a_service_that_is_no_mail_server_hears_nothing_that_it_could_do(says: bytes, api: ApiClient) -> None:
    with other_service(says) as other:
        done = api.ask("POST", "/servers/try", {"values": values(other.port), "to": RECIPIENT})
    assert done.status == 200
    assert done.json["ok"] is False
    lines = [line for heard in other.heard for line in heard.split(b"\r\n") if line]
    assert other.heard
    assert set(lines) <= {b"QUIT"}
    assert len(done.content) < 10_000


@pytest.mark.needs("chromium")
def test_what_it_says_is_shown_as_text(page: Page, console: Console) -> None:
    says = b"554 <img src=x onerror=window.__xss=1><script>window.__xss=2</script>\x1b[31m\x07\r\n"
    with other_service(says) as other:
        page.goto("/servers/acmejets")
        page.locator("#f-port").fill(str(other.port))
        page.get_by_label("An address to test with").fill(RECIPIENT)
        page.get_by_role("button", name="Test", exact=True).click()
        expect(page.locator("#test-here .outcome")).to_be_visible()
    said = page.locator("#test-here").inner_text()
    assert "<img src=x onerror=window.__xss=1>" in said
    assert "\x1b" not in said
    assert "\x07" not in said
    assert page.locator("#test-here img, #test-here script").count() == 0
    assert page.evaluate("() => window.__xss === undefined")


@pytest.mark.parametrize("host", NO_HOSTS)
def test_a_host_is_a_name_or_an_address_and_nothing_else(host: str, api: ApiClient, console: Console) -> None:
    before = console.relay.directory_file.read_bytes()
    for method, path, body in (
        ("POST", "/servers/try", {"values": values(25, host), "to": RECIPIENT}),
        ("POST", "/servers", {"name": "elsewhere", **values(25, host)}),
        ("PATCH", "/servers/acmejets", {"host": host}),
        ("PATCH", "/channels/support", {"incoming": {"host": host, "username": "x"}}),
    ):
        refused = api.ask(method, path, body)
        assert refused.status == 422, (path, refused.content)
        assert [one for one in refused.json["errors"] if one["key"].endswith("host")], (path, refused.content)
    assert console.relay.directory_file.read_bytes() == before


@pytest.mark.parametrize(
    "to",
    [
        "a@b.example>\r\nDATA",
        "a@b.example\nRCPT TO:<c@d.example>",
        "a@b.example> SIZE=1",
        "no address",
        "a b@c.example",
    ],
)
def test_an_address_brings_no_command_along(to: str, api: ApiClient) -> None:
    with other_service(b"220 here\r\n") as other:
        refused = api.ask("POST", "/servers/try", {"values": values(other.port), "to": to})
        saved = api.ask("POST", "/servers/acmejets/test", {"to": to})
    assert (refused.status, saved.status) == (422, 422) or {refused.status, saved.status} <= {409, 422}
    assert other.heard == []


@pytest.mark.parametrize("port", [0, -1, 65536, 10**9, "25\r\nX", "x"])
def test_a_port_is_a_port(port: object, api: ApiClient) -> None:
    refused = api.ask("POST", "/servers/try", {"values": {**values(25), "port": port}, "to": RECIPIENT})
    assert refused.status == 422
    assert "port" in refused.json["detail"]


def test_nobody_without_a_sign_in_makes_it_connect(console: Console) -> None:
    with other_service(b"220 here\r\n") as other:
        visitor = Visitor(console.url)
        for path in ("/servers/-/test", "/servers/acmejets/test", "/channels/support/test", "/profile/test"):
            fields = {"host": LOOPBACK, "port": str(other.port), "to": RECIPIENT, "security": "none", "auth": "none"}
            page = visitor.post(path, fields)
            assert (page.status, page.where) == (303, "/sign-in")
    assert other.heard == []
