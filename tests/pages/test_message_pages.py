"""Messages: searched, and the journey of one, with everything that others wrote shown as text."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.pages.posting import id_of, post
from tests.peers.api import ApiClient
from tests.peers.browser import cut_off, overflows, serious_faults
from tests.peers.console import Console, console_process
from tests.peers.recorder import REPLIES, Recorder
from tests.peers.relay import one_channel, open_server

pytestmark = pytest.mark.needs("chromium")

MARKUP = "<img src=x onerror=alert(1)>"
REFUSED = "550 5.1.1 no such mailbox <script>alert(2)</script>"
BUSY = "450 4.2.1 mailbox busy"
LONG_NAME = "X-" + "Acme" * 18  # as long as a field's name may be, and without a place to break it


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    """A relay after some mail: one delivered, one refused for a recipient, one that waits."""
    directory = one_channel(open_server(upstream.port))
    directory["scripts"] = {"default": {"set_headers": {"Organization": "Acme Jets", LONG_NAME: MARKUP * 20}}}
    upstream.replies["RCPT TO:<bob@customer.example>"] = f"{REFUSED}\r\n".encode()
    upstream.replies["RCPT TO:<late@customer.example>"] = f"{BUSY}\r\n".encode()
    with console_process(directory, {"delivery": {"mode": "auto", "patience": "5s"}}) as running:
        post(running, "Your ticket", to=["ann@customer.example"])
        post(running, f"{MARKUP} sold out", to=["ann@customer.example", "bob@customer.example"])
        post(running, "Your seat", to=["late@customer.example"], helo=MARKUP.replace(" ", "/"))
        # What somebody else writes is as long as they like, and may turn the direction of writing around.
        post(running, f"\u202e{'L' + 'o' * 300}ng", to=[f"customer{n}.{'x' * 40}@some.example" for n in range(20)])
        running.relay.ask("queue", "list")
        yield running


def _open(page: Page, console: Console, subject: str) -> None:
    page.goto(f"/messages/{id_of(console, subject)}")
    expect(page.get_by_role("heading", level=1)).to_have_text(subject)


def test_a_message_is_found_by_any_of_what_it_says(page: Page) -> None:
    page.goto("/messages")
    rows = page.locator("tbody tr")
    expect(rows.filter(has_text="Your ticket")).to_have_count(1)
    page.get_by_label("Find").fill("ticket")
    page.get_by_role("button", name="Search").click()
    expect(rows).to_have_count(1)
    expect(page).to_have_url("/messages?q=ticket")
    page.get_by_role("link", name="Show all").click()
    page.get_by_text("More filters").click()
    page.get_by_label("Recipient").fill("late@customer.example")
    page.get_by_label("State").select_option("queued")
    page.get_by_role("combobox", name="Time").select_option("24h")
    page.get_by_role("button", name="Search").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Your seat")
    # What was asked stands unfolded, and stays.
    expect(page.get_by_label("Recipient")).to_have_value("late@customer.example")
    page.get_by_label("To the day (UTC)").fill("2020-01-01")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No message is like this")).to_be_visible()


def test_a_search_that_makes_no_sense_says_why(plain_page: Page) -> None:
    answer = plain_page.goto("/messages?state=lost")
    assert answer is not None
    assert answer.status == 422
    expect(plain_page.get_by_role("alert")).to_contain_text("there is no state 'lost'")
    plain_page.goto("/messages?from=yesterday&time=whenever&at=")
    expect(plain_page.locator("tbody tr").first).to_be_visible()


def test_a_journey_tells_the_client_the_attempts_and_what_the_server_said(page: Page, console: Console) -> None:
    _open(page, console, "Your seat")
    journey = page.locator(".timeline")
    expect(journey).to_contain_text("127.0.0.1, which called itself <img/src=x/onerror=alert(1)>")
    expect(journey).to_contain_text("Attempt 1: temporary")
    expect(journey).to_contain_text(re.compile(r"ago, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"))
    expect(journey).to_contain_text("The server cannot take it now. It is tried again later.")
    expect(journey).to_contain_text(BUSY)
    expect(journey).to_contain_text("naming the recipients (RCPT)")
    expect(journey).to_contain_text("Next attempt")
    # What the next attempt changes is no guess: it is made from the message itself.
    changes = page.get_by_role("table", name="Header fields that are changed")
    expect(changes.get_by_role("row", name="Organization")).to_contain_text("Acme Jets")
    expect(page.get_by_text("acmejets/support@acmejets.example").first).to_be_visible()


def test_a_message_that_failed_for_some_says_for_whom_and_names_its_report(page: Page, console: Console) -> None:
    _open(page, console, f"{MARKUP} sold out")
    rows = page.get_by_role("table", name="Recipients").locator("tbody tr")
    expect(rows.nth(0)).to_contain_text("delivered")
    expect(rows.nth(1)).to_contain_text(REFUSED)
    expect(page.locator(".timeline")).to_contain_text("A report tells the sender who does not get it")
    page.locator(".timeline").get_by_role("link").click()
    expect(page.get_by_text("Relay wrote it")).to_be_visible()
    page.get_by_role("definition").get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{MARKUP} sold out")


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["Your ticket", f"{MARKUP} sold out"])
def test_what_is_over_says_what_was_changed_in_its_header(page: Page, console: Console, subject: str) -> None:
    """One message never was in the queue; of the other, one recipient was refused."""
    _open(page, console, subject)
    changes = page.get_by_role("table", name="Header fields that were changed by attempt 1")
    expect(changes.get_by_role("row", name="Organization")).to_have_text(re.compile(r"not there\s*Acme Jets"))
    expect(changes.get_by_role("row", name=LONG_NAME)).to_contain_text(MARKUP)
    expect(page.locator(".timeline")).to_contain_text(f"Organization, {LONG_NAME}")
    expect(page.get_by_role("heading", name="What was changed in its header")).to_be_visible()


@pytest.mark.slow
def test_what_is_over_says_by_which_route_its_sender_sends(page: Page, console: Console) -> None:
    _open(page, console, "Your ticket")
    expect(page.locator(".timeline")).to_contain_text("The server took it for every recipient.")
    expect(page.locator(".timeline")).to_contain_text("250 2.0.0 Ok: recorded")
    expect(page.get_by_text("By which route its sender sends now")).to_be_visible()
    expect(page.get_by_role("link", name="Download")).to_have_count(0)
    expect(page.get_by_role("button", name="Try now")).to_have_count(0)


def test_a_message_that_waits_is_downloaded_as_it_came(page: Page, console: Console) -> None:
    _open(page, console, "Your seat")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    text = download.value.path().read_text()
    assert download.value.suggested_filename.endswith(".eml")
    assert "Subject: Your seat" in text
    assert "this is about your flight" in text
    assert "Organization" not in text


def test_an_unknown_message_is_told_in_a_sentence(page: Page, viewer_page: Page, console: Console) -> None:
    for path in ("/messages/zzzzzzzzzz", "/messages/abc", "/messages/zzzzzzzzzz/content"):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 404, path
        expect(page.get_by_role("alert")).to_be_visible()
    _open(viewer_page, console, "Your seat")
    expect(viewer_page.get_by_role("button", name="Remove")).to_have_count(0)
    answer = viewer_page.goto(f"/messages/{id_of(console, 'Your seat')}/content")
    assert answer is not None
    assert answer.status == 403


def test_actions_change_the_message_and_its_page_says_so(plain_page: Page, console: Console) -> None:
    _open(plain_page, console, "Your seat")
    plain_page.get_by_role("button", name="Hold").click()
    expect(plain_page.get_by_role("status")).to_have_text("1 held")
    expect(plain_page.locator(".timeline")).to_contain_text("It waits for a person.")
    plain_page.get_by_role("button", name="Release").click()
    expect(plain_page.get_by_role("status")).to_have_text("1 released")


def test_a_new_message_appears_by_itself_and_its_page_follows_it(page: Page, console: Console) -> None:
    page.goto("/messages")
    expect(page.locator("tbody tr").first).to_be_visible()
    post(console, "Just now")
    expect(page.locator("tbody tr").filter(has_text="Just now")).to_have_count(1)
    _open(page, console, "Your seat")
    assert console.relay.command("queue", "hold", id_of(console, "Your seat")).status == 0
    expect(page.locator(".head").get_by_text("held", exact=True)).to_be_visible()
    assert console.relay.command("queue", "release", id_of(console, "Your seat")).status == 0
    expect(page.locator(".head").get_by_text("queued", exact=True)).to_be_visible()


def test_what_waits_says_what_an_attempt_changed_that_the_next_one_does_not(
    page: Page, console: Console, upstream: Recorder
) -> None:
    """The server had all of the message and judged it; then the script became another."""
    api = ApiClient(console.url, console.add_token("writer"))
    upstream.replies["."] = b"451 4.3.0 not now\r\n"
    post(console, "Your meal")
    upstream.replies["."] = REPLIES["."]
    assert api.ask("PATCH", "/scripts/default", {"set_headers": {"Organization": "Acme Trains"}}).status == 200
    _open(page, console, "Your meal")
    coming = page.get_by_role("table", name="Header fields that are changed")
    expect(coming.get_by_role("row", name="Organization")).to_contain_text("Acme Trains")
    earlier = page.get_by_role("table", name="Header fields that were changed by attempt 1")
    expect(earlier.get_by_role("row", name="Organization")).to_contain_text("Acme Jets")
    page.get_by_role("button", name="Try now").click()
    expect(page.locator(".timeline")).to_contain_text("Attempt 2: the server took it")
    expect(page.get_by_role("heading", level=3)).to_have_text(["Attempt 1", "Attempt 2"])
    shown = api.get(f"/messages/{id_of(console, 'Your meal')}")
    organizations = [
        one["after"] for tried in shown["attempts"] for one in tried["changes"] if one["field"] == "Organization"
    ]
    assert organizations == ["Acme Jets", "Acme Trains"]


@pytest.mark.slow
def test_nothing_keeps_people_out(page: Page, narrow_page: Page, console: Console) -> None:
    ids = [f"/messages/{one['id']}" for one in console.relay.ask("messages", "list")]
    for path in ("/messages", "/messages?state=failed&sender=x", *ids):
        page.goto(path)
        assert not serious_faults(page), path
        assert not cut_off(page), path
        narrow_page.goto(path)
        assert not overflows(narrow_page), path
