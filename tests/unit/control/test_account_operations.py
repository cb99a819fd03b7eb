"""Accounts: who they are, which are held, and how a hold is lifted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.control.context import ControlContext
from relay.control.refused import Refused
from relay.delivery.outcome import State
from tests.unit.control.control_kit import AdminOperations, parts_in, with_holds_read
from tests.unit.control.queue_kit import hold_row, new, stored

KEYS = {"account", "server", "username", "profiles", "state", "held_since", "reason", "connections", "next_probe"}
JANE = "acmejets/jane@acmejets.example"
MAILER = "acmejets/mailer@acmejets.example"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    """A relay with a held account, an address that another may not use, and a held account of nobody's."""
    async with parts_in(tmp_path) as parts:
        await parts.queue.put_hold(hold_row("acmejets", "jane@acmejets.example"))
        await parts.queue.put_hold(hold_row("acmejets", "mailer@acmejets.example", "support@acmejets.example"))
        await parts.queue.put_hold(hold_row("gone", "x/y"))
        await parts.queue.add(new(stored(State.HELD, id="aaaaaa111111", held_by=JANE)))
        yield await with_holds_read(parts)


@pytest.fixture
def operations(parts: ControlContext) -> AdminOperations:
    return AdminOperations(parts)


async def test_the_list_has_every_key_and_those_in_trouble_first(operations: AdminOperations) -> None:
    records = await operations.run("account.list", {})
    assert records[0].keys() >= KEYS
    assert [(one["account"], one["address"], one["state"]) for one in records] == [
        (JANE, "", "held"),
        (MAILER, "support@acmejets.example", "held"),
        ("gone/x/y", "", "held"),
        (MAILER, "", "ok"),
        ("other/mailer@other.example", "", "ok"),
        ("other/sales@acmejets.example", "", "ok"),
    ]
    jane = records[0]
    assert (jane["server"], jane["username"], jane["profiles"]) == ("acmejets", "jane@acmejets.example", ["jane"])
    assert (jane["held_since"], jane["reason"]) == ("2025-11-24T09:00:00Z", "535 5.7.8 no")
    assert [one["profiles"] for one in records if one["account"] == MAILER] == [["support"]] * 2


async def test_a_release_frees_the_account_and_its_mail(parts: ControlContext, operations: AdminOperations) -> None:
    assert await operations.run("account.release", {"account": JANE}) == {"ok": True, "account": JANE}
    assert [(hold.server, hold.username) for hold in await parts.queue.holds()] == [
        ("acmejets", "mailer@acmejets.example"),
        ("gone", "x/y"),
    ]
    message = await parts.queue.message("aaaaaa111111")
    assert message is not None
    assert (message.state, message.held_by, message.recipients[0].state) == ("queued", "", "queued")
    with pytest.raises(Refused, match=f"account {JANE} is not held"):
        await operations.run("account.release", {"account": JANE})


async def test_a_release_frees_the_addresses_of_the_account_too(operations: AdminOperations) -> None:
    await operations.run("account.release", {"account": MAILER})
    records = await operations.run("account.list", {})
    assert [one["state"] for one in records if one["account"] == MAILER] == ["ok"]


async def test_a_username_may_hold_a_slash(operations: AdminOperations) -> None:
    assert await operations.run("account.release", {"account": "gone/x/y"}) == {"ok": True, "account": "gone/x/y"}


async def test_a_mistyped_account_is_suggested(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match=f"there is no account 'acmejets/jane'; did you mean '{JANE}'"):
        await operations.run("account.release", {"account": "acmejets/jane"})


async def test_a_server_is_as_its_own_account_is(parts: ControlContext, operations: AdminOperations) -> None:
    states = {record["name"]: record["state"] for record in await operations.run("server.list", {})}
    assert states == {"acmejets": "ok", "other": "ok"}, "an agent's own account is held, and an address"
    await parts.queue.put_hold(hold_row("acmejets", "mailer@acmejets.example"))
    held = AdminOperations(await with_holds_read(parts))
    states = {record["name"]: record["state"] for record in await held.run("server.list", {})}
    assert states == {"acmejets": "held", "other": "ok"}
    assert (await held.run("server.show", {"name": "acmejets"}))["state"] == "held"


async def test_a_server_without_a_login_is_an_account_too(tmp_path: Path) -> None:
    server = {"host": "127.0.0.1", "security": "none", "auth": "none", "address": "a@acmejets.example"}
    async with parts_in(tmp_path, {"default_server": "open", "servers": {"open": server}}) as parts:
        [record] = parts.queue_actions.accounts()
    assert (record.account, record.username, record.profiles) == ("open/", "", [])


async def test_those_in_trouble_come_alone_with_what_to_do(operations: AdminOperations) -> None:
    records = await operations.run("account.troubled", {"server": "acmejets"})
    assert [(one["account"], one["address"]) for one in records] == [(JANE, ""), (MAILER, "support@acmejets.example")]
    assert records[0]["advice"].startswith("set a new password for agent 'jane'")
    assert len(await operations.run("account.troubled", {})) == 3


async def test_a_server_says_how_its_own_account_is_and_how_many_are_held(parts: ControlContext) -> None:
    await parts.queue.put_hold(hold_row("other", "mailer@other.example"))
    operations = AdminOperations(await with_holds_read(parts))
    acmejets, other = await operations.run("server.list", {})
    assert (acmejets["state"], acmejets["held_since"], acmejets["accounts_held"]) == ("ok", None, 2)
    assert (other["state"], other["held_since"], other["accounts_held"]) == ("held", "2025-11-24T09:00:00Z", 1)
