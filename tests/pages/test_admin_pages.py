"""Scripts, administrators, tokens and the audit, as an administrator uses their pages."""

import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from relay.web.kit.forms import read_headers
from relay.web.pages.audit import words
from tests.peers.browser import overflows, serious_faults, window
from tests.peers.canaries import canary
from tests.peers.console import VIEWER, Console

pytestmark = pytest.mark.needs("chromium")

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def script(console: Console, page: Page) -> Iterator[str]:
    """A script that channel support names."""
    page.goto("/scripts/-/add")
    page.get_by_label("Name").fill("brand")
    page.get_by_label("Set these fields").fill(f"Organization: {MARKUP}\nX-Mailer: Relay")
    page.get_by_label("Remove these fields").fill("X-Originating-IP\nX-Host")
    page.get_by_role("button", name="Add script").click()
    expect(page.get_by_role("status")).to_have_text("script brand is added")
    assert console.relay.command("channel", "set", "support", "script=brand").status == 0
    yield "brand"
    console.relay.command("channel", "set", "support", "script=")
    page.goto("/scripts/brand/remove")
    page.get_by_role("button", name="Remove brand").click()


def test_a_script_is_written_in_lines_and_changed(page: Page, console: Console, script: str) -> None:
    assert "[scripts.brand" in console.relay.directory_file.read_text()
    page.goto("/scripts")
    row = page.get_by_role("row", name="brand")
    expect(row).to_contain_text(f"Organization: {MARKUP}")
    expect(row).to_contain_text("X-Originating-IP, X-Host")
    page.get_by_role("link", name=script).click()
    expect(page.get_by_label("Set these fields")).to_have_value(f"Organization: {MARKUP}\nX-Mailer: Relay")
    page.get_by_label("Set these fields").fill("Organization: Acme Jets")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("script brand is saved")
    expect(page.get_by_label("Set these fields")).to_have_value("Organization: Acme Jets")


def test_a_script_in_use_is_not_removed_and_says_who_uses_it(page: Page, script: str) -> None:
    page.goto(f"/scripts/{script}/remove")
    expect(page.get_by_role("link", name="channel support")).to_have_attribute("href", "/channels/support")
    page.get_by_role("button", name="Remove brand").click()
    expect(page.get_by_role("alert")).to_contain_text("channel support use script 'brand'")


def test_faults_of_a_script_stand_beside_their_fields(plain_page: Page) -> None:
    plain_page.goto("/scripts/-/add")
    plain_page.get_by_label("Name").fill("wrong")
    plain_page.get_by_label("Set these fields").fill("Organization Acme")
    plain_page.get_by_role("button", name="Add script").click()
    expect(plain_page.locator("#set_headers-fault")).to_contain_text("line 1: write a field as “Name: value”")
    plain_page.get_by_label("Set these fields").fill("From: somebody@else.example")
    plain_page.get_by_role("button", name="Add script").click()
    expect(plain_page.locator("#set_headers-fault")).to_be_visible()
    expect(plain_page.get_by_label("Set these fields")).to_have_value("From: somebody@else.example")


def test_a_viewer_comes_by_a_link_that_is_shown_once_and_is_changed_and_removed(page: Page, browser: Browser) -> None:
    page.goto("/administrators")
    expect(page.get_by_role("row", name="root")).to_contain_text("you")
    page.get_by_role("link", name="Add somebody").click()
    page.get_by_label("Name").fill("olivia")
    page.get_by_label("Role").select_option("viewer")
    page.get_by_role("button", name="Add", exact=True).click()
    url = page.get_by_label("One-time link").input_value()
    assert "/welcome/" in url
    assert not serious_faults(page)
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("row", name="olivia")).to_contain_text("missing")
    page.get_by_role("link", name="olivia").click()
    page.get_by_label("Role").select_option("administrator")
    page.get_by_role("button", name="Save the role").click()
    expect(page.get_by_role("row", name="olivia")).to_contain_text("administrator")
    page.get_by_role("link", name="olivia").click()
    page.get_by_label("Set this password").check()
    page.get_by_label("Password", exact=True).fill(canary("olivia"))
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("status")).to_have_text("the password of olivia is set")
    with window(browser, page.url.partition("/administrators")[0]) as other:
        theirs = other.new_page()
        theirs.goto("/sign-in")
        theirs.get_by_label("Name or address").fill("olivia")
        theirs.get_by_label("Password").fill(canary("olivia"))
        theirs.get_by_role("button", name="Sign in").click()
        expect(theirs.get_by_role("heading", level=1)).to_have_text("Overview")
        page.get_by_role("link", name="Remove").click()
        page.get_by_role("button", name="Remove olivia").click()
        expect(page.get_by_role("status")).to_have_text("olivia is removed")
        theirs.goto("/audit")
        expect(theirs.get_by_role("button", name="Sign in")).to_be_visible()


def test_what_cannot_be_is_refused_beside_its_field(plain_page: Page) -> None:
    plain_page.goto("/administrators/-/add")
    plain_page.get_by_label("Name").fill("root")
    plain_page.get_by_label("Set this password").check()
    plain_page.get_by_role("button", name="Add", exact=True).click()
    expect(plain_page.locator("#password-fault")).to_be_visible()
    plain_page.get_by_label("Set this password").check()
    plain_page.get_by_label("Password", exact=True).fill(canary("other"))
    plain_page.get_by_role("button", name="Add", exact=True).click()
    expect(plain_page.locator("#name-fault")).to_contain_text("there is 'root' already")
    expect(plain_page.get_by_label("Password", exact=True)).to_have_value("")


