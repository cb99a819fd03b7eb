"""Tables of agents and channels: out, and in again after they were looked at."""

from base64 import b64encode
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.peers.api import ApiClient
from tests.peers.browser import overflows, serious_faults, window
from tests.peers.canaries import MARK, canary
from tests.peers.console import ADMINISTRATOR, Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import open_server

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    """One agent and one channel."""
    directory = {
        "default_server": "acmejets",
        "servers": {"acmejets": open_server(upstream.port, auth="plain", username="mailer@acmejets.example")},
        "agents": {"jane": {"address": "jane@acmejets.example", "group": "sales", "override": True}},
        "channels": {"support": {"address": "support@acmejets.example"}},
    }
    with console_process(directory) as running:
        yield running


@pytest.fixture(autouse=True)
def _as_before(api: ApiClient) -> Iterator[None]:
    yield
    for agent in api.get("/agents")["items"]:
        if agent["name"] != "jane":
            assert api.ask("DELETE", f"/agents/{agent['name']}").status == 204
    assert api.ask("PATCH", "/agents/jane", {"group": "sales"}).status == 200


def paste(page: Page, text: str, noun: str = "agent") -> None:
    """Paste a table and ask what it does."""
    page.goto(f"/{noun}s/-/import")
    page.get_by_label("Or paste it").fill(text)
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", name="Another table")).to_be_visible()


def rows(page: Page) -> list[str]:
    """The rows of the table on the page, with single blanks."""
    return [" ".join(one.split()) for one in page.locator("tbody tr").all_inner_texts()]


def test_a_table_is_shown_confirmed_and_done(page: Page, api: ApiClient) -> None:
    text = f"name,address,group,password\njane,jane@acmejets.example,flights,\nbob,bob@acmejets.example,sales,{MARK}\n"
    page.goto("/agents")
    page.get_by_role("link", name="Import").click()
    page.get_by_label("File (CSV)").set_input_files(
        {"name": "people.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("main")).to_contain_text("1 added, 1 changed, 0 stay as they are.")
    assert rows(page) == ["jane group sales flights"]
    expect(page.locator("main")).to_contain_text("Added: bob")
    assert MARK not in page.content()
    assert api.get("/agents/jane")["group"] == "sales"

    page.get_by_role("button", name="Import 2 agents").click()
    expect(page.get_by_role("status").first).to_have_text("The table is imported: 1 added, 1 changed.")
    assert api.get("/agents/jane")["group"] == "flights"
    assert api.get("/agents/bob")["password_set"] is True


def test_the_passwords_of_an_import_are_tried_and_what_the_server_refuses_is_listed(
    page: Page, narrow_page: Page, plain_page: Page, upstream: Recorder
) -> None:
    wrong = b64encode(f"\0eve@acmejets.example\0{canary('eve')}".encode()).decode()
    upstream.replies[f"AUTH PLAIN {wrong}"] = b"535 5.7.8 Wrong\r\n"
    rows = [f"{name},{name}@acmejets.example,yes,{canary(name)}" for name in ("bob", "eve")]
    upstream.hold("AUTH")
    try:
        paste(page, "\n".join(["name,address,override,password", *rows]))
        page.get_by_role("button", name="Import 2 agents").click()
        page.wait_for_url("**/agents/-/passwords")
        expect(page.get_by_role("status").first).to_have_text("The table is imported: 2 added, 0 changed.")
        upstream.wait_for("AUTH")
        expect(page.locator("#trial")).to_contain_text("0 of 2 tried: 0 work, 0 refused, 0 could not be tried.")
        plain_page.goto("/agents/-/passwords")
        expect(plain_page.locator("#trial")).to_contain_text("you may leave this page")
        assert not serious_faults(page)
    finally:
        upstream.release("AUTH")
    # Nobody loads it again.
    expect(page.get_by_role("row", name="eve")).to_contain_text("535 5.7.8 Wrong")
    for one in (page, narrow_page, plain_page):
        one.goto("/agents/-/passwords")
        expect(one.locator("#trial")).to_contain_text("2 of 2 tried: 1 work, 1 refused, 0 could not be tried.")
        assert canary("eve") not in one.content()
        assert not overflows(one)
    assert not serious_faults(page)
    assert not serious_faults(narrow_page)
    plain_page.get_by_role("button", name="Try all passwords again").click()
    plain_page.get_by_role("link", name="eve").or_(plain_page.get_by_role("link", name="Show again")).first.wait_for()


def test_every_fault_is_named_by_its_line_and_nothing_changes(plain_page: Page, api: ApiClient) -> None:
    paste(
        plain_page,
        "name,address,override\nbob,jane@acmejets.example,\n,x@acmejets.example,\njane,jane@acmejets.example,perhaps\n",
    )
    expect(plain_page.get_by_role("alert")).to_contain_text("3 faults in 3 rows.")
    assert [row.split()[:2] for row in rows(plain_page)] == [["2", "address"], ["3", "name"], ["4", "override"]]
    expect(plain_page.get_by_role("button", name="Import")).to_have_count(0)
    expect(plain_page.get_by_label("Or paste it")).to_have_value(
        "name,address,override\nbob,jane@acmejets.example,\n,x@acmejets.example,\njane,jane@acmejets.example,perhaps\n"
    )
    assert [agent["name"] for agent in api.get("/agents")["items"]] == ["jane"]


def test_a_change_meanwhile_is_told_before_anything_is_done(page: Page, api: ApiClient) -> None:
    paste(page, "name,group\njane,flights\n")
    assert api.ask("PATCH", "/agents/jane", {"group": "cargo"}).status == 200
    page.get_by_role("button", name="Import 1 agent").click()
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    assert rows(page) == ["jane group cargo flights"]
    page.get_by_role("button", name="Import 1 agent").click()
    expect(page.get_by_role("status").first).to_contain_text("imported")


@pytest.mark.slow
def test_a_table_is_confirmed_by_who_brought_it_alone(
    page: Page, browser: Browser, console: Console, api: ApiClient
) -> None:
    paste(page, "name,group\njane,flights\n")
    kept = page.locator("input[name=kept]").first.input_value()
    with window(browser, console.url) as context:
        other = console.sign_in(context, ADMINISTRATOR, canary(ADMINISTRATOR))  # a session of its own
        paste(other, "name,group\njane,cargo\n")
        other.locator("input[name=kept]").first.evaluate("(input, kept) => { input.value = kept; }", kept)
        other.get_by_role("button", name="Import 1 agent").click()
        expect(other.get_by_role("alert")).to_contain_text("no longer kept")
    assert api.get("/agents/jane")["group"] == "sales"


def test_what_is_no_table_says_so(page: Page) -> None:
    page.goto("/agents/-/import")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("alert")).to_contain_text("choose a file, or paste a table")
    page.get_by_label("File (CSV)").set_input_files(
        {"name": "x.csv", "mimeType": "text/csv", "buffer": b"name\n\xff\xfe"}
    )
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("alert")).to_contain_text("CSV UTF-8")
    paste(page, "name,address\njane,jane@acmejets.example\n")
    expect(page.get_by_role("status")).to_contain_text("nothing to change")


