"""Entries from another program's files: all or nothing, nothing twice, nothing overwritten, no secret told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.context import ControlContext
from relay.control.refused import Conflict, Refused
from tests.unit.control.control_kit import PARAMS, SERVERS, TWO_SERVERS, AdminOperations, parts_in


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path, TWO_SERVERS) as parts:
        yield parts


@pytest.fixture
def operations(parts: ControlContext) -> AdminOperations:
    return AdminOperations(parts)


def _changed(index: int, of: str = "profiles", **keys: Any) -> dict[str, Any]:
    entries = [dict(one) for one in PARAMS[of]]
    entries[index] |= keys
    return {**PARAMS, of: entries}


async def test_it_is_shown_and_done_when_it_is_confirmed(operations: AdminOperations, parts: ControlContext) -> None:
    shown = await operations.run("moving.import", PARAMS)
    assert not shown["done"]
    assert [(one["name"], one["is_new"], one["default"]) for one in shown["servers"]] == [
        ("smtp.new.example", True, False),
        ("smtp.new.example-465", True, False),
    ]
    # The name support has another address already.
    assert [(one["kind"], one["name"], one["server"], one["password"]) for one in shown["profiles"]] == [
        ("channel", "desk", "smtp.new.example", None),
        ("channel", "support@new.example", "smtp.new.example-465", "vault"),
    ]
    assert "geheim" not in str(shown)
    assert "smtp.new.example" not in parts.settings.directory_path.read_text()
    done = await operations.run("moving.import", {**PARAMS, "confirm": True, "expected": shown["version"]})
    assert done == {**shown, "done": True}
    directory = parts.directory.routing().directory
    assert directory.default_server == "acmejets", "the default server of before stays"
    assert directory.channels["desk"].server == "smtp.new.example"
    owners = {"server/smtp.new.example": "geheim-1", "profile/support@new.example": "geheim-2"}
    for owner, value in owners.items():
        secret = await parts.vault.get(owner)
        assert secret is not None
        assert secret.value == value
    assert set(parts.vault.owners()) == set(owners)


async def test_a_second_time_nothing_is_new(operations: AdminOperations, parts: ControlContext) -> None:
    await operations.run("moving.import", {**PARAMS, "confirm": True})
    text = parts.settings.directory_path.read_text()
    again = await operations.run("moving.import", {**PARAMS, "confirm": True})
    assert not [one for one in [*again["servers"], *again["profiles"]] if one["is_new"]]
    assert again["faults"] == []
    assert parts.settings.directory_path.read_text() == text


async def test_what_a_person_added_later_is_no_difference(operations: AdminOperations) -> None:
    await operations.run("moving.import", {**PARAMS, "confirm": True})
    await operations.run("server.set", {"name": "smtp.new.example", "changes": ["max_connections=2"]})
    await operations.run("channel.set", {"name": "desk", "changes": ["mode=queued"]})
    assert (await operations.run("moving.import", PARAMS))["faults"] == []


async def test_the_first_of_all_becomes_the_default(tmp_path: Path) -> None:
    async with parts_in(tmp_path, {}) as parts:
        operations = AdminOperations(parts)
        done = await operations.run("moving.import", {**PARAMS, "default": "i:465", "confirm": True, "kind": "agent"})
        directory = parts.directory.routing().directory
        assert directory.default_server == done["default_server"] == "smtp.new.example-465"
        assert directory.agents["support"].server == "smtp.new.example-465", (
            "its account is there, whatever the default"
        )
        assert (await operations.run("moving.import", {**PARAMS, "default": "i:465", "kind": "agent"}))["faults"] == []


@pytest.mark.parametrize(
    ("params", "place", "key", "words"),
    [
        (
            _changed(0, "servers", values={"host": "smtp.new.example", "username": "other@new.example"}),
            "main.cf:1",
            "servers.smtp.new.example.username",
            "server 'smtp.new.example' is there already with another username",
        ),
        (
            _changed(1, values={"address": "support@new.example", "override": True, "username": "t"}),
            "hosts:2",
            "channels.support@new.example.username",
            "is there already with another username than 't'",
        ),
        (
            _changed(0, "servers", values={**SERVERS[0]["values"], "verify_tls": False}),  # type: ignore[dict-item]
            "main.cf:1",
            "servers.smtp.new.example.verify_tls",
            "with another verify_tls than false",
        ),
        (_changed(1, server="h:587"), "hosts:2", "channels.support@new.example.server", "with another server"),
        (
            _changed(1, values={"address": "support@new.example"}),
            "hosts:2",
            "channels.support@new.example.override",
            "is there already with another override than nothing",
        ),
        (_changed(1, password="geheim-3"), "hosts:2", "channels.support@new.example.password", "another password"),
        (
            _changed(0, values={"address": "new@new.example", "aliases": ["help@acmejets.example"]}),
            "generic:1",
            "channels.new.aliases",
            "help@acmejets.example belongs to channel 'support' already",
        ),
    ],
)
async def test_nothing_is_overwritten_and_then_nothing_is_done(
    operations: AdminOperations, parts: ControlContext, params: dict[str, Any], place: str, key: str, words: str
) -> None:
    await operations.run("moving.import", {**PARAMS, "confirm": True})
    text = parts.settings.directory_path.read_text()
    refused = await operations.run("moving.import", {**params, "confirm": True})
    assert not refused["done"]
    assert [(fault["place"], fault["key"]) for fault in refused["faults"]] == [(place, key)]
    assert words in refused["faults"][0]["message"]
    assert "geheim" not in str(refused)
    assert parts.settings.directory_path.read_text() == text


async def test_a_key_that_nobody_may_set_refuses_all(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match="password: a password is never an argument"):
        await operations.run(
            "moving.import", _changed(0, values={"address": "a@new.example", "password": "geheim"}) | {"confirm": True}
        )


async def test_a_directory_that_changed_meanwhile_is_looked_at_again(operations: AdminOperations) -> None:
    shown = await operations.run("moving.import", PARAMS)
    await operations.run("channel.add", {"name": "desk", "values": {"address": "desk@acmejets.example"}})
    with pytest.raises(Conflict, match="was changed meanwhile"):
        await operations.run("moving.import", {**PARAMS, "confirm": True, "expected": shown["version"]})


async def test_a_new_name_gets_no_secret_that_an_earlier_one_left(
    operations: AdminOperations, parts: ControlContext
) -> None:
    await parts.vault.put("server/smtp.new.example-465", "geheim-left")
    await parts.vault.put("login/desk", "geheim-left")
    await operations.run("moving.import", {**PARAMS, "confirm": True})
    assert not parts.vault.has("server/smtp.new.example-465")
    assert not parts.vault.has("login/desk")


async def test_passwords_that_a_crash_left_out_are_added_by_a_second_run(
    operations: AdminOperations, parts: ControlContext
) -> None:
    await operations.run("moving.import", {**PARAMS, "confirm": True})
    await parts.vault.delete("profile/support@new.example")
    await operations.run("moving.import", {**PARAMS, "confirm": True})
    assert parts.vault.has("profile/support@new.example")


async def test_the_audit_tells_the_file_the_keys_and_no_secret(
    operations: AdminOperations, parts: ControlContext
) -> None:
    await operations.run("moving.import", {**PARAMS, "confirm": True})
    await parts.audit_log.aclose()
    [row] = (await operations.run("audit.list", {}))["items"]
    assert (row["operation"], row["what"]) == ("moving.import", "/etc/postfix")
    keys = [change["key"] for change in row["changes"]]
    assert "servers.smtp.new.example.host" in keys
    assert "profile/support@new.example" in keys
    assert "geheim" not in str(row)
