"""The queue: what waits and why, and what people do with one message or many."""

from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import Page, expect

from tests.pages.posting import post
from tests.peers.api import ApiClient
from tests.peers.browser import overflows, serious_faults
from tests.peers.console import Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs("chromium")

BUSY = b"450 4.2.1 mailbox busy\r\n"


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    """A relay that keeps what its server cannot take now."""
    settings = {"delivery": {"mode": "queued", "retry": ["1h"]}}
    with console_process(one_channel(open_server(upstream.port)), settings) as running:
        yield running


@pytest.fixture(autouse=True)
def waiting(console: Console, upstream: Recorder, api: ApiClient) -> Iterator[None]:
    """Three messages that wait, Offer 1 to 3."""
    upstream.replies["RCPT"] = BUSY
    for number in (1, 2, 3):
        post(console, f"Offer {number}", to=[f"c{number}@customer.example"])
    wait_until(lambda: _states(console) == ["queued"] * 3, "three that wait")
    yield
    for one in console.relay.ask("queue", "list"):
        wait_until(partial(_is_gone, api, one["id"]), "the end of what waits")


def _is_gone(api: ApiClient, id_: str) -> bool:
    """Cancel a message, unless it is just being sent."""
    return api.ask("DELETE", f"/queue/{id_}").status in {204, 404}


def _states(console: Console) -> list[str]:
    return [one["state"] for one in console.relay.ask("queue", "list") if one["reason"] or one["state"] != "queued"]


def _choose(page: Page, *subjects: str) -> None:
    for subject in subjects:
        page.get_by_role("checkbox", name=subject).check()


def test_what_waits_stands_with_its_reason_the_oldest_first(plain_page: Page) -> None:
    plain_page.goto("/queue")
    rows = plain_page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("Offer 1")
    expect(rows.nth(0)).to_contain_text("450 4.2.1 mailbox busy")
    expect(rows.nth(0)).to_contain_text("in ")
    plain_page.goto("/queue?q=c2@customer.example&state=queued&profile=support")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Offer 2")
    plain_page.goto("/queue?profile=nobody")
    expect(plain_page.get_by_text("Nothing like this waits")).to_be_visible()


def test_many_are_held_and_each_outcome_is_told(plain_page: Page, console: Console) -> None:
    plain_page.goto("/queue")
    _choose(plain_page, "Offer 1", "Offer 2")
    plain_page.get_by_role("button", name="Hold").click()
    expect(plain_page.get_by_role("status")).to_have_text("2 held")
    expect(plain_page.get_by_role("status")).to_have_class("notice good")
    _choose(plain_page, "Offer 1", "Offer 2", "Offer 3")
    plain_page.get_by_role("button", name="Release").click()
    expect(plain_page.get_by_role("status")).to_have_text("2 released; 1 was queued: nothing was done")
    expect(plain_page.get_by_role("status")).to_have_class("notice warn")
    plain_page.get_by_role("button", name="Retry", exact=True).click()
    expect(plain_page.get_by_role("status")).to_contain_text("Nothing was chosen")
    assert "held" not in _states(console)


def test_one_that_is_being_sent_is_told_apart(page: Page, upstream: Recorder, console: Console) -> None:
    upstream.hold("RCPT")
    try:
        page.goto("/queue")
        _choose(page, "Offer 1")
        page.get_by_role("button", name="Retry", exact=True).click()
        expect(page.get_by_role("status")).to_have_text("1 retried")
        upstream.wait_for("RCPT")
        page.goto("/queue")
        page.get_by_label("Select all shown").check()
        page.get_by_role("button", name="Hold").click()
        expect(page.get_by_role("status")).to_have_text("2 held; 1 was being sent just now")
    finally:
        upstream.release("RCPT")
    wait_until(lambda: "sending" not in _states(console), "the end of the attempt")


def test_removing_asks_first_and_says_what_it_means(page: Page, console: Console) -> None:
    page.goto("/queue")
    page.get_by_label("Select all shown").check()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Remove these 3 messages?")
    assert not serious_faults(page)
    page.get_by_role("link", name="Cancel").click()
    assert len(_states(console)) == 3
    _choose(page, "Offer 2")
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("status")).to_have_text("1 removed")
    expect(page.locator("tbody tr")).to_have_count(2)


def test_all_that_wait_are_tried_and_leave_the_page_by_themselves(page: Page, upstream: Recorder) -> None:
    page.goto("/queue")
    upstream.replies["RCPT"] = b"250 2.1.5 Recipient ok\r\n"
    page.get_by_role("button", name="Retry all that wait").click()
    expect(page.get_by_role("status")).to_have_text("3 retried")
    expect(page.get_by_text("Nothing waits")).to_be_visible()


@pytest.mark.slow
def test_a_choice_under_way_is_not_undone_by_what_changes(page: Page, console: Console) -> None:
    page.goto("/queue")
    _choose(page, "Offer 1")
    page.locator("h1").click()
    post(console, "Offer 4")
    # Another page of the same browser sees the change; this one keeps what is ticked.
    other = page.context.new_page()
    other.goto("/queue")
    expect(other.locator("tbody tr")).to_have_count(4)
    page.wait_for_timeout(1500)
    expect(page.get_by_role("checkbox", name="Offer 1")).to_be_checked()


def test_a_viewer_sees_and_cannot_act(viewer_page: Page) -> None:
    viewer_page.goto("/queue")
    expect(viewer_page.locator("tbody tr")).to_have_count(3)
    expect(viewer_page.get_by_role("checkbox")).to_have_count(0)
    expect(viewer_page.get_by_role("button", name="Retry")).to_have_count(0)


@pytest.mark.slow
def test_nothing_keeps_people_out(page: Page, narrow_page: Page) -> None:
    for path in ("/queue", "/queue?q=nothing"):
        page.goto(path)
        assert not serious_faults(page), path
        narrow_page.goto(path)
        assert not overflows(narrow_page), path
