"""Servers: set up from nothing and tested live, the default, who uses them, and removing them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.peers.api import ApiClient
from tests.peers.browser import cut_off, loaded, overflows, serious_faults
from tests.peers.canaries import canary
from tests.peers.console import Console, console_process
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.recorder import REPLIES, Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.ses import ses_server

pytestmark = pytest.mark.needs("chromium", "dovecot", "submission")

RECIPIENT = "jane@client.example"
MAILER = "mailer@acmejets.example"


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    """Server acmejets, the default, with a channel and an agent; backup, chosen by a channel; an idle one."""
    directory = one_channel(open_server(upstream.port))
    directory["servers"] |= {"backup": open_server(upstream.port), "idle": open_server(upstream.port, internal=True)}
    directory["channels"]["news"] = {"address": "news@acmejets.example", "server": "backup"}
    directory["agents"] = {"jane": {"address": "jane@acmejets.example"}}
    with console_process(directory) as running:
        yield running


@pytest.fixture
def quiet(upstream: Recorder) -> Iterator[Recorder]:
    """The upstream, which is polite again after the test."""
    yield upstream
    upstream.replies |= REPLIES


def test_one_is_set_up_and_tested_with_a_wrong_password_and_the_right_one(
    page: Page, api: ApiClient, dovecot: Dovecot, certificates: Certificates
) -> None:
    dovecot.add_users({MAILER: canary(MAILER)})
    page.goto("/servers")
    page.get_by_role("link", name="Add a server").click()
    page.get_by_label("Name", exact=True).fill("far")
    page.get_by_label("Server name").fill("localhost")
    page.locator("#f-port").fill(str(dovecot.starttls_port))
    page.get_by_label("Authentication method").select_option("plain")
    page.locator("#f-username").fill(MAILER)
    page.locator("#f-password").fill(canary("wrong"))
    page.get_by_text("Certificate and encryption").click()
    page.get_by_label("Check the server's certificate").first.uncheck()
    page.get_by_label("An address to test with").fill(RECIPIENT)

    loaded(page).get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#test-here .outcome")).to_contain_text("look at “Log in”")
    expect(page.locator("#test-here li").last).to_contain_text("535 5.7.8")
    assert api.ask("GET", "/servers/far").status == 404

    page.locator("#f-password").fill(canary(MAILER))
    loaded(page).get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#test-here .outcome")).to_have_text("It works: the server took the message.")

    page.get_by_role("button", name="Add server").click()
    expect(page.get_by_role("status")).to_have_text("server far is added; its email password is saved and works")
    shown = api.get("/servers/far")
    assert (shown["default"], shown["password_set"], shown["auth"]) == (False, True, "plain")
    expect(page.locator("#f-password")).to_have_value("")
    expect(page.get_by_text("Set; fill in to replace it.")).to_be_visible()

    page.get_by_label("An address to test with").fill(RECIPIENT)
    loaded(page).get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#test-here .outcome")).to_contain_text("It works")
    page.goto("/servers")
    expect(page.get_by_role("row", name="far").locator("td[data-label='Last test']")).to_contain_text("ok")
    assert api.ask("DELETE", "/servers/far").status == 204


@pytest.mark.slow
def test_a_password_that_the_server_refuses_is_kept_only_by_save_anyway(
    page: Page, api: ApiClient, quiet: Recorder
) -> None:
    server = {"host": "127.0.0.1", "port": quiet.port, "security": "none", "auth": "plain", "username": MAILER}
    assert api.ask("POST", "/servers", {"name": "strict", **server}).status == 201
    quiet.replies["AUTH"] = b"535 5.7.8 <b>Wrong</b> password\r\n"
    page.goto("/servers/strict")
    page.locator("#f-password").fill(canary("wrong"))
    loaded(page).get_by_role("button", name="Save", exact=True).last.click()
    expect(page.get_by_role("alert")).to_contain_text("server strict is saved; its password is not.")
    fault = page.locator("#password-fault")
    expect(fault).to_contain_text(f"strict refuses this password for {MAILER}: 535 5.7.8 <b>Wrong</b> password.")
    assert canary("wrong") not in page.content()
    assert api.get("/servers/strict")["password_set"] is False

    page.locator("#f-password").fill(canary("wrong"))
    page.get_by_role("button", name="Save anyway").click()
    expect(page.get_by_role("status")).to_have_text("server strict is saved; its email password is saved")
    assert api.get("/servers/strict")["password_set"] is True
    refused = api.ask("PUT", "/servers/strict/password", {"password": canary("again")})
    assert refused.status == 422
    words = f"strict refuses this password for {MAILER}: 535 5.7.8 <b>Wrong</b> password; it was not saved."
    message = f'{words} Send "unchecked": true to keep it all the same'
    assert refused.json["errors"] == [{"key": "password", "message": message}]
    assert api.ask("DELETE", "/servers/strict").status == 204


def test_a_step_appears_as_soon_as_it_is_done(page: Page, quiet: Recorder) -> None:
    page.goto("/servers/acmejets")
    page.get_by_label("An address to test with").fill(RECIPIENT)
    quiet.hold("RCPT")
    loaded(page).get_by_role("button", name="Test", exact=True).click()
    quiet.wait_for("RCPT")
    expect(page.locator("#test-here li").last).to_contain_text("mailer@acmejets.example may send")
    expect(page.locator("#test-here .outcome")).to_have_count(0)
    quiet.release("RCPT")
    expect(page.locator("#test-here .outcome")).to_contain_text("It works")


def test_without_script_a_test_has_a_page_of_its_own(plain_page: Page, quiet: Recorder) -> None:
    plain_page.goto("/servers/acmejets")
    plain_page.get_by_label("An address to test with").fill(RECIPIENT)
    plain_page.get_by_label("Send a test message").uncheck()
    with plain_page.expect_popup() as opened:
        plain_page.get_by_role("button", name="Test", exact=True).click()
    test = opened.value
    expect(test.locator(".outcome")).to_have_text("It works up to the message, which was not sent.")
    test.get_by_role("link", name="Back to acmejets").click()
    expect(test.locator(".facts")).to_contain_text("Last test")


def test_what_a_server_says_is_text(page: Page, quiet: Recorder) -> None:
    words = '550 5.7.1 <img src=x onerror="document.title=1"><script>document.title=2</script>'
    quiet.replies["MAIL"] = f"{words}\r\n".encode()
    page.goto("/servers/acmejets")
    page.get_by_label("An address to test with").fill(RECIPIENT)
    loaded(page).get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#test-here li").last).to_contain_text("<img src=x onerror=")
    expect(page.locator("#test-here .outcome")).to_contain_text("look at “Sender”")
    page.goto("/servers/acmejets")
    expect(page.locator(".facts")).to_contain_text("<script>document.title=2</script>")
    assert page.locator("main img, main script").count() == 0
    expect(page).to_have_title("acmejets · Relay")


def test_changing_the_default_says_beforehand_who_follows(page: Page, api: ApiClient) -> None:
    page.goto("/servers/backup")
    page.get_by_role("link", name="Make it the default").click()
    expect(page.locator(".panel")).to_contain_text("1 agent follows the default")
    expect(page.locator(".names").first).to_contain_text("jane@acmejets.example")
    expect(page.locator(".panel")).to_contain_text("1 with an account of its own stays at acmejets")
    page.get_by_role("button", name="Make it the default").click()
    expect(page.get_by_role("status")).to_have_text("backup is the default server now; 1 sender follows it")
    assert api.get("/agents/jane")["resolved_server"] == "backup"
    assert api.get("/channels/support")["server"] == "acmejets"
    assert api.ask("POST", "/servers/acmejets/default").status == 200


def test_the_default_is_not_removed(plain_page: Page, api: ApiClient) -> None:
    plain_page.goto("/servers/acmejets/remove")
    expect(plain_page.locator(".panel")).to_contain_text("Make another one the default first: backup, idle")
    expect(plain_page.get_by_role("main").get_by_role("button")).to_have_count(0)
    key = plain_page.locator("input[name=form_key]").first.input_value()
    refused = plain_page.request.post("/servers/acmejets/remove", form={"form_key": key})
    assert (refused.status, "make another the default first" in refused.text()) == (409, True)
    assert api.get("/servers/acmejets")["default"]


def test_an_internal_default_leaves_those_with_their_own_accounts_where_they_are(
    plain_page: Page, api: ApiClient
) -> None:
    plain_page.goto("/servers/idle/default")
    plain_page.get_by_role("button", name="Make it the default").click()
    expect(plain_page.get_by_role("status")).to_have_text("idle is the default server now; 1 sender follows it")
    assert api.get("/channels/support")["resolved_server"] == "acmejets"
    assert api.ask("POST", "/servers/acmejets/default").status == 200


def test_removing_a_server_in_use_asks_where_its_users_go(page: Page, upstream: Recorder, api: ApiClient) -> None:
    assert api.ask("POST", "/servers", {"name": "old", **open_server(upstream.port)}).status == 201
    assert api.ask("PATCH", "/channels/news", {"server": "old"}).status == 200
    page.goto("/servers/old/remove")
    page.locator("#move_to").evaluate("select => { select.required = false; }")  # as a browser that checks nothing
    page.get_by_role("button", name="Remove old").click()
    expect(page.get_by_role("alert")).to_have_text("choose first where its senders go")
    expect(page.locator(".panel")).to_contain_text("1 sender has chosen old")
    page.get_by_label("Where they go").select_option("backup")
    page.get_by_role("button", name="Remove old").click()
    expect(page.get_by_role("status")).to_have_text("server old is removed")
    assert api.get("/channels/news")["server"] == "backup"


def test_the_numbers_open_who_uses_a_server(page: Page) -> None:
    page.goto("/servers")
    page.get_by_role("link", name="1 agents use acmejets").click()
    expect(page.get_by_role("row", name="jane")).to_contain_text("follows the default")
    expect(page.get_by_role("link", name="Show all")).to_have_count(0)
    page.get_by_label("Find").fill("nobody")
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_role("row", name="jane")).to_be_visible()
    page.get_by_role("link", name="1 channel", exact=True).click()
    expect(page.get_by_role("row", name="support")).to_contain_text("its own account: support@acmejets.example")


def test_the_list_is_sorted_and_filtered(page: Page) -> None:
    page.goto("/servers")
    page.get_by_role("link", name="Used by channels").click()
    page.get_by_role("link", name="Used by channels").click()
    expect(page.locator("tbody th").last).to_contain_text("idle")
    page.get_by_label("Find").fill("back")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(1)


def test_one_is_added_as_the_default_by_keyboard(page: Page, api: ApiClient) -> None:
    page.goto("/servers/-/add")
    expect(page.locator("#default-hint")).to_contain_text("1 agent follows it")
    page.get_by_label("Name", exact=True).press_sequentially("first")
    page.get_by_label("Set as default now").press("Space")
    page.locator("#f-address").press_sequentially("first@acmejets.example")
    page.get_by_label("Authentication method").select_option("none")
    page.get_by_label("Server name").press_sequentially("127.0.0.1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("server first is added; it is the default now")
    assert api.get("/agents/jane")["resolved_server"] == "first"
    assert api.ask("POST", "/servers/acmejets/default").status == 200
    assert api.ask("DELETE", "/servers/first").status == 204


def test_the_port_follows_until_one_is_typed(page: Page) -> None:
    page.goto("/servers/-/add")
    port, security = page.locator("#f-port"), page.get_by_label("Connection security").first
    expect(port).to_have_attribute("placeholder", "587")
    security.select_option("tls")
    expect(port).to_have_attribute("placeholder", "465")
    port.fill("2465")
    security.select_option("none")
    expect(port).to_have_value("2465")


def test_a_provider_fills_the_form_in(page: Page, plain_page: Page) -> None:
    page.goto("/servers/-/add")
    page.get_by_label("Provider", exact=True).select_option("google")
    expect(page.get_by_label("Server name")).to_have_value("smtp.gmail.com")
    expect(page.locator("#f-recipients_per_day")).to_have_value("2000")
    expect(page.locator("#preset-hint")).to_contain_text("app password")

    plain_page.goto("/servers/-/add")
    plain_page.get_by_label("Name", exact=True).fill("office")
    plain_page.get_by_label("Provider", exact=True).select_option("microsoft365")
    plain_page.get_by_role("button", name="Fill in").click()
    expect(plain_page.get_by_label("Name", exact=True)).to_have_value("office")
    expect(plain_page.get_by_label("Server name")).to_have_value("smtp.office365.com")
    expect(plain_page.get_by_label("Authentication method")).to_have_value("oauth2")
    expect(plain_page.locator("#f-oauth\\.client_id")).to_be_visible()


def test_one_with_an_http_api_is_filled_in_tested_and_saved(page: Page, api: ApiClient) -> None:
    page.goto("/servers/-/add")
    page.get_by_label("Name", exact=True).fill("cloud")
    page.get_by_label("Provider", exact=True).select_option("ses-api")
    expect(page.get_by_label("Server name")).to_have_attribute("placeholder", "email.REGION.amazonaws.com")
    page.get_by_text("Advanced", exact=True).click()
    expect(page.get_by_label("Whose HTTP API")).to_have_value("ses")
    page.locator("#f-username").fill("AKIDEXAMPLE")
    page.locator("#f-address").fill("mailer@acme.example")
    page.get_by_label("An address to test with").fill(RECIPIENT)
    with ses_server(keys={"AKIDEXAMPLE": canary("right")}) as ses:
        page.get_by_label("Address of the API").fill(ses.url)
        page.locator("#f-password").fill(canary("wrong"))
        loaded(page).get_by_role("button", name="Test", exact=True).click()
        expect(page.locator("#test-here li").last).to_contain_text("The request signature does not match")
        page.locator("#f-password").fill(canary("right"))
        loaded(page).get_by_role("button", name="Test", exact=True).click()
        expect(page.locator("#test-here li").last).to_contain_text("accepted by Amazon SES")
        page.get_by_role("button", name="Add server").click()
        expect(page.get_by_role("status")).to_have_text("server cloud is added; its email password is saved and works")
    shown = api.get("/servers/cloud")
    assert (shown["kind"], shown["api"], shown["recipients_per_message"]) == ("https", "ses", 50)
    assert api.ask("DELETE", "/servers/cloud").status == 204


def test_tables_and_limits_are_saved_and_only_what_was_touched(page: Page, console: Console, api: ApiClient) -> None:
    page.goto("/servers/idle")
    page.get_by_text("Limits", exact=True).click()
    page.locator("#f-messages_per_minute").fill("30")
    page.get_by_text("Incoming mail", exact=True).click()
    page.locator("#f-incoming\\.host").fill("localhost")
    page.locator("#f-incoming\\.username").fill(MAILER)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("server idle is saved")
    shown = api.get("/servers/idle")
    assert (shown["messages_per_minute"], shown["incoming"]["host"]) == (30, "localhost")
    text = console.relay.directory_file.read_text()
    assert "max_connections" not in text
    assert "watch_bounces" not in text

    page.locator("#f-incoming\\.host").fill("")
    page.locator("#f-incoming\\.username").fill("")
    page.locator("#f-messages_per_minute").fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("server idle is saved")
    assert api.get("/servers/idle")["incoming"] is None


def test_a_fault_stands_beside_its_field(plain_page: Page) -> None:
    plain_page.goto("/servers/-/add")
    plain_page.get_by_label("Name", exact=True).fill("far.away")
    plain_page.get_by_label("Server name").fill("smtp.example.com")
    plain_page.get_by_label("Connection security").first.select_option("none")
    plain_page.get_by_label("Authentication method").select_option("plain")
    plain_page.get_by_role("button", name="Add server").click()
    expect(plain_page.locator("#auth-fault")).to_contain_text("may send the password unprotected")
    for name, words in (("a b", "a name cannot contain spaces"), ("idle", "there is a server 'idle' already")):
        plain_page.get_by_label("Name", exact=True).fill(name)
        plain_page.get_by_label("Authentication method").select_option("none")
        plain_page.get_by_role("button", name="Add server").click()
        expect(plain_page.locator("#name-fault")).to_contain_text(words)


def test_a_change_meanwhile_is_not_overwritten_unseen(page: Page, api: ApiClient) -> None:
    page.goto("/servers/idle")
    assert api.ask("PATCH", "/servers/idle", {"max_connections": 2}).status == 200
    page.locator("#f-address").fill("other@acmejets.example")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    assert api.get("/servers/idle")["address"] == MAILER


def test_a_held_account_is_seen_and_let_go(page: Page, console: Console, quiet: Recorder, api: ApiClient) -> None:
    server = {"host": "127.0.0.1", "port": quiet.port, "security": "none", "auth": "plain", "username": MAILER}
    assert api.ask("POST", "/servers", {"name": "locked", **server}).status == 201
    assert api.ask("PUT", "/servers/locked/password", {"password": canary("locked")}).status == 204
    channel = {"name": "locked", "address": "l@acmejets.example", "server": "locked"}
    assert api.ask("POST", "/channels", channel).status == 201
    quiet.replies["AUTH"] = b"535 5.7.8 <b>Wrong</b> password\r\n"
    assert _hand_over(console).startswith("451 4.7.8")
    page.goto("/servers")
    expect(page.get_by_role("row", name="locked").locator("td[data-label=State]")).to_contain_text("held since")
    page.get_by_role("link", name="locked", exact=True).click()
    expect(page.locator(".notice.bad")).to_contain_text("<b>Wrong</b> password")
    expect(page.locator(".notice.bad")).to_contain_text("What to do: set a new password for server 'locked'.")
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("status")).to_contain_text(f"account locked/{MAILER} is released")
    assert {one["state"] for one in api.get("/accounts")} == {"ok"}

    assert api.ask("PATCH", "/channels/locked", {"override": True}).status == 200
    assert api.ask("PUT", "/channels/locked/password", {"password": canary("locked"), "unchecked": True}).status == 204
    assert _hand_over(console).startswith("451 4.7.8")
    page.goto("/channels/locked")
    expect(page.locator(".notice.bad")).to_contain_text("What to do: set a new password for channel 'locked'.")
    page.get_by_role("button", name="Release").click()
    expect(page.get_by_role("status")).to_contain_text("account locked/l@acmejets.example is released")
    assert page.url.endswith("/channels/locked")


def _hand_over(console: Console) -> str:
    """Hand a message of the channel locked over, and return the reply."""
    with console.relay.connect() as client:
        for line in ("EHLO raw.test", "MAIL FROM:<l@acmejets.example>", f"RCPT TO:<{RECIPIENT}>", "DATA"):
            client.say(line)
        return client.say("Subject: hello\r\n\r\nhello\r\n.")


def test_a_viewer_looks_and_neither_tests_nor_changes(viewer_page: Page) -> None:
    viewer_page.goto("/servers/acmejets")
    expect(viewer_page.get_by_role("button", name="Test")).to_have_count(0)
    expect(viewer_page.get_by_role("button", name="Save")).to_have_count(0)
    expect(viewer_page.get_by_label("Server name")).to_be_disabled()
    expect(viewer_page.get_by_label("Password", exact=True)).to_have_count(0)
    viewer_page.goto("/servers/backup/default")
    expect(viewer_page.get_by_role("alert")).to_contain_text("not for the role viewer")


@pytest.mark.slow
def test_nothing_keeps_people_out(page: Page, narrow_page: Page) -> None:
    paths = ("/servers", "/servers/-/add", "/servers/acmejets", "/servers/backup/remove", "/servers/backup/default")
    for path in (*paths, "/servers/acmejets/users?kind=agents"):
        page.goto(path)
        assert not serious_faults(page), path
        assert not cut_off(page), path
        narrow_page.goto(path)
        assert not overflows(narrow_page), path


def test_the_record_says_how_the_last_test_was(api: ApiClient) -> None:
    assert api.ask("POST", "/servers/idle/test", {"to": RECIPIENT, "send": False}).json["ok"]
    test = api.get("/servers/idle")["last_test"]
    assert (test["ok"], test["step"], test["current"]) == (True, "send-as", True)
