"""Invitations: from the administrator's click to the agent's first message, and links that hold no more."""

import re
import smtplib
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.peers.browser import NARROW, loaded, overflows, serious_faults, window
from tests.peers.canaries import canary
from tests.peers.console import Console, console_process
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.relay import relay_process
from tests.peers.sink import Sink
from tests.peers.system import LOOPBACK, free_port, wait_until

pytestmark = pytest.mark.needs("chromium", "dovecot", "submission")

JANE, BEN = "jane@welcome.example", "ben@welcome.example"


@pytest.fixture(scope="module")
def console(dovecot: Dovecot, certificates: Certificates) -> Iterator[Console]:
    """Agents on a real mail server that checks passwords."""
    server = {
        "host": dovecot.host,
        "port": dovecot.starttls_port,
        "username": "mailer@welcome.example",
        "ca_file": str(certificates.ca_file),
    }
    agents = {
        "jane": {"address": JANE, "override": True, "full_name": "Jane Doe"},
        "ben": {"address": BEN},
    }
    dovecot.add_users({JANE: canary("jane's mail")})
    with console_process({"default_server": "mail", "servers": {"mail": server}, "agents": agents}) as running:
        yield running


@pytest.fixture
def guest(browser: Browser, console: Console) -> Iterator[Page]:
    """A window in which nobody is signed in."""
    with window(browser, console.url) as context:
        yield context.new_page()


def invite(console: Console, name: str) -> str:
    """Invite as a command does, and return the link."""
    return str(console.relay.ask("agent", "invite", name)["url"])


def test_from_the_invitation_to_the_first_message(
    page: Page, guest: Page, console: Console, dovecot: Dovecot, sink: Sink
) -> None:
    page.goto("/agents/jane")
    page.get_by_role("button", name="Invite").click()
    link = page.get_by_label("Link for Jane Doe").input_value()
    mail = page.get_by_role("link", name="Write a mail with it").get_attribute("href")
    assert mail is not None
    assert mail.startswith(f"mailto:{JANE}?subject=")

    guest.goto(link)
    expect(guest.locator("main")).to_contain_text(f"relay.test invites you to send mail as {JANE}")
    guest.get_by_label("Login password").fill(canary("jane's login"))
    guest.get_by_label("Email password").fill(canary("jane's mail"))
    guest.get_by_role("button", name="Set and sign in").click()
    guest.wait_for_url("**/profile")
    expect(guest.get_by_text("No email password is configured")).to_have_count(0)

    guest.get_by_label("Send a test message to").fill("test@elsewhere.example")
    loaded(guest).get_by_role("button", name="Test", exact=True).click()
    expect(guest.get_by_text("It works: the server took the message.")).to_be_visible()
    assert dovecot.wait_for_login(JANE)

    with smtplib.SMTP(LOOPBACK, console.relay.port) as client:
        client.login(JANE, canary("jane's login"))
        client.sendmail(JANE, ["customer@elsewhere.example"], f"From: {JANE}\nSubject: Your flight\n\nhello\n".encode())
    guest.goto("/profile/messages")
    link_to_it = guest.get_by_role("link", name="Your flight")

    def is_there() -> bool:
        guest.reload()
        return link_to_it.count() == 1

    wait_until(is_there, "the message on the page")
    expect(guest.get_by_role("row", name="Your flight")).to_contain_text("delivered")
    link_to_it.click()
    expect(guest.locator("main")).to_contain_text("customer@elsewhere.example")
    expect(guest.locator("main")).to_contain_text("250")


def test_a_scanner_that_opens_the_link_uses_nothing_up_and_a_guest_does(guest: Page, console: Console) -> None:
    link = invite(console, "ben")
    for _ in range(3):
        with urlopen(link) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "same-origin"
    guest.goto(link)
    guest.get_by_label("Login password").fill(canary("ben"))
    guest.get_by_role("button", name="Set and sign in").click()
    guest.wait_for_url("**/profile")
    answer = guest.goto(link)
    assert answer is not None
    assert answer.status == 410
    expect(guest.get_by_role("heading", name="This link no longer works")).to_be_visible()
    expect(guest.locator("main")).to_contain_text("ask whoever sent you the link for a new one")


