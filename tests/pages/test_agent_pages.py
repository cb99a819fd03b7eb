"""Agents: added, listed, changed, invited and removed by an administrator; looked at by a viewer."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.peers.browser import cut_off, loaded, overflows, serious_faults
from tests.peers.canaries import canary
from tests.peers.console import Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import open_server

pytestmark = pytest.mark.needs("chromium")

NAMES = [f"agent{number:02}" for number in range(60)]


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    """Sixty agents in two groups on one server; jane overrides, and another server is internal."""
    servers = {
        "acmejets": open_server(upstream.port, auth="plain", username="mailer@acmejets.example"),
        "shared": open_server(upstream.port, internal=True),
    }
    agents: dict[str, Any] = {
        name: {"address": f"{name}@acmejets.example", "group": ("flights", "sales")[number % 2]}
        for number, name in enumerate(NAMES)
    }
    agents["jane"] = {"address": "jane@acmejets.example", "full_name": "Jane Doe", "override": True, "role": "Lead"}
    directory = {"default_server": "acmejets", "servers": servers, "agents": agents}
    with console_process(directory) as running:
        yield running


def expect_names(page: Page, names: list[str]) -> None:
    """Wait until these names are in the list, from above."""
    expect(page.locator("tbody th a")).to_have_text(names)


def test_one_is_added_with_override_changed_and_removed(page: Page, console: Console) -> None:
    page.goto("/agents/-/add")
    expect(page.get_by_label("Outgoing mail server")).to_have_value("")
    page.get_by_label("Name", exact=True).fill("bob")
    page.get_by_label("Full name").fill("Bob Ray")
    page.get_by_label("Address", exact=True).fill("bob@acmejets.example")
    page.get_by_label("Override server configuration").check()
    page.get_by_label("User name").fill("bob.ray")
    page.get_by_label("Group").fill("sales")
    page.get_by_label("Country").fill("NL")
    page.get_by_label("Login password").fill(canary("bob"))
    page.get_by_role("button", name="Add agent").click()
    expect(page.get_by_role("status").first).to_have_text("agent bob is added; its login password is set")
    bob = console.relay.ask("agent", "show", "bob")
    kept = {key: bob[key] for key in ("full_name", "override", "username", "group", "country", "login_set")}
    assert kept == {
        "full_name": "Bob Ray",
        "override": True,
        "username": "bob.ray",
        "group": "sales",
        "country": "NL",
        "login_set": True,
    }
    expect(page.locator(".facts")).to_contain_text("missing invite the agent to set it")

    page.get_by_label("Email password").fill(canary("bob's mail"))
    page.get_by_label("May also send as").fill("jane")
    page.get_by_role("button", name="Save", exact=True).last.click()
    expect(page.get_by_role("status").first).to_have_text("agent bob is saved; its email password is saved and works")
    assert console.relay.ask("agent", "show", "bob")["may_send_as"] == ["jane"]

    page.get_by_role("link", name="Remove").click()
    expect(page.locator("main")).to_contain_text("Mail from bob@acmejets.example will be refused")
    page.get_by_role("button", name="Remove bob").click()
    expect(page.get_by_role("status").first).to_have_text("agent bob is removed")


def test_the_override_is_greyed_with_the_reason_on_an_internal_server(page: Page) -> None:
    page.goto("/agents/agent00")
    expect(page.get_by_label("Override server configuration")).to_be_enabled()
    page.get_by_label("Outgoing mail server").select_option("shared")
    expect(page.get_by_label("Override server configuration")).to_be_disabled()
    expect(page.locator("#override-hint")).to_contain_text("it is internal")
    page.get_by_label("Outgoing mail server").select_option("")
    expect(page.get_by_label("Override server configuration")).to_be_enabled()


def test_the_list_is_sorted_filtered_and_turned(page: Page) -> None:
    page.goto("/agents")
    expect_names(page, NAMES[:50])
    expect(page.locator(".parts")).to_contain_text("50 of 61 agents")
    page.get_by_role("link", name="Next").click()
    expect_names(page, [*NAMES[50:], "jane"])
    page.locator("thead a").first.click()
    expect_names(page, ["jane", *NAMES[:10:-1]])
    loaded(page).locator("select[name=group]").select_option("sales")
    page.wait_for_url("**group=sales**")
    page.goto("/agents?group=sales")
    expect_names(page, NAMES[1::2])
    page.get_by_label("Find").fill("agent1")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".parts")).to_contain_text("of 5 agents")
    expect_names(page, [name for name in NAMES[1::2] if "agent1" in name])
    page.get_by_role("link", name="Show all").click()
    loaded(page).locator("select[name=password]").select_option("missing")
    page.wait_for_url("**password=missing**")
    expect(page.locator(".parts")).to_contain_text("of 1 agents")
    expect_names(page, ["jane"])
    expect(page.get_by_role("row", name="jane")).to_contain_text("missing")


def test_the_columns_that_were_chosen_are_remembered(page: Page) -> None:
    page.goto("/agents?q=jane")
    assert page.get_by_role("columnheader", name="Outgoing mail server").count() == 0
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Outgoing mail server").check()
    page.get_by_label("Full name").uncheck()
    page.get_by_role("button", name="Show these").click()
    for path in ("", "/agents"):
        if path:
            page.goto(path)
        expect(page.get_by_role("columnheader", name="Outgoing mail server")).to_be_visible()
        expect(page.get_by_role("columnheader", name="Full name")).to_have_count(0)
    page.goto("/agents?q=jane")
    expect(page.get_by_role("row", name="jane")).to_contain_text("acmejets (default)")
    page.get_by_role("link", name="Outgoing mail server").click()
    expect(page.get_by_role("row", name="jane")).to_be_visible()


def test_what_a_cookie_says_of_columns_counts_only_where_it_is_one(page: Page, console: Console) -> None:
    odd = {"name": "relay-columns-agents", "value": "nothing.group.<b>.name", "url": console.url}
    page.context.add_cookies([odd])  # type: ignore[list-item]  # a typed dictionary of playwright's own
    page.goto("/agents?q=agent01")
    headings = page.locator("thead th").all_inner_texts()
    assert [one.replace("↑", "").strip() for one in headings if one.strip()][-2:] == ["Name", "Group"]


def test_several_are_invited_at_once(plain_page: Page, console: Console) -> None:
    plain_page.goto("/agents?q=agent0")
    plain_page.get_by_label("Choose agent01").check()
    plain_page.get_by_label("Choose agent03").check()
    plain_page.get_by_role("button", name="Invite selected").click()
    expect(plain_page.get_by_role("heading", level=1)).to_have_text("2 invitations")
    table = plain_page.get_by_label("All of them as a table (CSV)").input_value().split()
    assert [line.rpartition(",")[0] for line in table[1:]] == [
        "agent01,agent01@acmejets.example",
        "agent03,agent03@acmejets.example",
    ]
    for line in table[1:]:
        assert line.rpartition(",")[2].startswith(f"{console.url}/welcome/")
    plain_page.goto("/agents")
    plain_page.get_by_role("button", name="Invite selected").click()
    expect(plain_page.get_by_role("status").first).to_contain_text("tick the agents to invite first")


def test_a_test_tells_its_steps(plain_page: Page, console: Console) -> None:
    console.relay.set_password("server", "acmejets", canary("mailer"))
    plain_page.goto("/agents/agent02")
    plain_page.get_by_label("An address to test with").fill("somebody@elsewhere.example")
    with plain_page.context.expect_page() as opened:
        plain_page.get_by_role("button", name="Test connection").click()
    expect(opened.value.get_by_text("It works: the server took the message.")).to_be_visible()


def test_a_viewer_looks_and_changes_nothing(viewer_page: Page) -> None:
    viewer_page.goto("/agents")
    for name in ("Invite selected", "Add an agent", "Import"):
        expect(viewer_page.get_by_role("button", name=name)).to_have_count(0)
        expect(viewer_page.get_by_role("link", name=name)).to_have_count(0)
    viewer_page.goto("/agents/jane")
    expect(viewer_page.get_by_role("button", name="Save")).to_have_count(0)
    expect(viewer_page.get_by_role("button", name="Invite")).to_have_count(0)
    viewer_page.goto("/agents/-/import")
    expect(viewer_page.get_by_role("alert")).to_contain_text("not for the role viewer")


@pytest.mark.slow
def test_nothing_keeps_people_out(page: Page, narrow_page: Page) -> None:
    for path in ("/agents", "/agents/-/add", "/agents/jane", "/agents/jane/remove", "/agents?q=nobody"):
        page.goto(path)
        assert not serious_faults(page), path
        assert not cut_off(page), path
        narrow_page.goto(path)
        assert not overflows(narrow_page), path
    narrow_page.get_by_text("Columns", exact=True).click()
    assert not overflows(narrow_page)
    for one in (page, narrow_page):
        one.goto("/agents/jane")
        one.get_by_role("button", name="Invite").click()
        one.get_by_role("button", name="Copy").wait_for()
    assert not serious_faults(page)
    assert not overflows(narrow_page)
