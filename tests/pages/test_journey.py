"""The whole story in one browser, with real parts: from a relay that has nothing, to an agent's delivered message.

Then the same door by keyboard alone: nothing but keys is pressed, and each is reached by the Tab key.
"""

import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.peers.api import ApiClient
from tests.peers.browser import NARROW, loaded, window
from tests.peers.canaries import canary
from tests.peers.console import ADMINISTRATOR, Console, console_process
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.relay import one_channel, open_server, relay_process
from tests.peers.sink import Sink
from tests.peers.system import LOOPBACK, free_port

pytestmark = pytest.mark.needs("chromium", "dovecot", "submission")

MAILER, SUPPORT, JANE = "mailer@journey.example", "support@journey.example", "jane@journey.example"
TESTER, CUSTOMER = "tester@elsewhere.example", "customer@elsewhere.example"
_LINK = r"^this address makes an administrator, .*(http://\S+/welcome/[\w-]{43})$"
_MOST_TABS = 60


@dataclass(frozen=True, slots=True)
class Empty:
    """A relay with neither a directory nor an administrator."""

    console: Console
    link: str


@pytest.fixture
def empty() -> Iterator[Empty]:
    """What `relay serve` begins with, and the link of `relay admin link`."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    settings = {"web": {"address": f"{LOOPBACK}:{port}", "public_url": url}, "delivery": {"mode": "auto"}}
    with relay_process({}, settings) as relay:
        found = re.search(_LINK, relay.command("admin", "link").out, re.MULTILINE)
        assert found is not None
        yield Empty(Console(relay, port), found.group(1))


def test_from_nothing_to_an_agents_delivered_message(
    browser: Browser, empty: Empty, dovecot: Dovecot, certificates: Certificates, sink: Sink
) -> None:
    dovecot.add_users({address: canary(address) for address in (MAILER, SUPPORT, JANE)})
    with window(browser, empty.console.url) as office, window(browser, empty.console.url) as home:
        page, guest = office.new_page(), home.new_page()
        _become_administrator(page, empty.link)
        _add_server(page, dovecot, certificates)
        _add_channel(page)
        _add_agent(page)
        page.get_by_role("button", name="Invite").click()
        link = page.get_by_label("Link for Jane Doe").input_value()
        page.goto("/")
        _accept(guest, link)
        # It was tried when it was saved, and by the test.
        assert [each.method for each in dovecot.wait_for_login(JANE)] == ["PLAIN", "PLAIN"]

        _send(empty.console, "Your flight is booked")
        assert sink.wait_for(CUSTOMER).header["From"] == f"Jane Doe <{JANE}>"
        # Nobody loads the page again: it was open all the time.
        expect(page.locator(".tile").filter(has_text="sent").locator("strong")).to_have_text("1")
        expect(page.locator(".firsts")).to_have_count(0)
        page.get_by_role("link", name="Messages", exact=True).first.click()
        expect(page.locator("tbody tr")).to_have_count(1)
        _send(empty.console, "And here is your seat")
        expect(page.locator("tbody tr")).to_have_count(2)
        row = page.get_by_role("row", name="And here is your seat")
        expect(row).to_contain_text(JANE)
        expect(row).to_contain_text("delivered")

        guest.goto("/profile/messages")
        expect(guest.get_by_role("row", name="And here is your seat")).to_contain_text("delivered")
        expect(guest.locator("tbody tr")).to_have_count(2)
        _tells_who_did_what(empty.console)


def _become_administrator(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(canary("ada"))
    page.get_by_role("button", name="Set and sign in").click()
    expect(page.get_by_role("heading", name="From nothing to the first delivered message")).to_be_visible()


def _add_server(page: Page, dovecot: Dovecot, certificates: Certificates) -> None:
    page.get_by_role("link", name="Add a server").click()
    page.get_by_label("Name", exact=True).fill("mail")
    page.get_by_label("Server name").fill("localhost")
    page.locator("#f-port").fill(str(dovecot.starttls_port))
    page.get_by_label("Authentication method").select_option("plain")
    page.locator("#f-username").fill(MAILER)
    page.locator("#f-password").fill(canary(MAILER))
    page.get_by_text("Certificate and encryption").click()
    page.get_by_label("Check the server's certificate").first.uncheck()
    _test(page)
    page.get_by_role("button", name="Add server").click()
    expect(page.get_by_role("status")).to_have_text("server mail is added; its email password is saved and works")


def _add_channel(page: Page) -> None:
    page.get_by_role("link", name="Channels").first.click()
    page.get_by_role("main").get_by_role("link", name=re.compile("Add")).first.click()
    page.get_by_label("Name", exact=True).fill("support")
    page.locator("#f-address").fill(SUPPORT)
    page.get_by_label("Override server configuration").check()
    page.get_by_label("Email password").fill(canary(SUPPORT))
    page.get_by_role("button", name="Add channel").click()
    expect(page.get_by_role("status")).to_contain_text(
        "channel support is added; its email password is saved and works"
    )
    _test(page)


def _add_agent(page: Page) -> None:
    page.get_by_role("link", name="Agents").first.click()
    page.get_by_role("main").get_by_role("link", name=re.compile("Add")).first.click()
    page.get_by_label("Name", exact=True).fill("jane")
    page.get_by_label("Full name").fill("Jane Doe")
    page.get_by_label("Address", exact=True).fill(JANE)
    page.get_by_label("Override server configuration").check()
    page.get_by_role("button", name="Add agent").click()
    expect(page.get_by_role("status").first).to_contain_text("agent jane is added")


def _accept(guest: Page, link: str) -> None:
    guest.goto(link)
    guest.get_by_label("Login password").fill(canary("jane's login"))
    guest.get_by_label("Email password").fill(canary(JANE))
    guest.get_by_role("button", name="Set and sign in").click()
    guest.wait_for_url("**/profile")
    guest.get_by_label("Send a test message to").fill(TESTER)
    loaded(guest).get_by_role("button", name="Test", exact=True).click()
    expect(guest.get_by_text("It works: the server took the message.")).to_be_visible()


def _test(page: Page) -> None:
    page.get_by_label("An address to test with").fill(TESTER)
    loaded(page).get_by_role("button", name="Test").click()
    expect(page.locator("#test-here .outcome")).to_have_text("It works: the server took the message.")


def _send(console: Console, subject: str) -> None:
    """Send as the agent's mail program does."""
    text = f"From: Jane Doe <{JANE}>\nTo: {CUSTOMER}\nSubject: {subject}\n\nhello\n"
    with smtplib.SMTP(LOOPBACK, console.relay.port, timeout=20) as client:
        client.login(JANE, canary("jane's login"))
        client.sendmail(JANE, [CUSTOMER], text.encode())


