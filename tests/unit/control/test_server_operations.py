"""Servers: what is said about them, and what is done with them and with the profiles on them."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused, UnknownOperation
from tests.unit.control.control_kit import AdminOperations

KEYS = {
    "name",
    "host",
    "port",
    "security",
    "auth",
    "username",
    "address",
    "default",
    "internal",
    "used_by_channels",
    "used_by_agents",
    "state",
}


def _directory(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "state/directory.toml").read_text())


async def test_a_list_has_every_key_and_counts_those_who_follow_the_default(operations: AdminOperations) -> None:
    acmejets, other = await operations.run("server.list", {})
    assert acmejets.keys() >= KEYS
    assert (acmejets["used_by_channels"], acmejets["used_by_agents"], acmejets["default"]) == (1, 1, True)
    assert (other["used_by_channels"], other["used_by_agents"], other["default"]) == (1, 0, False)
    assert (acmejets["port"], other["port"]) == (587, 465)
    assert acmejets["address"] == "mailer@acmejets.example"


async def test_a_record_never_holds_a_password(operations: AdminOperations, tmp_path: Path) -> None:
    await operations.run("server.password", {"name": "other", "password": "geheim-1"})
    shown = await operations.run("server.show", {"name": "other"})
    assert "password" not in shown
    assert shown["password_set"] is True
    assert "geheim" not in str(shown)
    assert "geheim" not in (tmp_path / "state/directory.toml").read_text()


async def test_show_suggests_a_name(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match=r"^there is no server 'acmejet'; did you mean 'acmejets'\?$"):
        await operations.run("server.show", {"name": "acmejet"})


async def test_the_first_server_becomes_the_default(operations: AdminOperations, tmp_path: Path) -> None:
    added = await operations.run("server.add", {"name": "third", "values": {"host": "smtp.third.example"}})
    assert added["default"] is False
    added = await operations.run(
        "server.add",
        {
            "name": "fourth",
            "values": {"host": "x.example", "port": 2525, "username": "u@x.example"},
            "default": True,
            "password": "pw",
        },
    )
    assert (added["default"], added["port"], added["password_set"]) == (True, 2525, True)
    assert _directory(tmp_path)["default_server"] == "fourth"


async def test_a_new_server_does_not_inherit_the_password_of_an_old_one(operations: AdminOperations) -> None:
    await operations.run("server.password", {"name": "other", "password": "old"})
    await operations.run("server.remove", {"name": "other", "move_to": "acmejets"})
    added = await operations.run("server.add", {"name": "other", "values": {"host": "new.example"}})
    assert added["password_set"] is False


async def test_set_reads_values_by_their_type_and_restores_defaults(
    operations: AdminOperations, tmp_path: Path
) -> None:
    changes = ["port=2525", "internal=yes", "verify_tls=false"]
    shown = await operations.run("server.set", {"name": "acmejets", "changes": changes[:1]})
    assert shown["port"] == 2525
    shown = await operations.run("server.set", {"name": "acmejets", "changes": ["port=", *changes[2:]]})
    assert (shown["port"], shown["verify_tls"]) == (587, False)
    assert _directory(tmp_path)["servers"]["acmejets"]["verify_tls"] is False


async def test_a_change_that_breaks_a_rule_changes_nothing(operations: AdminOperations, tmp_path: Path) -> None:
    before = (tmp_path / "state/directory.toml").read_bytes()
    with pytest.raises(Refused, match=r"directory\.toml: agents\.jane\.override: the default server"):
        await operations.run("server.set", {"name": "acmejets", "changes": ["internal=true"]})
    assert (tmp_path / "state/directory.toml").read_bytes() == before
    assert (await operations.run("server.show", {"name": "acmejets"}))["internal"] is False


async def test_the_default_moves_its_followers_and_no_others(operations: AdminOperations) -> None:
    result = await operations.run("server.default", {"name": "other"})
    assert result == {"ok": True, "before": "acmejets", "followers": ["support"], "stay": ["jane"]}
    assert (await operations.run("agent.show", {"name": "jane"}))["server"] == "acmejets"
    resolved = {record["name"]: record["resolved_server"] for record in await operations.run("channel.list", {})}
    assert resolved == {"support": "other", "sales": "other"}
    with pytest.raises(Refused, match="'other' is the default server; make another the default first"):
        await operations.run("server.remove", {"name": "other", "move_to": "acmejets"})


async def test_a_server_in_use_is_removed_only_where_its_profiles_go_elsewhere(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match="--move-to SERVER"):
        await operations.run("server.remove", {"name": "other"})
    result = await operations.run("server.remove", {"name": "other", "move_to": "acmejets"})
    assert result == {"ok": True, "moved": ["sales"]}
    assert (await operations.run("channel.show", {"name": "sales"}))["server"] == "acmejets"


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "the parameter 'name' is wrong: Missing required keyword only argument"),
        ({"name": 5}, "the parameter 'name' is wrong: Input should be a valid string"),
        ({"name": "x", "colour": "red"}, "the parameter 'colour' is wrong: Unexpected keyword argument"),
    ],
)
async def test_wrong_parameters_are_refused_in_a_sentence(
    params: dict[str, Any], sentence: str, operations: AdminOperations
) -> None:
    with pytest.raises(UnknownOperation, match=f"^{sentence}$"):
        await operations.run("server.show", params)


async def test_a_wrong_password_parameter_is_not_repeated(operations: AdminOperations) -> None:
    with pytest.raises(UnknownOperation) as caught:
        await operations.run("server.password", {"name": "other", "password": ["geheim-2"]})
    assert "geheim" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"


async def test_an_unknown_operation_suggests_one(operations: AdminOperations) -> None:
    with pytest.raises(UnknownOperation, match=r"there is no operation 'server\.lst'; did you mean 'server\.list'\?"):
        await operations.run("server.lst", {})


async def test_a_hand_edit_counts_at_once(operations: AdminOperations, tmp_path: Path) -> None:
    file = tmp_path / "state/directory.toml"
    file.write_text(file.read_text() + '\n[channels.new]\naddress = "new@acmejets.example"\n')
    assert (await operations.run("channel.show", {"name": "new"}))["address"] == "new@acmejets.example"
    file.write_text(file.read_text().replace("channels.new", "channels.newer"))
    params = {"name": "newer", "to": "not an address", "send": False}
    with pytest.raises(Refused, match="not an address"):
        async for _ in operations.stream("channel.test", params):
            pass


async def test_a_server_is_added_with_a_providers_preset(operations: AdminOperations, tmp_path: Path) -> None:
    values = {"username": "m@acmejets.example"}
    added = await operations.run("server.add", {"name": "fast", "values": values, "provider": "fastmail"})
    assert (added["host"], added["port"], added["auth"]) == ("smtp.fastmail.com", 465, "plain")
    assert _directory(tmp_path)["servers"]["fast"]["security"] == "tls"
    with pytest.raises(Refused, match=r"^there is no provider 'fastmal'; did you mean 'fastmail'\?"):
        await operations.run("server.add", {"name": "x", "values": values, "provider": "fastmal"})


async def test_the_providers_can_be_listed(operations: AdminOperations) -> None:
    providers = await operations.run("provider.list", {})
    assert {"google", "microsoft365", "ses"} <= {provider["name"] for provider in providers}
