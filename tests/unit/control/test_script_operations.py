"""The operations on scripts."""

import tomllib
from pathlib import Path

import pytest

from relay.control.refused import Refused
from tests.unit.control.control_kit import AdminOperations


async def test_a_script_is_added_shown_changed_and_removed(operations: AdminOperations, tmp_path: Path) -> None:
    values = {"set_headers": {"Organization": "Acme Jets"}, "remove_headers": ["X-Originating-IP"]}
    added = await operations.run("script.add", {"name": "default", "values": values})
    assert added == {
        "name": "default",
        "set_headers": {"Organization": "Acme Jets"},
        "remove_headers": ["X-Originating-IP"],
        "used_by_channels": 2,
        "used_by_agents": 0,
        "named_by": [],
        "version": added["version"],
    }
    assert await operations.run("script.list", {}) == [added]
    change = {"name": "default", "changes": ["remove_headers=X-Mailer, X-Priority"], "values": {"set_headers": None}}
    changed = await operations.run("script.set", change)
    assert (changed["set_headers"], changed["remove_headers"]) == ({}, ["X-Mailer", "X-Priority"])
    document = tomllib.loads((tmp_path / "state/directory.toml").read_text())
    assert document["scripts"] == {"default": {"remove_headers": ["X-Mailer", "X-Priority"]}}
    assert await operations.run("script.remove", {"name": "default"}) == {"ok": True}
    assert "scripts" not in tomllib.loads((tmp_path / "state/directory.toml").read_text())


async def test_a_script_in_use_stays(operations: AdminOperations) -> None:
    await operations.run("script.add", {"name": "plain", "values": {"remove_headers": ["X-Mailer"]}})
    await operations.run("channel.set", {"name": "support", "changes": ["script=plain"]})
    await operations.run("agent.set", {"name": "jane", "changes": ["script=plain"]})
    shown = await operations.run("script.show", {"name": "plain"})
    assert (shown["used_by_channels"], shown["used_by_agents"]) == (1, 1)
    sentence = "^channel support and 1 more use script 'plain'; take it out first: relay channel set support script=$"
    with pytest.raises(Refused, match=sentence):
        await operations.run("script.remove", {"name": "plain"})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"set_headers": {"From": "x@y.example"}}, "scripts.new.set_headers"),
        ({"set_headers": "Organization"}, "scripts.new.set_headers"),
        ({"remove_headers": ["Date"]}, "scripts.new.remove_headers"),
        ({"add_headers": {}}, "add_headers: "),
    ],
)
async def test_a_script_that_may_not_be_is_refused(
    operations: AdminOperations, values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        await operations.run("script.add", {"name": "new", "values": values})
    with pytest.raises(Refused, match="this is a table"):
        await operations.run("script.set", {"name": "new", "changes": ["set_headers=x"]})
