"""The agent's own page: what is missing, passwords, OAuth, tests, messages; and that it is the own page alone."""

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.peers.browser import NARROW, loaded, overflows, serious_faults, window
from tests.peers.canaries import canary
from tests.peers.console import Console, console_process
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.oidc import Client, IdentityServer, identity_server
from tests.peers.system import LOOPBACK, wait_until

pytestmark = pytest.mark.needs("chromium", "dovecot", "submission")

JANE, BEN, CLOUD, DEVICE = (f"{name}@profile.example" for name in ("jane", "ben", "cloud", "device"))


@pytest.fixture(scope="module")
def identity(dovecot: Dovecot) -> Iterator[IdentityServer]:
    """The identity provider of the agents cloud and device."""
    with identity_server(dovecot.token) as server:
        yield server


@pytest.fixture(scope="module")
def console(dovecot: Dovecot, certificates: Certificates, identity: IdentityServer) -> Iterator[Console]:
    """Agents with a password, without one of their own, and with OAuth in two flows."""
    server: dict[str, Any] = {
        "host": dovecot.host,
        "port": dovecot.starttls_port,
        "username": "mailer@profile.example",
        "ca_file": str(certificates.ca_file),
    }
    # By another name than the pages have, as a provider is another site: it counts for what cookies are sent.
    table = {**identity.table, "authorize_url": f"http://localhost:{identity.port}/authorize", "client_id": "public"}
    oauth = {**server, "auth": "oauth2"}
    servers = {
        "mail": server,
        "cloud": {**oauth, "oauth": {**table, "flow": "code"}},
        "device": {**oauth, "oauth": {**table, "flow": "device"}},
    }
    agents = {
        "jane": {"address": JANE, "override": True, "aliases": ["doe@profile.example"]},
        "ben": {"address": BEN},
        "cloud": {"address": CLOUD, "server": "cloud", "override": True},
        "device": {"address": DEVICE, "server": "device", "override": True},
    }
    dovecot.add_users({JANE: canary("jane's mail"), "mailer@profile.example": canary("mailer")})
    with console_process({"default_server": "mail", "servers": servers, "agents": agents}) as running:
        redirects = ("http://localhost", f"{running.url}/oauth/return")
        identity.clients["public"] = Client("public", "", "", redirects)
        for name in agents:
            set_login(running, name)
        running.relay.set_password("server", "mail", canary("mailer"))
        yield running


def set_login(console: Console, name: str) -> None:
    """Give an agent the login password by which the tests sign in."""
    data = canary(name) + "\n"
    done = console.relay.command("agent", "password", name, "--login", "--password-stdin", data=data)
    assert done.status == 0, done.text


@pytest.fixture
def context(browser: Browser, console: Console) -> Iterator[BrowserContext]:
    with window(browser, console.url) as opened:
        yield opened


def sign_in(console: Console, context: BrowserContext, name: str) -> Page:
    """Sign in as an agent, who begins on the own page."""
    page = console.sign_in(context, name, canary(name))
    assert page.url == f"{console.url}/profile"
    return page


def test_a_missing_password_is_told_a_wrong_one_shown_and_the_right_one_works(
    console: Console, context: BrowserContext
) -> None:
    page = sign_in(console, context, "jane")
    expect(page.get_by_text("No email password is configured for your account", exact=True)).to_be_visible()
    facts = page.locator(".facts")
    for words in (JANE, "doe@profile.example", "mail (127.0.0.1)", f"{JANE} (your own account)"):
        expect(facts).to_contain_text(words)

    region = page.get_by_role("region", name="Email password")
    field = page.get_by_role("textbox", name="email password")
    field.fill(canary("wrong"))
    region.get_by_role("button", name="Set it").click()
    expect(region).to_contain_text(f"mail refuses this password for {JANE}: ")
    expect(region).to_contain_text("It was not saved.")
    expect(field).to_be_focused()
    expect(page.get_by_text("No email password is configured for your account")).to_have_count(1)
    assert canary("wrong") not in page.content()

    field.fill(canary("wrong"))
    region.get_by_role("button", name="Save anyway").click()
    expect(page.get_by_role("status").first).to_have_text("Your email password is saved.")
    expect(page.get_by_text("No email password is configured for your account")).to_have_count(0)
    loaded(page).get_by_role("button", name="Test", exact=True).click()
    expect(page.locator(".outcome")).to_have_text("It does not work yet: look at “Log in”.")
    page.get_by_role("link", name="My profile").first.click()

    field.fill(canary("jane's mail"))
    region.get_by_role("button", name="Replace it").click()
    expect(page.get_by_role("status").first).to_have_text("Your email password is saved and works.")
    loaded(page).get_by_role("button", name="Test", exact=True).click()
    expect(page.locator(".outcome")).to_have_text("It works: the server took the message.")