def _tells_who_did_what(console: Console) -> None:
    token = console.add_token("auditor", "viewer")
    found = ApiClient(console.url, token).get("/audit")["items"]
    done = [(one["who"], one["operation"], one["what"]) for one in reversed(found)]
    expected = [
        ("ada", "server.add", "mail"),
        ("ada", "channel.add", "support"),
        ("ada", "agent.add", "jane"),
        ("ada", "agent.invite", "jane"),
    ]
    assert [one for one in done if one in expected] == expected


def test_by_keyboard_alone(browser: Browser) -> None:
    directory = one_channel(open_server(free_port()))
    with console_process(directory) as console, window(browser, console.url, NARROW) as context:
        page = context.new_page()
        page.goto("/sign-in")
        _tab_to(page, page.get_by_label("Name or address"))
        page.keyboard.type(ADMINISTRATOR)
        page.keyboard.press("Tab")
        page.keyboard.type(canary(ADMINISTRATOR))
        page.keyboard.press("Enter")
        page.wait_for_url(f"{console.url}/")

        _tab_to(page, page.get_by_text("Menu", exact=True))
        page.keyboard.press("Space")
        _tab_to(page, page.get_by_label("Menu").get_by_role("link", name="Agents"))
        page.keyboard.press("Enter")
        page.wait_for_url("**/agents")
        _tab_to(page, page.get_by_role("main").get_by_role("link", name=re.compile("Add")).first)
        page.keyboard.press("Enter")
        page.wait_for_url("**/agents/-/add")

        _tab_to(page, page.get_by_label("Name", exact=True))
        page.keyboard.type("jane")
        _tab_to(page, page.get_by_label("Address", exact=True))
        page.keyboard.type("support@acmejets.example")
        _tab_to(page, page.get_by_label("Override server configuration"))
        page.keyboard.press("Space")
        page.keyboard.press("Enter")
        expect(page.locator("#address-fault")).to_contain_text("support")

        _tab_to(page, page.get_by_label("Address", exact=True))  # which chooses what stands there
        page.keyboard.type("jane@acmejets.example")
        _tab_to(page, page.get_by_role("button", name="Add agent"))
        page.keyboard.press("Space")
        expect(page.get_by_role("status").first).to_have_text("agent jane is added")
        assert console.relay.ask("agent", "show", "jane")["override"]

        _tab_to(page, page.get_by_text("Menu", exact=True))
        page.keyboard.press("Enter")
        _tab_to(page, page.get_by_label("Menu").locator("..").get_by_role("button", name="Sign out"))
        page.keyboard.press("Enter")
        page.wait_for_url("**/sign-in**")


def _tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until the focus is where it is wanted, as somebody does who has no mouse."""
    loaded(page)  # behind a fault its script sets the focus
    for _ in range(_MOST_TABS):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not reach {wanted}")
