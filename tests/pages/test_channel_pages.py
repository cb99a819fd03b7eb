"""Channels: added with an override, tested, filtered and sorted; what an internal server does not allow."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.peers.browser import cut_off, loaded, overflows, serious_faults
from tests.peers.canaries import canary
from tests.peers.console import Console, console_process
from tests.peers.dns import name_server
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.recorder import Recorder
from tests.peers.relay import open_server
from tests.peers.system import free_port

pytestmark = pytest.mark.needs("chromium", "dovecot", "submission", "nsd")

SALES = "sales@acmejets.example"
RECIPIENT = "jane@client.example"
TEST_HERE = "#test-here .outcome"


@pytest.fixture(scope="module")
def console(upstream: Recorder, dovecot: Dovecot, certificates: Certificates) -> Iterator[Console]:
    """Server acmejets, the default, wants a login; backup is internal. Channels support, news and many more."""
    dovecot.add_users({SALES: canary(SALES)})
    with_login = {
        "host": "localhost",
        "port": dovecot.starttls_port,
        "auth": "plain",
        "username": "mailer@acmejets.example",
        "ca_file": str(certificates.ca_file),
    }
    servers = {"acmejets": with_login, "backup": open_server(upstream.port, internal=True)}
    servers["open"] = open_server(upstream.port)
    channels = {
        "news": {"address": "news@acmejets.example", "server": "backup"},
        "support": {"address": "support@acmejets.example", "aliases": ["help@acmejets.example"], "override": True},
        "open": {"address": "open@acmejets.example", "server": "open", "override": True},
    }
    many = {f"shop{number:02}": {"address": f"shop{number:02}@shops.example"} for number in range(55)}
    scripts = {"polite": {"set_headers": {"Organization": "Acme Jets"}}}
    directory = {
        "default_server": "acmejets",
        "servers": servers,
        "channels": channels | many,
        "scripts": scripts,
    }
    with name_server("") as dns, console_process(directory, {"dns": {"servers": [dns]}}) as running:
        yield running


def test_one_is_added_with_an_override_and_tested(page: Page, console: Console) -> None:
    page.goto("/channels")
    page.get_by_role("link", name="Add a channel").click()
    page.get_by_label("Name", exact=True).fill("sales")
    page.locator("#f-address").fill(SALES)
    page.get_by_label("Aliases").fill("s@acmejets.example\n@sales.acmejets.example")
    page.get_by_label("Script").select_option("polite")
    expect(page.locator("#f-server option:checked")).to_have_text("acmejets (default)")
    page.get_by_label("Override server configuration").check()
    page.get_by_label("Email password").fill(canary("wrong"))
    page.get_by_label("Login password").fill(canary("login"))
    page.get_by_label("An address to test with").fill(RECIPIENT)
    loaded(page).get_by_role("button", name="Test connection").click()
    expect(page.locator(TEST_HERE)).to_contain_text("look at “Log in”")
    expect(page.locator("#test-here li").last).to_contain_text("535 5.7.8")
    assert "sales" not in {one["name"] for one in console.relay.ask("channel", "list")}

    page.get_by_label("Email password").fill(canary(SALES))
    page.get_by_label("An address to test with").press("Enter")
    expect(page.locator(TEST_HERE)).to_have_text("It works: the server took the message.")
    page.get_by_role("button", name="Add channel").click()
    expect(page.get_by_role("status")).to_contain_text(
        "channel sales is added; its login password is set; its email password is saved and works"
    )

    page.get_by_label("An address to test with").fill(RECIPIENT)
    loaded(page).get_by_role("button", name="Test connection").click()
    expect(page.locator(TEST_HERE)).to_have_text("It works: the server took the message.")

    shown = console.relay.ask("channel", "show", "sales")
    assert (shown["server"], shown["override"], shown["script"]) == ("acmejets", True, "polite")
    assert shown["aliases"] == ["s@acmejets.example", "@sales.acmejets.example"]
    assert (shown["password_set"], shown["login_set"], shown["last_test"]["ok"]) == (True, True, True)
    assert (
        "username" not in console.relay.directory_file.read_text().partition("[channels.sales]")[2].partition("\n[")[0]
    )


def test_the_list_shows_servers_as_they_resolve_sorted_and_filtered(page: Page) -> None:
    page.goto("/channels?sort=-resolved_server")
    expect(page.get_by_role("row", name="open@acmejets").locator("a").last).to_have_text("open")
    page.goto("/channels?q=support")
    expect(page.get_by_role("row", name="support").locator("a").last).to_have_text("acmejets (default)")
    page.goto("/channels")
    page.get_by_label("Outgoing mail server").select_option("backup")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody th")).to_have_text("news")
    page.goto("/channels?q=shop")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="Next").click()
    expect(page.locator("tbody tr")).to_have_count(5)
    page.get_by_role("link", name="Address").click()
    page.get_by_role("link", name="Address").click()
    expect(page.locator("tbody th").first).to_have_text("shop54")


def test_every_column_can_be_sorted_by(page: Page) -> None:
    page.goto("/channels")
    for title in page.locator("thead a").all_text_contents()[1:]:
        page.get_by_role("columnheader", name=title).get_by_role("link").click()
        expect(page.locator(f"th[aria-sort=ascending]:has-text('{title}')")).to_have_count(1)


def test_nobody_overrides_an_internal_server(plain_page: Page) -> None:
    plain_page.goto("/channels/news")
    expect(plain_page.get_by_label("Override server configuration")).to_be_disabled()
    expect(plain_page.locator("#override-hint")).to_contain_text("Not possible on backup: it is internal")
    plain_page.locator("#f-server").select_option("")
    plain_page.get_by_role("button", name="Save").click()
    expect(plain_page.get_by_label("Override server configuration")).to_be_enabled()
    plain_page.get_by_label("Override server configuration").check()
    plain_page.locator("#f-username").fill("<img src=x>@news")
    plain_page.get_by_role("button", name="Save").click()
    plain_page.goto("/channels?q=news@")
    expect(plain_page.locator("td[data-label='Logs in as']")).to_have_text("<img src=x>@news")
    plain_page.goto("/channels/news")
    plain_page.locator("#f-server").select_option("backup")
    plain_page.get_by_label("Email password").fill(canary("unused"))
    plain_page.get_by_role("button", name="Save").click()
    expect(plain_page.locator("#password-fault")).to_contain_text("nobody logs in with it on an internal server")
    plain_page.goto("/channels/news")
    plain_page.locator("#f-server").select_option("backup")
    plain_page.get_by_role("button", name="Save").click()
    expect(plain_page.get_by_role("status")).to_contain_text("its override is off, because backup is internal")
    expect(plain_page.get_by_label("Override server configuration")).to_be_disabled()
    expect(plain_page.get_by_label("Override server configuration")).not_to_be_checked()
    expect(plain_page.locator(".facts")).to_contain_text("backup")


def test_the_override_is_greyed_while_one_chooses(page: Page, console: Console) -> None:
    page.goto("/channels/support")
    override = page.get_by_label("Override server configuration")
    expect(override).to_be_enabled()
    page.locator("#f-server").select_option("backup")
    expect(override).to_be_disabled()
    expect(page.locator("#override-hint")).to_contain_text("Not possible on backup")
    page.locator("#f-server").select_option("open")
    expect(override).to_be_enabled()
    override.uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("channel support is saved")
    shown = console.relay.ask("channel", "show", "support")
    assert (shown["server"], shown["override"]) == ("open", False)


def test_a_mailbox_is_set_as_a_whole_and_taken_away(page: Page, console: Console) -> None:
    port = free_port()
    page.goto("/channels/open")
    expect(page.get_by_label("Round trip")).to_have_count(0)
    page.get_by_text("Incoming mail", exact=True).click()
    page.locator("#f-incoming\\.host").fill("localhost")
    page.locator("#f-incoming\\.port").fill(str(port))
    page.get_by_label("Incoming password").fill(canary("mailbox"))
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("the password of its mailbox is set")
    assert console.relay.ask("channel", "show", "open")["incoming"]["port"] == port

    page.get_by_label("Round trip").check()
    loaded(page).get_by_role("button", name="Test connection").click()
    expect(page.locator(TEST_HERE)).to_contain_text("look at “Mailbox”")

    page.locator("#f-incoming\\.host").fill("")
    page.locator("#f-incoming\\.port").fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("channel open is saved")
    assert console.relay.ask("channel", "show", "open")["incoming"] is None


def test_a_fault_in_a_mailbox_stands_beside_its_field(plain_page: Page) -> None:
    plain_page.goto("/channels/open")
    plain_page.get_by_text("Incoming mail", exact=True).click()
    plain_page.locator("#f-incoming\\.host").fill("https://imap.example.com")
    plain_page.locator("#f-incoming\\.port").fill("many")
    plain_page.get_by_role("button", name="Save").click()
    expect(plain_page.locator("#incoming\\.port-fault")).to_contain_text("is not a whole number")
    plain_page.locator("#f-incoming\\.port").fill("993")
    plain_page.get_by_role("button", name="Save").click()
    expect(plain_page.locator("#incoming\\.host-fault")).to_contain_text("it is a URL")


def test_a_change_meanwhile_is_not_overwritten_unseen(page: Page, console: Console) -> None:
    page.goto("/channels/shop01")
    assert console.relay.command("channel", "set", "shop01", "mode=queued").status == 0
    page.locator("#f-address").fill("other@shops.example")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    assert console.relay.ask("channel", "show", "shop01")["address"] == "shop01@shops.example"


def test_what_keeps_its_mail_from_arriving_is_told(plain_page: Page) -> None:
    plain_page.goto("/channels/open")
    plain_page.get_by_role("button", name="Check deliverability").click()
    expect(plain_page.locator(".outcome")).to_contain_text("to look at")
    expect(plain_page.get_by_role("row", name="127.0.0.1 answers on port")).to_contain_text("good")


def test_one_is_removed(page: Page, console: Console) -> None:
    page.goto("/channels/shop02")
    page.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove shop02").click()
    expect(page.get_by_role("status")).to_have_text("channel shop02 is removed")
    assert console.relay.command("channel", "show", "shop02").status == 1


@pytest.mark.slow
def test_nothing_keeps_people_out(page: Page, narrow_page: Page) -> None:
    for path in ("/channels", "/channels/-/add", "/channels/news", "/channels/open", "/channels/open/remove"):
        page.goto(path)
        assert not serious_faults(page), path
        assert not cut_off(page), path
        narrow_page.goto(path)
        assert not overflows(narrow_page), path


def test_a_viewer_looks_and_cannot_change(viewer_page: Page) -> None:
    viewer_page.goto("/channels")
    expect(viewer_page.get_by_role("link", name="Add a channel")).to_have_count(0)
    viewer_page.get_by_role("link", name="news", exact=True).click()
    for name in ("Save", "Test", "Check deliverability"):
        expect(viewer_page.get_by_role("button", name=name)).to_have_count(0)
