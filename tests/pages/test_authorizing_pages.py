"""An account is authorized by OAuth on the pages: in the browser, and at another device."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.peers.api import ApiClient
from tests.peers.browser import loaded
from tests.peers.console import Console, console_process
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.oidc import Client, IdentityServer, identity_server

pytestmark = pytest.mark.needs("chromium", "dovecot", "submission")

MAILER = "mailer@oauth.example"


@pytest.fixture(scope="module")
def identity(dovecot: Dovecot) -> Iterator[IdentityServer]:
    """A provider that knows one app."""
    with identity_server(dovecot.token) as server:
        server.clients["public"] = Client("public", "", "")
        yield server


@pytest.fixture(scope="module")
def console(identity: IdentityServer, dovecot: Dovecot, certificates: Certificates) -> Iterator[Console]:
    """A server for each way."""
    server = {
        "host": "localhost",
        "port": dovecot.starttls_port,
        "auth": "oauth2",
        "username": MAILER,
        "ca_file": str(certificates.ca_file),
    }
    servers = {
        flow: {**server, "oauth": {**identity.table, "client_id": "public", "flow": flow}}
        for flow in ("code", "device")
    }
    with console_process({"default_server": "code", "servers": servers}) as running:
        yield running


def test_in_the_browser(page: Page, console: Console, identity: IdentityServer) -> None:
    page.goto("/servers/code")
    page.get_by_role("link", name="Authorize").click()
    page.get_by_role("button", name="Begin").click()
    url = page.get_by_role("link", name="Open the provider's page").get_attribute("href")
    assert url is not None
    page.get_by_label("Address where the browser ended").fill("http://127.0.0.1/?code=1&state=another")
    page.get_by_role("button", name="Finish").click()
    expect(page.get_by_role("alert")).to_contain_text("belongs to another authorization")

    page.get_by_label("Address where the browser ended").fill(identity.allow_in_browser(url, MAILER))
    page.get_by_role("button", name="Finish").click()
    expect(page.get_by_role("status")).to_contain_text(f"Account code/{MAILER} is authorized")
    assert console.relay.ask("server", "show", "code")["password_set"]

    page.get_by_label("An address to test with").fill("jane@client.example")
    loaded(page).get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#test-here .outcome")).to_contain_text("It works")


def test_by_the_api_at_another_device(console: Console, identity: IdentityServer) -> None:
    """Whoever has asked goes away meanwhile, and asks again now and then."""
    api = ApiClient(console.url, console.add_token("robot", "administrator"))
    begun = api.ask("POST", "/servers/device/authorization").json
    assert (begun["state"], begun["seconds"] > 60, begun["interval"] >= 1) == (None, True, True)
    asked = {"device": begun["device"]}
    waiting = api.ask("POST", "/servers/device/authorized", asked)
    assert (waiting.status, waiting.json["step"]) == (200, "waiting")
    identity.allow_device(begun["code"], MAILER)
    time.sleep(begun["interval"])  # RFC 8628: nobody asks sooner
    done = api.ask("POST", "/servers/device/authorized", asked)
    assert (done.status, done.json["step"], done.json["account"]) == (200, "authorized", f"device/{MAILER}")
    told = [one["operation"] for one in api.get("/audit?who=robot")["items"]]
    assert told == ["server.authorized"]
    assert api.ask("POST", "/servers/device/authorized", {"device": "nonsense"}).status == 409


def test_at_another_device_without_script(plain_page: Page, identity: IdentityServer) -> None:
    plain_page.goto("/servers/device/authorize")
    plain_page.get_by_role("button", name="Begin").click(no_wait_after=True)
    code = plain_page.locator(".bigcode").text_content()
    assert code is not None
    identity.allow_device(code, MAILER)
    expect(plain_page.locator(".outcome")).to_contain_text(f"Account device/{MAILER} is authorized")
