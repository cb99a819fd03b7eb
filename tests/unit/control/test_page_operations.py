"""Lists page by page: sorted by every column, filtered, and as quick with ten thousand agents as with ten."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused
from tests.peers.work import counted_turns
from tests.unit.control.control_kit import AdminOperations, operations_in

AGENTS: Mapping[str, Any] = {
    "default_server": "main",
    "servers": {
        "main": {"host": "smtp.main.example", "username": "mailer@main.example"},
        "other": {"host": "smtp.other.example", "username": "mailer@other.example", "port": 2525},
        "tls": {"host": "smtp.tls.example", "username": "mailer@tls.example", "security": "tls"},
    },
    "channels": {
        "support": {"address": "support@main.example", "aliases": ["help@main.example"]},
        "sales": {"address": "sales@main.example", "server": "other", "override": True},
    },
    "agents": {
        "ann": {"address": "ann@main.example", "group": "sales", "role": "Lead", "server": "other"},
        "Bob": {"address": "bob@main.example", "group": "flights", "override": True, "full_name": "Bob Ångström"},
        "cid": {"address": "cid@main.example", "group": "Air", "role": "agent"},
    },
}
MANY = 10_000
OVERRIDING = (MANY + 2) // 3


async def _page(operations: AdminOperations, noun: str, **params: Any) -> list[str]:
    page = await operations.run(f"{noun}.page", params)
    return [item["name"] for item in page["items"]]


@pytest.fixture
async def listed(tmp_path: Path) -> Any:
    async with operations_in(tmp_path, AGENTS) as operations:
        yield operations


async def test_a_page_has_the_records_of_the_list_and_counts_all(listed: AdminOperations) -> None:
    page = await listed.run("agent.page", {"start": 1, "limit": 1})
    everybody = await listed.run("agent.list", {})
    assert page == {"items": [everybody[1]], "total": 3, "start": 1}
    assert (await listed.run("agent.page", {"start": 9}))["items"] == []
    assert (await listed.run("server.page", {}))["items"] == await listed.run("server.list", {})


@pytest.mark.parametrize("noun", ["server", "channel", "agent"])
async def test_every_column_sorts_both_ways(listed: AdminOperations, noun: str) -> None:
    record = (await listed.run(f"{noun}.list", {}))[0]
    for column in record.keys() - {"version"}:
        forwards = await _page(listed, noun, sort=column)
        backwards = await _page(listed, noun, sort=column, descending=True)
        assert sorted(forwards) == sorted(backwards), column


async def test_the_order_is_without_case_with_numbers_by_size_and_the_empty_ones_last(listed: AdminOperations) -> None:
    assert await _page(listed, "agent") == ["ann", "Bob", "cid"]
    assert await _page(listed, "agent", sort="group") == ["cid", "Bob", "ann"]
    assert await _page(listed, "agent", sort="role") == ["cid", "ann", "Bob"]
    assert await _page(listed, "agent", sort="role", descending=True) == ["ann", "cid", "Bob"]
    assert await _page(listed, "agent", sort="resolved_server") == ["Bob", "cid", "ann"]
    assert await _page(listed, "server", sort="port") == ["tls", "main", "other"]
    with pytest.raises(Refused, match="there is no column 'adress' to sort by; did you mean 'address'"):
        await _page(listed, "agent", sort="adress")
    with pytest.raises(Refused, match="there is no column 'nme'"):
        await _page(listed, "server", sort="nme")


async def test_the_secret_columns_are_those_of_now(listed: AdminOperations) -> None:
    # The others need none of their own.
    assert await _page(listed, "agent", password="missing") == ["Bob"]
    await listed.run("agent.password", {"name": "cid", "password": "hers"})
    await listed.run("agent.login", {"name": "ann", "password": "long enough"})
    assert await _page(listed, "agent", password="set") == ["cid"]
    assert await _page(listed, "agent", sort="password_set", descending=True) == ["cid", "ann", "Bob"]
    assert await _page(listed, "agent", sort="login_set", descending=True) == ["ann", "Bob", "cid"]


async def test_filters_and_text_choose_together(listed: AdminOperations) -> None:
    assert await _page(listed, "agent", contains=" ÅNG ") == ["Bob"]
    assert await _page(listed, "agent", server="main", contains="main.example") == ["Bob", "cid"]
    assert await _page(listed, "agent", group="sales", role="Lead") == ["ann"]
    assert await _page(listed, "agent", group="sales", role="agent") == []
    assert await _page(listed, "channel", contains="help@") == ["support"]
    assert await _page(listed, "channel", server="other", password="missing") == ["sales"]
    assert await _page(listed, "server", contains="SMTP.TLS") == ["tls"]


async def test_a_change_is_on_the_next_page(listed: AdminOperations) -> None:
    assert await _page(listed, "agent", sort="group") == ["cid", "Bob", "ann"]
    await listed.run("agent.set", {"name": "ann", "changes": ["group=aaa"]})
    assert await _page(listed, "agent", sort="group") == ["ann", "cid", "Bob"]


@pytest.mark.parametrize("wrong", [{"limit": 501}, {"limit": 0}, {"start": -1}])
async def test_a_page_has_its_bounds(listed: AdminOperations, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=f"the parameter '{next(iter(wrong))}' is wrong"):
        await listed.run("agent.page", wrong)


async def test_a_word_that_is_none_of_those_that_are_known_is_told_with_them(listed: AdminOperations) -> None:
    with pytest.raises(Refused, match=r"^the password is set or missing; did you mean 'missing'\?$"):
        await listed.run("agent.page", {"password": "mising"})


async def test_who_uses_a_server(listed: AdminOperations) -> None:
    found = await listed.run("server.users", {"name": "main"})
    assert [user["name"] for user in found["items"]] == ["Bob", "cid", "support"]
    assert (found["total"], found["start"], found["channels"], found["agents"]) == (3, 0, 1, 2)
    assert found["items"][0] == {
        "name": "Bob",
        "kind": "agent",
        "address": "bob@main.example",
        "override": True,
        "follows_default": True,
    }
    part = await listed.run("server.users", {"name": "main", "start": 1, "limit": 1})
    assert ([user["name"] for user in part["items"]], part["total"]) == (["cid"], 3)
    others = await listed.run("server.users", {"name": "other"})
    assert [user["name"] for user in others["items"]] == ["ann", "sales"]
    followers = await listed.run("server.users", {"name": "other", "following": True})
    assert (followers["items"], followers["total"], followers["agents"]) == ([], 0, 0)
    with pytest.raises(Refused, match="there is no server 'mian'; did you mean 'main'"):
        await listed.run("server.users", {"name": "mian"})


async def test_ten_thousand_agents_are_listed_and_hold_up_nobody(tmp_path: Path) -> None:
    """What looks at each of them is done in a thread. How long it takes is measured by `make bench LOADS=bounds`."""
    agents = {
        f"agent{number:05}": {
            "address": f"agent{number:05}@main.example",
            "group": f"group{number % 37}",
            "override": number % 3 == 0,
        }
        for number in range(MANY)
    }
    async with operations_in(tmp_path, {**AGENTS, "agents": agents}) as operations:
        asked: list[dict[str, Any]] = [
            {"sort": "group", "descending": True, "start": 5000},
            {"sort": "password_set", "contains": "agent0"},
            {"sort": "resolved_server", "password": "missing", "limit": 500},
        ]
        for params in asked:
            expected = OVERRIDING if "password" in params else MANY
            async with counted_turns() as work:
                assert (await operations.run("agent.page", params))["total"] == expected
            assert work.most < MANY // 2, params