def test_who_sends_by_the_server_needs_no_password(console: Console, context: BrowserContext) -> None:
    page = sign_in(console, context, "ben")
    expect(page.get_by_text("No email password")).to_have_count(0)
    expect(page.get_by_role("region", name="Email password")).to_have_count(0)
    expect(page.locator(".facts")).to_contain_text("mailer@profile.example (the server's account)")


def test_an_account_is_connected_and_the_browser_comes_back(console: Console, context: BrowserContext) -> None:
    page = sign_in(console, context, "cloud")
    expect(page.get_by_text("Your mail account is not connected")).to_be_visible()
    page.get_by_role("button", name="Connect", exact=True).click()
    page.get_by_role("link", name="Continue at the provider").click()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url("**/profile")
    expect(page.get_by_role("status").first).to_have_text("Your account is connected.")
    expect(page.locator("#mail")).to_contain_text("The token expires in 1 h")
    loaded(page).get_by_role("button", name="Test", exact=True).click()
    expect(page.locator(".outcome")).to_have_text("It works: the server took the message.")


def test_a_refusal_is_told_in_the_providers_words(console: Console, context: BrowserContext) -> None:
    page = sign_in(console, context, "cloud")
    page.locator("#mail").get_by_role("button").click()
    page.get_by_role("link", name="Continue at the provider").click()
    page.get_by_role("button", name="Refuse").click()
    expect(page.get_by_role("alert")).to_contain_text("access_denied")


@pytest.mark.slow
def test_an_account_is_connected_with_an_address_that_is_brought(
    console: Console, context: BrowserContext, identity: IdentityServer
) -> None:
    page = sign_in(console, context, "cloud")
    page.locator("#mail").get_by_role("button").click()
    page.get_by_text("The provider says that the redirect address is unknown").click()
    expect(page.locator("main")).to_contain_text(f"{console.url}/oauth/return")
    page.get_by_role("button", name="Connect without it").click()
    url = page.get_by_role("link", name="Open the provider's page").get_attribute("href")
    assert url is not None
    page.get_by_label("Copy that address").fill(identity.allow_in_browser(url, CLOUD))
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.get_by_role("status").first).to_have_text("Your account is connected.")


def test_a_code_counts_only_where_it_was_asked_for(
    browser: Browser, console: Console, context: BrowserContext, identity: IdentityServer
) -> None:
    """SECURITY: an attacker's code, laid into another's browser with all that belongs to it, connects nothing."""
    attacker = sign_in(console, context, "cloud")
    attacker.locator("#mail").get_by_role("button").click()
    url = attacker.get_by_role("link", name="Continue at the provider").get_attribute("href")
    assert url is not None
    ended = identity.allow_in_browser(url, "evil@profile.example")
    cookie = next(one for one in context.cookies() if one["name"] == "relay-oauth")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    with window(browser, console.url) as other:
        victim = sign_in(console, other, "cloud")
        other.add_cookies([cookie])  # type: ignore[list-item]  # playwright's own, given back
        victim.goto(ended)
        expect(victim.get_by_role("alert")).to_contain_text("was not begun here")
        victim.goto(ended)
        expect(victim.get_by_role("alert")).to_contain_text("was not begun here")


