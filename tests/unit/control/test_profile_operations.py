"""Channels and agents: what is said about them, and what is done with them."""

import pytest

from relay.control.refused import Refused
from tests.unit.control.control_kit import AdminOperations

KEYS = {"name", "address", "server", "resolved_server", "override", "username", "password_set", "login_set"}


async def test_a_record_tells_the_server_as_set_and_as_it_resolves(operations: AdminOperations) -> None:
    support = await operations.run("channel.show", {"name": "support"})
    assert support.keys() >= KEYS
    assert (support["server"], support["resolved_server"], support["username"]) == (None, "acmejets", "")
    sales = await operations.run("channel.show", {"name": "sales"})
    assert (sales["server"], sales["resolved_server"], sales["username"]) == (
        "other",
        "other",
        "sales@acmejets.example",
    )
    jane = await operations.run("agent.show", {"name": "jane"})
    assert jane.keys() >= KEYS | {"full_name", "group", "role", "country", "language", "may_send_as"}


async def test_a_list_is_sorted_and_filtered(operations: AdminOperations) -> None:
    for name, role in (("adam", ""), ("zoe", "clerk")):
        values = {"address": f"{name}@acmejets.example", "role": role, "group": "Desk"}
        await operations.run("agent.add", {"name": name, "values": values})

    async def names(**params: str) -> list[str]:
        return [record["name"] for record in await operations.run("agent.list", params)]

    assert await names() == ["adam", "jane", "zoe"]
    assert await names(sort="role") == ["zoe", "jane", "adam"], "without case, and nothing comes last"
    assert await names(contains="DESK") == ["adam", "zoe"]
    assert await names(contains="rewrite") == [], "the words of settings are not looked for"
    with pytest.raises(Refused, match="there is no column 'rle' to sort by; did you mean 'role'"):
        await names(sort="rle")


async def test_an_alias_is_found_by_the_filter(operations: AdminOperations) -> None:
    found = await operations.run("channel.list", {"contains": "help@"})
    assert [record["name"] for record in found] == ["support"]


async def test_a_channel_is_added_changed_and_removed(operations: AdminOperations) -> None:
    values = {"address": "news@acmejets.example", "aliases": ["@news.acmejets.example"], "override": True}
    added = await operations.run("channel.add", {"name": "news", "values": values, "password": "pw"})
    assert (added["aliases"], added["password_set"]) == (["@news.acmejets.example"], True)
    changes = ["aliases=a@acmejets.example, b@acmejets.example", "override="]
    changed = await operations.run("channel.set", {"name": "news", "changes": changes})
    assert (changed["aliases"], changed["override"]) == (["a@acmejets.example", "b@acmejets.example"], False)
    await operations.run("channel.remove", {"name": "news"})
    again = await operations.run("channel.add", {"name": "news", "values": {"address": "news@acmejets.example"}})
    assert again["password_set"] is False


async def test_channels_and_agents_share_their_names(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match="there is an agent 'jane' already"):
        await operations.run("channel.add", {"name": "jane", "values": {"address": "x@acmejets.example"}})
    with pytest.raises(Refused, match="'jane' is no channel; it is one of the agents"):
        await operations.run("channel.show", {"name": "jane"})


async def test_an_address_belongs_to_one_profile(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match=r"belongs to channel 'support' already"):
        await operations.run("agent.add", {"name": "joe", "values": {"address": "HELP@acmejets.example"}})


async def test_a_password_is_no_key_to_set(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match="a password is never an argument") as caught:
        await operations.run("agent.set", {"name": "jane", "changes": ["password=geheim-3"]})
    assert "geheim" not in str(caught.value)