def test_a_password_that_is_too_short_uses_nothing_up(browser: Browser, console: Console) -> None:
    link = invite(console, "ben")
    with window(browser, console.url, NARROW, scripts=False) as context:
        guest = context.new_page()
        guest.goto(link)
        # The browser would not send it; other programs do.
        guest.get_by_label("Login password").fill("short")
        guest.locator("form.card").evaluate("form => { form.noValidate = true; }")
        guest.get_by_role("button", name="Set and sign in").click()
        expect(guest.locator("#password-fault")).to_contain_text("8 characters")
        guest.get_by_label("Login password").fill(canary("ben"))
        guest.get_by_role("button", name="Set and sign in").click()
        guest.wait_for_url("**/profile")


def test_a_form_of_another_site_is_refused(console: Console) -> None:
    link = invite(console, "ben")
    request = Request(link, b"password=laid+there+by+others", {"Origin": "https://evil.example"})
    with pytest.raises(OSError, match="403"):
        urlopen(request)
    with urlopen(link) as answer:
        assert answer.status == 200


def test_a_session_of_another_person_ends_with_the_welcome(page: Page, console: Console) -> None:
    before = page.context.cookies()
    page.goto(invite(console, "ben"))
    page.get_by_label("Login password").fill(canary("ben"))
    page.get_by_role("button", name="Set and sign in").click()
    page.wait_for_url("**/profile")
    old = next(one["value"] for one in before if one["name"] == "relay")
    request = Request(f"{console.url}/agents", headers={"Cookie": f"relay={old}"})
    with urlopen(request) as answer:
        assert "/sign-in" in answer.url


def test_an_administrator_is_invited_by_name(guest: Page, console: Console) -> None:
    done = console.relay.command("admin", "add", "carol", "--link")
    assert done.status == 0, done.text
    link = next(word for word in done.out.split() if "/welcome/" in word)
    guest.goto(link)
    expect(guest.get_by_role("heading", name="Welcome, carol")).to_be_visible()
    guest.get_by_label("Password").fill(canary("carol"))
    guest.get_by_role("button", name="Set and sign in").click()
    guest.wait_for_url(f"{console.url}/")
    guest.goto("/agents")
    expect(guest.get_by_role("link", name="Add an agent")).to_be_visible()


def test_the_first_administrator_chooses_a_name(browser: Browser) -> None:
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    with relay_process({}, {"web": {"address": f"{LOOPBACK}:{port}", "public_url": url}}) as relay:
        console = Console(relay, port)
        wait_until(console.answers, "the pages")
        found = re.search(rf"{url}/welcome/[\w-]+", relay.command("admin", "link").out)
        assert found is not None
        with window(browser, url) as context:
            guest = context.new_page()
            guest.goto(found.group())
            guest.get_by_label("Name").fill("no name at all!")
            guest.get_by_label("Password").fill(canary("first"))
            guest.get_by_role("button", name="Set and sign in").click()
            expect(guest.locator("#name-fault")).to_be_visible()
            guest.get_by_label("Name").fill("first")
            guest.get_by_label("Password").fill(canary("first"))
            guest.get_by_role("button", name="Set and sign in").click()
            guest.wait_for_url(f"{url}/")
        assert [one["name"] for one in relay.ask("admin", "list")] == ["first"]


@pytest.mark.slow
def test_nothing_keeps_guests_out(browser: Browser, guest: Page, console: Console) -> None:
    link = invite(console, "jane")
    guest.goto(link)
    assert not serious_faults(guest)
    with window(browser, console.url, NARROW) as context:
        narrow = context.new_page()
        for path in (link, "/welcome/nothing-like-it"):
            narrow.goto(path)
            assert not overflows(narrow), path
            assert not serious_faults(narrow), path