@pytest.mark.slow
def test_a_device_shows_its_code_and_waits(browser: Browser, console: Console, identity: IdentityServer) -> None:
    with window(browser, console.url, scripts=False) as plain:
        page = sign_in(console, plain, "device")
        page.get_by_role("button", name="Connect", exact=True).click(no_wait_after=True)
        code = page.locator("#code").inner_text()
        identity.allow_device(code, DEVICE)
        expect(page.locator(".outcome")).to_have_text("Your account is connected.")
        page.goto("/profile")
        expect(page.locator("#mail")).to_contain_text("Connected.")


@pytest.mark.slow
def test_the_login_password_is_changed_by_who_knows_it_and_other_sessions_end(
    browser: Browser, console: Console, context: BrowserContext
) -> None:
    page = sign_in(console, context, "ben")
    with window(browser, console.url) as elsewhere:
        other = sign_in(console, elsewhere, "ben")
        page.get_by_label("Present login password").fill(canary("guessed"))
        page.get_by_label("New login password").fill(canary("ben's new"))
        page.get_by_role("button", name="Change it").click()
        expect(page.locator("#present_password-fault")).to_have_text("this is not your present password")
        other.reload()
        assert other.url.endswith("/profile")

        page.get_by_label("Present login password").fill(canary("ben"))
        page.get_by_label("New login password").fill(canary("ben's new"))
        page.get_by_role("button", name="Change it").click()
        expect(page.get_by_role("status").first).to_contain_text("Your login password is changed.")
        other.reload()
        assert "/sign-in" in other.url
    page.reload()
    assert page.url.endswith("/profile")
    with smtplib.SMTP(LOOPBACK, console.relay.port) as client:
        client.login(BEN, canary("ben's new"))
    set_login(console, "ben")


@pytest.mark.slow
def test_an_agent_sees_nothing_but_the_own(console: Console, context: BrowserContext) -> None:
    with smtplib.SMTP(LOOPBACK, console.relay.port) as client:
        client.login(BEN, canary("ben"))
        client.sendmail(BEN, ["customer@elsewhere.example"], b"Subject: Only Ben's\n\nhello\n")

    def sent_by_ben() -> list[dict[str, Any]]:
        return [one for one in console.relay.ask("messages", "list") if one["profile"] == "ben"]

    found = wait_until(sent_by_ben, "the message in the history")
    page = sign_in(console, context, "jane")
    page.goto("/")
    assert page.url == f"{console.url}/profile"
    for path in (
        "/messages",
        "/queue",
        "/scripts",
        "/administrators",
        "/audit",
        f"/messages/{found[0]['id']}",
        "/agents",
        "/agents/jane",
        "/agents/ben",
        "/agents/-/add",
        "/agents/-/import",
        "/agents/-/export",
        "/channels",
        "/servers",
        "/servers/mail",
        "/applications",
    ):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status in {403, 404}, path
        assert BEN not in page.content(), path
    page.goto("/profile/messages")
    expect(page.get_by_text("Only Ben's")).to_have_count(0)
    answer = page.goto(f"/profile/messages/{found[0]['id']}")
    assert answer is not None
    assert answer.status == 404
    assert "Only Ben" not in page.content()
    form: dict[str, str | float | bool] = {
        "form_key": page.locator("input[name=form_key]").first.input_value(),
        "name": "ben",
        "password": canary("x"),
    }
    for path in ("/agents/ben", "/agents/ben/invite", "/agents/-/invite", "/agents/ben/remove", "/agents/ben/test"):
        refused = page.request.post(path, form=form, headers={"Origin": console.url})
        assert refused.status == 403, path


def test_others_have_no_page_of_their_own(page: Page) -> None:
    for path in ("/profile", "/profile/messages", "/oauth/return?code=x&state=y"):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 403, path


@pytest.mark.slow
def test_nothing_keeps_people_out(browser: Browser, console: Console, context: BrowserContext) -> None:
    page = sign_in(console, context, "jane")
    with window(browser, console.url, NARROW, scripts=False) as small:
        narrow = sign_in(console, small, "jane")
        for path in ("/profile", "/profile/messages"):
            page.goto(path)
            assert not serious_faults(page), path
            narrow.goto(path)
            assert not overflows(narrow), path
        narrow.get_by_text("Menu").click()
        narrow.get_by_role("button", name="Sign out").last.click()
        narrow.wait_for_url("**/sign-in")
