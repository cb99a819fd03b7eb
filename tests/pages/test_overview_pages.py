"""The first page: from nothing to the first message, what waits, who is in trouble, and all of it live."""

import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.pages.posting import post
from tests.peers.browser import NARROW, cut_off, overflows, serious_faults, window
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import open_server
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs("chromium")

MARKUP = "<b>no</b>"
STRICT = {"auth": "plain", "username": "mailer@acmejets.example", "allow_plaintext_password": True}


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    """A relay with a server that wants a login, and a channel."""
    directory = {
        "default_server": "acmejets",
        "servers": {"acmejets": open_server(upstream.port, **STRICT), "away": open_server(1)},
        "channels": {
            "support": {"address": "support@acmejets.example"},
            "far": {"address": "far@acmejets.example", "server": "away", "override": True},
        },
    }
    with console_process(directory, {"delivery": {"mode": "auto", "patience": "5s"}}) as running:
        running.relay.set_password("server", "acmejets", canary("mailer"))
        yield running


def _tile(page: Page, word: str) -> Locator:
    """Return the number of a tile, which may come a moment later than what stands elsewhere on the page."""
    return page.locator(".tile").filter(has_text=re.compile(rf"\d\s*{word}")).locator("strong")


def test_from_nothing_to_the_first_delivered_message(browser: Browser, upstream: Recorder) -> None:
    with console_process({}, {"delivery": {"mode": "auto"}}) as console, window(browser, console.url) as context:
        page = console.sign_in(context, ADMINISTRATOR, canary(ADMINISTRATOR))
        steps = page.locator(".firsts > li")
        expect(steps).to_have_count(3)
        expect(page.locator(".firsts .badge")).to_have_count(0)
        expect(steps.nth(0).get_by_role("link", name="Add a server")).to_have_attribute("href", "/servers/-/add")
        expect(steps.nth(2)).to_contain_text(f"Port{console.relay.port}")
        assert not serious_faults(page)
        page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
        assert not overflows(page)
        host = ("--host", "127.0.0.1", "--port", str(upstream.port), "--security", "none", "--auth", "none")
        added = console.relay.command("server", "add", "acmejets", *host, "--address", "mailer@acmejets.example")
        assert added.status == 0, added.text
        # The page has it without being loaded again.
        expect(steps.nth(0)).to_contain_text("done")
        expect(steps.nth(1).get_by_role("link", name="Add a channel")).to_be_visible()
        added = console.relay.command("channel", "add", "support", "--address", "support@acmejets.example")
        assert added.status == 0, added.text
        expect(steps.nth(1)).to_contain_text("done")
        expect(steps.nth(2)).to_contain_text("--from support@acmejets.example")
        post(console, "The first one")
        expect(page.locator(".firsts")).to_have_count(0)
        expect(_tile(page, "sent")).to_have_text("1")


def test_an_account_that_is_held_says_what_to_do_and_a_new_password_lets_its_mail_go(
    page: Page, console: Console, upstream: Recorder
) -> None:
    good = upstream.replies["AUTH"]
    upstream.replies["AUTH"] = f"535 5.7.8 {MARKUP} such password\r\n".encode()
    page.goto("/")
    post(console, "Held back")
    row = page.get_by_role("table", name="Accounts in trouble").get_by_role("row", name="acmejets/mailer")
    expect(row).to_contain_text(f"535 5.7.8 {MARKUP} such password")
    expect(row).to_contain_text("set a new password for server 'acmejets'")
    expect(row.get_by_role("link", name="1")).to_have_attribute("href", re.compile("^/queue[?]account=acmejets%2F"))
    expect(row.get_by_role("link", name="Open acmejets")).to_have_attribute("href", "/servers/acmejets")
    expect(_tile(page, "held")).to_have_text("1")
    assert not serious_faults(page)
    # The refused login is still refused: letting the account go tries it, and it is held again.
    row.get_by_role("button", name="Release").click()
    expect(page.get_by_role("status")).to_contain_text("account acmejets/mailer@acmejets.example is released")
    upstream.replies["AUTH"] = good
    page.goto("/")
    mender = page.context.new_page()
    mender.goto("/servers/acmejets")
    mender.locator("#f-password").fill(canary("new mailer"))
    mender.get_by_role("button", name="Save").click()
    expect(mender.get_by_role("status").first).to_have_text(
        "server acmejets is saved; its email password is saved and works"
    )
    expect(page.get_by_role("table", name="Accounts in trouble")).to_have_count(0)
    wait_until(lambda: any(b"Held back" in message for message in upstream.messages), "the message that waited")
    expect(_tile(page, "held")).to_have_text("0")