def test_the_last_administrator_stays(page: Page) -> None:
    page.goto("/administrators/root/remove")
    expect(page.get_by_text("This is you")).to_be_visible()
    page.get_by_role("button", name="Remove root").click()
    expect(page.get_by_role("alert")).to_contain_text("'root' is the last administrator")
    page.goto("/administrators/root")
    page.get_by_label("Role").select_option("viewer")
    page.get_by_role("button", name="Save the role").click()
    expect(page.locator("#role-fault")).to_contain_text("'root' is the last administrator")


def test_a_token_is_shown_once_used_and_removed(page: Page, console: Console) -> None:
    page.goto("/tokens")
    page.get_by_role("link", name="Add a token").click()
    page.get_by_label("Name").fill("monitoring")
    page.get_by_role("button", name="Add token").click()
    token = page.get_by_label("Token", exact=True).input_value()
    assert token.startswith("relay_")
    assert _status(console, token) == 200
    page.get_by_role("link", name="Done").click()
    row = page.get_by_role("row", name="monitoring")
    expect(row).to_contain_text("viewer")
    expect(row).not_to_contain_text("never")
    assert token not in page.content()
    row.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove monitoring").click()
    expect(page.get_by_role("status")).to_have_text("token monitoring is removed")
    assert _status(console, token) == 401


def _status(console: Console, token: str) -> int:
    request = urllib.request.Request(f"{console.url}/api/v1/status", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_audit_says_who_changed_what_and_is_searched(page: Page, script: str) -> None:
    page.goto("/audit")
    row = page.locator("tbody tr").filter(has_text="script.add").filter(has_text=script).first
    expect(row).to_contain_text("root")
    expect(row).to_contain_text("administrator, by page from 127.0.0.1")
    expect(row).to_contain_text(f"Organization: {MARKUP}")
    page.get_by_label("Find").fill("script=")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No change is like this")).to_be_visible()
    page.goto("/audit?operation=channel&what=support&time=24h")
    change = page.locator("tbody tr").first
    expect(change).to_contain_text("channels.support.script")
    expect(change).to_contain_text("by command")
    expect(change).to_contain_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"))
    expect(page.get_by_label("Operations on")).to_have_value("channel")
    known = page.get_by_label("Operations on").locator("option").all_inner_texts()
    assert {"admin", "application", "directory", "queue", "script", "secrets", "server", "token"} <= set(known)
    expect(page.locator("body")).not_to_contain_text(canary(VIEWER))


def test_the_audit_goes_on_page_by_page(plain_page: Page) -> None:
    plain_page.goto("/queue")
    key = plain_page.locator("input[name=form_key]").first.input_value()
    for _ in range(51):
        answer = plain_page.request.post("/queue", form={"form_key": key, "action": "retry-all"}, max_redirects=0)
        assert answer.status == 303
    plain_page.goto("/audit?operation=queue&at=junk")
    expect(plain_page.locator("tbody tr")).to_have_count(50)
    plain_page.get_by_role("link", name="Older").click()
    expect(plain_page.locator("tbody tr")).to_have_count(1)
    expect(plain_page.get_by_role("link", name="Older")).to_have_count(0)
    plain_page.get_by_role("link", name="Newest").click()
    expect(plain_page).to_have_url("/audit?operation=queue")


def test_a_viewer_looks_and_is_shown_no_way_to_change(viewer_page: Page) -> None:
    viewer_page.goto("/administrators")
    expect(viewer_page.get_by_role("row", name="auditor")).to_contain_text("you")
    expect(viewer_page.get_by_role("main").get_by_role("link")).to_have_count(0)
    for path in ("/administrators/root", "/administrators/-/add", "/administrators/-/tokens/add"):
        answer = viewer_page.goto(path)
        assert answer is not None
        assert answer.status == 403, path
    viewer_page.goto("/audit")
    expect(viewer_page.get_by_role("heading", level=1)).to_have_text("Audit")


@pytest.mark.slow
def test_nothing_keeps_people_out(page: Page, narrow_page: Page, script: str) -> None:
    people = ("/administrators", "/administrators/-/add", "/administrators/auditor", "/administrators/auditor/remove")
    scripts = ("/scripts", "/scripts/-/add", f"/scripts/{script}", f"/scripts/{script}/remove")
    for path in (*people, *scripts, "/administrators/-/tokens/add", "/audit", "/audit?who=x"):
        page.goto(path)
        assert not serious_faults(page), path
        narrow_page.goto(path)
        assert not overflows(narrow_page), path


def test_values_are_written_as_people_do() -> None:
    values = [words(one) for one in (None, "", [], True, False, 3, ["a", "b"], {"a": None, "b": [1]}, "x" * 400)]
    assert values[:-1] == ["nothing", "nothing", "nothing", "yes", "no", "3", "a, b", "a: nothing; b: 1"]
    assert values[-1] == "x" * 300 + "…"


def test_header_fields_stand_in_lines() -> None:
    assert read_headers("A: b\n\n  C-D :  e: f \n") == {"A": "b", "C-D": "e: f"}
    for text, fault in (("A", "line 1"), ("A: b\nC:", "line 2"), ("A: b\na: c", "stands there twice")):
        with pytest.raises(ValueError, match=fault):
            read_headers(text)
