"""Two who change the same thing: nobody overwrites what the other one wrote without having seen it."""

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Conflict, NotFound, Refused
from tests.unit.control.control_kit import AdminOperations, parts_in

ENTRIES = [("server", "other"), ("channel", "support"), ("agent", "jane"), ("application", "crm"), ("script", "plain")]
NEW: dict[str, dict[str, Any]] = {
    "server": {"port": 2525},
    "channel": {"mode": "queued"},
    "agent": {"role": "Chief"},
    "application": {"may_send_as": ["support"]},
    "script": {"remove_headers": ["X-Mailer"]},
}


async def fill(operations: AdminOperations) -> None:
    await operations.run("application.add", {"name": "crm", "values": {"may_send_as": ["*"]}})
    await operations.run("script.add", {"name": "plain", "values": {"set_headers": {"Organization": "Acme"}}})


@pytest.mark.parametrize(("noun", "name"), ENTRIES)
async def test_a_change_for_an_older_version_is_refused(operations: AdminOperations, noun: str, name: str) -> None:
    await fill(operations)
    before = (await operations.run(f"{noun}.show", {"name": name}))["version"]
    done = await operations.run(f"{noun}.set", {"name": name, "values": NEW[noun], "expected": before})
    assert done["version"] != before
    for verb, params in (("set", {"values": NEW[noun]}), ("remove", {})):
        with pytest.raises(Conflict, match=f"^{noun} '{name}' was changed meanwhile by somebody else; look at it"):
            await operations.run(f"{noun}.{verb}", {"name": name, "expected": before, **params})
    listed = {one["name"]: one["version"] for one in await operations.run(f"{noun}.list", {})}
    assert listed[name] == done["version"]
    removing = {"name": name, "expected": done["version"]} | ({"move_to": "acmejets"} if noun == "server" else {})
    await operations.run(f"{noun}.remove", removing)
    with pytest.raises(NotFound):
        await operations.run(f"{noun}.set", {"name": name, "values": NEW[noun], "expected": before})


async def test_of_two_at_the_same_moment_one_is_refused(operations: AdminOperations) -> None:
    version = (await operations.run("agent.show", {"name": "jane"}))["version"]

    async def set_role(role: str) -> None:
        await operations.run("agent.set", {"name": "jane", "values": {"role": role}, "expected": version})

    done = await asyncio.gather(*(set_role(f"role {number}") for number in range(5)), return_exceptions=True)
    assert [type(one).__name__ for one in done].count("Conflict") == 4


async def test_what_another_process_or_an_editor_wrote_counts_too(tmp_path: Path) -> None:
    async with parts_in(tmp_path) as parts:
        operations = AdminOperations(parts)
        version = (await operations.run("agent.show", {"name": "jane"}))["version"]
        file = tmp_path / "state/directory.toml"
        file.write_text(file.read_text().replace('"Lead"', '"Chief"'))
        with pytest.raises(Conflict):
            await operations.run("agent.set", {"name": "jane", "values": {"role": "x"}, "expected": version})
        assert tomllib.loads(file.read_text())["agents"]["jane"]["role"] == "Chief"


async def test_a_version_is_no_other_one_for_a_password(operations: AdminOperations) -> None:
    before = (await operations.run("server.show", {"name": "other"}))["version"]
    await operations.run("server.password", {"name": "other", "password": "geheim"})
    assert (await operations.run("server.show", {"name": "other"}))["version"] == before


async def test_values_are_json_and_none_restores_a_default(operations: AdminOperations, tmp_path: Path) -> None:
    def entry() -> dict[str, Any]:
        directory = tomllib.loads((tmp_path / "state/directory.toml").read_text())
        found: dict[str, Any] = directory["channels"]["support"]
        return found

    incoming = {"host": "imap.acmejets.example", "protocol": "imap", "watch_bounces": True, "port": None}
    values = {"aliases": [], "mode": "queued", "incoming": incoming}
    shown = await operations.run("channel.set", {"name": "support", "values": values})
    assert shown["incoming"]["watch_bounces"] is True
    assert entry() == {
        "address": "support@acmejets.example",
        "aliases": [],
        "mode": "queued",
        "incoming": {"host": "imap.acmejets.example", "protocol": "imap", "watch_bounces": True},
    }
    await operations.run("channel.set", {"name": "support", "values": {"incoming": None, "mode": None}})
    assert entry() == {"address": "support@acmejets.example", "aliases": []}


async def test_a_table_keeps_the_password_that_was_written_by_hand(operations: AdminOperations, tmp_path: Path) -> None:
    file = tmp_path / "state/directory.toml"
    file.write_text(file.read_text() + '\n[agents.jane.incoming]\nhost = "a.example"\npassword = "by hand"\n')
    values = {"incoming": {"host": "b.example"}}
    await operations.run("agent.set", {"name": "jane", "values": values})
    kept = tomllib.loads(file.read_text())["agents"]["jane"]["incoming"]
    assert kept == {"host": "b.example", "password": "by hand"}


@pytest.mark.parametrize(
    ("noun", "values", "sentence"),
    [
        ("channel", {"password": "geheim"}, "a password is never an argument"),
        ("channel", {"incoming": {"host": "x.example", "password": "geheim"}}, "incoming.password: a password is no"),
        ("channel", {"name": "x"}, "a name cannot be changed"),
        ("channel", {"colour": "red"}, "colour: "),
        ("channel", {"address": None}, "there is no default"),
        ("server", {"port": "many"}, "servers.other.port: "),
        ("server", {"oauth": {"provider": "none"}}, "servers.other.oauth"),
    ],
)
async def test_what_cannot_be_a_value_is_refused(
    operations: AdminOperations, noun: str, values: dict[str, Any], sentence: str
) -> None:
    name = "support" if noun == "channel" else "other"
    with pytest.raises(Refused, match=sentence) as caught:
        await operations.run(f"{noun}.set", {"name": name, "values": values})
    assert "geheim" not in str(caught.value)
    adding = {"address": "x@acmejets.example"} if noun == "channel" else {"host": "x.example"}
    if "address" not in values:
        with pytest.raises(Refused):
            await operations.run(f"{noun}.add", {"name": "new", "values": adding | values})
