"""Who comes over the pages or the API cannot let the relay run a program or read a file of the machine."""

from pathlib import Path
from typing import Any

import pytest

from relay.control.actor import Actor, Role, Way
from relay.control.refused import Forbidden
from relay.directory.model import Channel
from relay.web.kit.forms import folded
from tests.unit.control.control_kit import operations_in

FAR = [Actor(name="root", role=Role.ADMINISTRATOR, way=way) for way in (Way.PAGE, Way.API)]
HERE = Actor(name="root", role=Role.ADMINISTRATOR, way=Way.COMMAND)


@pytest.mark.parametrize("actor", FAR, ids=lambda actor: actor.way)
@pytest.mark.parametrize(
    "given",
    [
        {"values": {"password_from": "command:cat /etc/passwd"}},
        {"values": {"incoming": {"host": "imap.main.example", "password_from": "file:/etc/passwd"}}},
        {"changes": ["password_from=file:/etc/passwd"]},
        {"changes": ["incoming.password_from=file:/etc/passwd"]},
    ],
)
async def test_a_file_or_program_is_named_at_the_machine_alone(
    tmp_path: Path, actor: Actor, given: dict[str, Any]
) -> None:
    async with operations_in(tmp_path) as operations:
        name = (await operations.run("channel.list", {}))[0]["name"]
        with pytest.raises(Forbidden, match="password_from: this names a file or a program of the machine"):
            await operations.run("channel.set", {"name": name, **given}, actor)


async def test_who_has_the_machine_names_it_and_anybody_takes_it_away(tmp_path: Path) -> None:
    async with operations_in(tmp_path) as operations:
        name = (await operations.run("channel.list", {}))[0]["name"]
        await operations.run("channel.set", {"name": name, "changes": ["password_from=env:MAIL"]}, HERE)
        await operations.run("channel.set", {"name": name, "values": {"password_from": None}}, FAR[0])
        assert (await operations.run("channel.show", {"name": name}))["password_from"] == ""


async def test_a_mailbox_that_is_changed_from_afar_keeps_where_its_password_comes_from(tmp_path: Path) -> None:
    async with operations_in(tmp_path) as operations:
        name = (await operations.run("channel.list", {}))[0]["name"]
        mailbox = ["incoming.host=imap.main.example", "incoming.password_from=env:MAIL"]
        await operations.run("channel.set", {"name": name, "changes": mailbox}, HERE)

        async def incoming(values: dict[str, Any]) -> tuple[str, str]:
            await operations.run("channel.set", {"name": name, "values": {"incoming": values}}, FAR[0])
            record = (await operations.run("channel.show", {"name": name}))["incoming"]
            return record["host"], record["password_from"]

        assert await incoming({"host": "imap.other.example"}) == ("imap.other.example", "env:MAIL")
        assert await incoming({"host": "imap.other.example", "password_from": None}) == ("imap.other.example", "")


def test_a_form_names_no_key_of_the_machine() -> None:
    record = {"incoming": {"host": "imap.main.example", "port": 1993, "password_from": "env:MAIL"}}
    values = folded({"incoming.host": "imap.other.example"}, ["incoming.host"], Channel, record)
    assert values == {"incoming": {"host": "imap.other.example", "port": 1993}}
