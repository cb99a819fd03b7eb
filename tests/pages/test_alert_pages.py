"""The page of alerts and webhooks: what they were told, tests of them, and events that are told again."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.peers.browser import overflows, serious_faults
from tests.peers.console import Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.system import wait_until
from tests.peers.webhook_receiver import Receiver, webhook_receiver

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with webhook_receiver(tmp_path_factory.mktemp("hooks")) as opened:
        yield opened


@pytest.fixture(scope="module")
def console(upstream: Recorder, receiver: Receiver) -> Iterator[Console]:
    """A relay with an alert by mail and a webhook."""
    settings = {"alert": [{"to": "mailto:ops@acmejets.example"}], "webhook": [receiver.table]}
    with console_process(one_channel(open_server(upstream.port)), settings) as running:
        yield running


def test_who_is_told_is_seen_and_tested(page: Page, upstream: Recorder) -> None:
    page.goto("/")
    page.get_by_role("link", name="Alerts").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Alerts and webhooks")
    alert = page.get_by_role("row", name="mailto:ops@acmejets.example")
    expect(alert).to_contain_text("account-held, server-unreached")
    expect(alert).to_contain_text("none")
    assert not serious_faults(page)
    count = len(upstream.messages)
    alert.get_by_role("button", name="Test").click()
    expect(page.get_by_role("status")).to_contain_text("They are told that this is a test.")
    expect(page.get_by_role("main").locator("li")).not_to_contain_text("relay messages show")
    wait_until(lambda: len(upstream.messages) > count, "the mail of the test")


def test_a_webhook_is_tested_and_told_again(page: Page, console: Console, receiver: Receiver) -> None:
    with console.relay.connect() as client:
        reply = client.submit("support@acmejets.example", "you@customer.example", b"Subject: again\r\n\r\nHello\r\n")
    assert reply.startswith("250 "), reply
    wait_until(lambda: receiver.types("again") == ["delivered"], "the event of the message")
    page.goto("/alerts")
    hook = page.get_by_role("row", name=receiver.url.partition("?")[0])
    expect(hook).to_contain_text("delivered, deferred, failed")
    expect(page.locator("body")).not_to_contain_text("key=1")
    page.get_by_role("button", name="Tell again").click()
    expect(page.get_by_role("status")).to_contain_text("told again")
    wait_until(lambda: sum(line["event"]["type"] == "message.delivered" for line in receiver.lines()) > 1, "it again")
    hook.get_by_role("button", name="Test").click()
    expect(page.get_by_role("status")).to_contain_text("It took the event.")
    assert receiver.lines()[-1]["event"]["type"] == "relay.test"


def test_a_webhook_that_takes_nothing_is_told_so(page: Page, receiver: Receiver) -> None:
    receiver.refusing.write_text("500")  # it answers so from now on
    try:
        page.goto("/alerts")
        page.get_by_role("row", name=receiver.url.partition("?")[0]).get_by_role("button", name="Test").click()
        expect(page.get_by_role("main").locator("li").last).to_contain_text("500")
    finally:
        receiver.refusing.unlink()


def test_a_viewer_looks_and_a_phone_is_wide_enough(viewer_page: Page, narrow_page: Page) -> None:
    viewer_page.goto("/alerts")
    expect(viewer_page.get_by_role("row", name="mailto:ops@acmejets.example")).to_be_visible()
    expect(viewer_page.get_by_role("main").get_by_role("button")).to_have_count(0)
    narrow_page.goto("/alerts")
    assert not overflows(narrow_page)
    assert not serious_faults(narrow_page)


def test_what_is_not_there_is_refused(page: Page, console: Console) -> None:
    page.goto("/alerts")
    key = page.locator("input[name=form_key]").first.input_value()
    for path, fields, said in (
        ("/alerts/9/test", {}, "there is no alert 9"),
        ("/alerts/webhooks/x/test", {}, "there is no webhook 0"),
        ("/alerts/webhooks/replay", {"hours": "5"}, "choose from when on"),
        ("/alerts/webhooks/replay", {"hours": "1", "number": "7"}, "there is no webhook 7"),
    ):
        answer = page.request.post(
            console.url + path, form={"form_key": key, **fields}, headers={"Origin": console.url}
        )
        assert said in answer.text(), path