@pytest.mark.slow
def test_an_export_goes_in_again_unchanged(page: Page) -> None:
    for noun in ("agent", "channel"):
        page.goto(f"/{noun}s")
        with page.expect_download() as download:
            page.get_by_role("link", name="Export").click()
        assert download.value.suggested_filename.startswith(f"{noun}s-")
        page.goto(f"/{noun}s/-/import")
        page.get_by_label("File (CSV)").set_input_files(download.value.path())
        page.get_by_role("button", name="Preview").click()
        expect(page.get_by_role("status")).to_contain_text("nothing to change")


@pytest.mark.slow
def test_channels_come_in_alike(page: Page, api: ApiClient) -> None:
    paste(page, "name,aliases\nsupport,help@acmejets.example;info@acmejets.example\n", "channel")
    assert rows(page) == ["support aliases nothing help@acmejets.example, info@acmejets.example"]
    page.get_by_role("button", name="Import 1 channel").click()
    expect(page.get_by_role("status").first).to_contain_text("0 added, 1 changed")
    assert len(api.get("/channels/support")["aliases"]) == 2


@pytest.mark.slow
def test_a_large_table_comes_in_and_the_page_says_all_of_it(plain_page: Page) -> None:
    lines = [f"agent{number:05},agent{number:05}@acmejets.example,{'group' * 100}" for number in range(3000)]
    table = "\n".join(["name,address,group", *lines]).encode()
    assert len(table) > 1024 * 1024
    plain_page.goto("/agents/-/import")
    plain_page.get_by_label("File (CSV)").set_input_files({"name": "x.csv", "mimeType": "text/csv", "buffer": table})
    plain_page.get_by_role("button", name="Preview").click()
    expect(plain_page.locator("main")).to_contain_text("3,000 added")
    expect(plain_page.locator("main")).to_contain_text("agent02999")


@pytest.mark.slow
def test_nothing_keeps_people_out(page: Page, narrow_page: Page) -> None:
    for one in (page, narrow_page):
        for text in (f"name,address,nme,password\nx,y,z,{canary('x')}\n", "name,group\njane,flights\n"):
            paste(one, text)
            assert not serious_faults(one)
            assert not overflows(one)
