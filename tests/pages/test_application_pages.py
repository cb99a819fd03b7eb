"""Applications: added, changed and removed by an administrator, looked at by a viewer."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.peers.browser import overflows, serious_faults
from tests.peers.canaries import canary
from tests.peers.console import Console

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture
def shop(console: Console) -> Iterator[str]:
    """An application that the commands added."""
    done = console.relay.command("application", "add", "shop", "--may-send-as", "support")
    assert done.status == 0, done.text
    yield "shop"
    console.relay.command("application", "remove", "shop")


def test_one_is_added_found_changed_and_removed(page: Page, console: Console) -> None:
    page.goto("/applications")
    page.get_by_role("link", name="Add the first one").click()
    page.get_by_label("Name").fill("contact-center")
    page.get_by_label("May send as").fill("support")
    page.get_by_label("Login password").fill(canary("contact-center"))
    page.get_by_role("button", name="Add application").click()
    expect(page.get_by_role("status")).to_have_text("application contact-center is added; its login password is set")
    assert console.relay.ask("application", "show", "contact-center")["login_set"]

    page.get_by_label("May send as").fill("*")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("application contact-center is saved")
    assert console.relay.ask("application", "show", "contact-center")["may_send_as"] == ["*"]

    page.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove contact-center").click()
    expect(page.get_by_role("status")).to_have_text("application contact-center is removed")
    assert console.relay.ask("application", "list") == []


def test_a_fault_stands_beside_its_field_and_what_was_typed_stays(plain_page: Page) -> None:
    plain_page.goto("/applications/-/add")
    plain_page.get_by_label("Name").fill("shop")
    plain_page.get_by_label("May send as").fill("suport")
    plain_page.get_by_role("button", name="Add application").click()
    expect(plain_page.locator("#may_send_as-fault")).to_contain_text("did you mean 'support'?")
    expect(plain_page.get_by_label("Name")).to_have_value("shop")


def test_a_change_meanwhile_is_not_overwritten_unseen(page: Page, console: Console, shop: str) -> None:
    page.goto(f"/applications/{shop}")
    assert console.relay.command("application", "set", shop, "may_send_as=*").status == 0
    page.get_by_label("May send as").fill("support\nsupport")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    assert console.relay.ask("application", "show", shop)["may_send_as"] == ["*"]


def test_a_viewer_looks_and_cannot_change(viewer_page: Page, shop: str) -> None:
    viewer_page.goto(f"/applications/{shop}")
    expect(viewer_page.get_by_label("May send as")).to_be_disabled()
    viewer_page.goto("/applications")
    expect(viewer_page.get_by_role("link", name="Add")).to_have_count(0)
    viewer_page.get_by_role("link", name=shop).click()
    expect(viewer_page.get_by_role("button", name="Save")).to_have_count(0)
    viewer_page.goto(f"/applications/{shop}/remove")
    expect(viewer_page.get_by_role("alert")).to_contain_text("not for the role viewer")


@pytest.mark.slow
def test_nothing_keeps_people_out(page: Page, narrow_page: Page, shop: str) -> None:
    for path in ("/applications", "/applications/-/add", f"/applications/{shop}", f"/applications/{shop}/remove"):
        page.goto(path)
        assert not serious_faults(page), path
        narrow_page.goto(path)
        assert not overflows(narrow_page), path