def test_a_server_that_nobody_reaches_is_told_with_what_to_do(page: Page, console: Console) -> None:
    page.goto("/")
    post(console, "Far away", sender="far@acmejets.example")
    row = page.get_by_role("table", name="Servers that cannot be reached").get_by_role("row", name="away")
    expect(row).to_contain_text("connection refused by 127.0.0.1 port 1")
    expect(row).to_contain_text("look at its host and port, the network and the firewall")
    expect(row.get_by_role("link", name="away")).to_have_attribute("href", "/servers/away")
    assert not serious_faults(page)
    assert not cut_off(page)


def test_a_fault_in_the_directory_is_shown_and_gone_when_it_is_mended(page: Page, console: Console) -> None:
    good = console.relay.directory_file.read_text()
    page.goto("/")
    console.relay.write_directory_text(good + '\n[channels.broken]\naddress = "<i>nobody"\n')
    expect(page.get_by_role("alert")).to_contain_text("channels.broken.address")
    console.relay.write_directory_text(good)
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.slow
def test_the_chart_says_in_a_table_what_it_draws(page: Page, console: Console) -> None:
    post(console, "Counted")
    page.goto("/")
    for words in ("24 hours", "7 days", "30 days"):
        page.get_by_role("link", name=words).click()
        expect(page.get_by_role("link", name=words)).to_have_attribute("aria-current", "true")
        picture = page.get_by_role("img", name="Messages that came in the last")
        expect(picture).to_have_accessible_description(re.compile(r"\d+ delivered.*, from .* to "))
        expect(page.locator("svg.chart rect.s1").first).to_be_attached()  # the history is written a moment later
        page.get_by_text("As a table").click()
        numbers = page.locator("#chart-table td.number").all_inner_texts()
        assert sum(map(int, numbers)) >= 1
    # What somebody unfolded stays so when the page changes.
    post(console, "One more")
    page.wait_for_timeout(2500)
    expect(page.locator("#chart-table")).to_have_attribute("open", "")


def test_the_pages_of_viewers_have_no_buttons(viewer_page: Page) -> None:
    viewer_page.goto("/")
    expect(viewer_page.get_by_role("heading", level=1)).to_have_text("Overview")
    expect(viewer_page.get_by_role("button", name="Release")).to_have_count(0)


def test_without_script_the_page_says_the_same(plain_page: Page, narrow_page: Page) -> None:
    plain_page.goto("/?span=7d")
    expect(plain_page.locator("svg.chart")).to_be_visible()
    narrow_page.goto("/?span=30d")
    assert not overflows(narrow_page)


@pytest.mark.slow
def test_tabs_that_nobody_looks_at_leave_the_browser_its_connections(page: Page, console: Console) -> None:
    """A browser has six to a server."""
    look = "is => { Object.defineProperty(document, 'hidden', {value: !is, configurable: true});"
    look += "document.dispatchEvent(new Event('visibilitychange')) }"
    tabs = [page.context.new_page() for _ in range(6)]
    for tab in tabs:
        with tab.expect_response("**/events"):
            tab.goto("/messages")
        tab.evaluate(look, False)
    page.goto("/messages")
    expect(page.get_by_role("heading", level=1)).to_have_text("Messages")
    post(console, "While nobody looked")
    tabs[0].evaluate(look, True)
    expect(tabs[0].locator("tbody tr").filter(has_text="While nobody looked")).to_have_count(1)


def test_nobody_listens_without_a_sign_in(console: Console) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{console.url}/events", timeout=5)
    assert refused.value.code == 401
    refused.value.close()


@pytest.mark.slow
def test_a_stream_ends_with_its_session(browser: Browser, console: Console) -> None:
    name = "temp"
    password = console.add_person(name)
    with window(browser, console.url) as context:
        page = console.sign_in(context, name, password)
        page.goto("/healthz")
        page.evaluate("() => { window.ended = fetch('/events').then((answer) => answer.text()).then(() => 'ended') }")
        assert console.relay.command("admin", "remove", name).status == 0
        # It is looked at with the next change.
        post(console, "After the end")
        assert page.evaluate("() => window.ended") == "ended"


@pytest.mark.slow
def test_a_relay_ends_at_once_and_quietly_while_pages_listen(browser: Browser) -> None:
    with console_process({}) as console, window(browser, console.url) as context:
        page = console.sign_in(context, ADMINISTRATOR, canary(ADMINISTRATOR))
        # With the beginning of events the page looks once more, of which nobody is to be cut off here.
        with (
            page.expect_response("**/events"),
            page.expect_response(lambda answer: "relay-by-itself" in answer.request.headers),
        ):
            page.goto("/")
        assert console.relay.stop() == 0
        console.relay.process = None
        said = console.relay.log
        assert "Traceback" not in said
        assert "Cancel" not in said
        assert '"level": "error"' not in said
