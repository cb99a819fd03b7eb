"""What an agent may ask and do: about itself alone, whatever it names."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.control.actor import Actor, Role, Way
from relay.control.context import ControlContext
from relay.control.operations import Operations
from relay.control.refused import Forbidden, NotFound, Refused
from relay.delivery.outcome import State
from relay.mail.address import Address
from relay.store.queue.messages import HoldRow
from tests.peers.canaries import canary
from tests.unit.control.control_kit import AdminOperations, parts_in
from tests.unit.control.queue_kit import new, stored

OAUTH = {"provider": "custom", "client_id": "app", "token_url": "http://127.0.0.1:1/", "authorize_url": "http://[::1]/"}
DIRECTORY: dict[str, Any] = {
    "default_server": "shared",
    "servers": {
        "shared": {"host": "smtp.acmejets.example", "username": "mailer@acmejets.example"},
        "cloud": {"host": "h", "auth": "oauth2", "username": "m@acmejets.example", "oauth": OAUTH},
        "open": {"host": "h", "auth": "none"},
    },
    "agents": {
        "jane": {"address": "jane@acmejets.example", "override": True, "full_name": "Jane Doe"},
        "ben": {"address": "ben@acmejets.example"},
        "cloudy": {"address": "cloudy@acmejets.example", "server": "cloud", "override": True},
        "free": {"address": "free@acmejets.example", "server": "open", "override": True},
    },
}
JANE = Actor(name="jane", role=Role.AGENT, way=Way.PAGE)
OWN = {
    "agent.show",
    "agent.password",
    "agent.login",
    "agent.test",
    "agent.authorize",
    "agent.authorized",
    "agent.messages",
    "agent.message",
    "agent.sending",
}


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path, DIRECTORY) as parts:
        yield parts


async def _sending(parts: ControlContext, name: str) -> dict[str, Any]:
    record: dict[str, Any] = await AdminOperations(parts).run("agent.sending", {"name": name})
    return record


async def test_an_agent_may_run_nothing_but_what_is_about_itself(parts: ControlContext) -> None:
    operations = Operations(parts)
    assert {name for name in operations.names if operations.allows(name, {"name": "jane"}, JANE)} == OWN
    assert not [name for name in operations.names if operations.allows(name, {"name": "ben"}, JANE)]
    assert not [name for name in operations.names if operations.allows(name, {}, JANE)]
    with pytest.raises(Forbidden, match="your own profile alone"):
        await operations.run("agent.sending", {"name": "ben"}, JANE)


async def test_a_missing_password_is_told_until_it_is_set(parts: ControlContext) -> None:
    jane = await _sending(parts, "jane")
    assert (jane["secret"], jane["is_set"], jane["token"]) == ("password", False, None)
    assert jane["account"] == "shared/jane@acmejets.example"
    await Operations(parts).run("agent.password", {"name": "jane", "password": canary("jane")}, JANE)
    assert (await _sending(parts, "jane"))["is_set"] is True


async def test_who_sends_with_an_account_of_the_server_needs_nothing(parts: ControlContext) -> None:
    ben, free = await _sending(parts, "ben"), await _sending(parts, "free")
    assert (ben["secret"], ben["is_set"], ben["identity"]) == ("", True, "mailer@acmejets.example")
    assert (free["secret"], free["is_set"], free["identity"]) == ("", True, "free@acmejets.example")


@pytest.mark.parametrize("address", ["Jane.Doe@AcmeJets.example", "straße@straße.example", "Straße@acmejets.example"])
async def test_a_hold_of_the_own_address_is_told_however_it_is_written(tmp_path: Path, address: str) -> None:
    agents = {"jane": {"address": address, "override": True}}
    async with parts_in(tmp_path, {**DIRECTORY, "agents": agents}) as parts:
        now = datetime(2026, 11, 24, 12, tzinfo=UTC)
        hold = HoldRow(
            server="shared",
            username=address,
            address=Address.parse(address).key,
            meaning="identity-refused",
            reason="553 not yours",
            since=now,
            until=None,
            probes=0,
            next_probe=None,
        )
        await parts.queue.put_hold(hold)
        told = (await _sending(parts, "jane"))["hold"]
        assert told is not None
        assert (told["means"], told["reason"]) == ("identity-refused", "553 not yours")
        await parts.queue.put_hold(replace(hold, address="other@acmejets.example", reason="another"))
        assert (await _sending(parts, "jane"))["hold"] == told


async def test_an_authorization_that_is_missing_is_told(parts: ControlContext) -> None:
    cloudy = await _sending(parts, "cloudy")
    assert (cloudy["secret"], cloudy["flow"], cloudy["is_set"]) == ("authorization", "code", False)
    assert cloudy["token"]["state"] == "missing"


async def test_lists_say_who_needs_a_password(parts: ControlContext) -> None:
    records = await AdminOperations(parts).run("agent.list", {})
    needed = {record["name"]: record["password_needed"] for record in records}
    assert needed == {"ben": False, "cloudy": True, "free": False, "jane": True}


async def test_an_own_message_is_told_whole_and_nobody_elses(parts: ControlContext) -> None:
    await parts.queue.record(
        [
            new(stored(State.DELIVERED, id="aaaaaa0", subject="Mine", profile="jane")),
            new(stored(State.DELIVERED, id="bbbbbb0", subject="Not mine", profile="ben")),
        ]
    )
    operations = Operations(parts)
    mine = await operations.run("agent.message", {"name": "jane", "id": "aaaaaa0"}, JANE)
    assert mine.subject == "Mine"
    with pytest.raises(NotFound, match="there is no message 'bbbbbb0'"):
        await operations.run("agent.message", {"name": "jane", "id": "bbbbbb0"}, JANE)


async def test_a_browser_comes_back_to_our_page_or_to_nothing(parts: ControlContext) -> None:
    operations = AdminOperations(parts)

    async def url(**params: Any) -> str:
        [item] = [one async for one in operations.stream("agent.authorize", {"name": "cloudy", **params})]
        return str(item["url"])

    assert "redirect_uri=http%3A%2F%2Flocalhost&" in await url()
    assert "redirect_uri=http%3A%2F%2F127.0.0.1%3A8025%2Foauth%2Freturn&" in await url(back_to="page")
    with pytest.raises(Refused):
        await url(back_to="https://elsewhere.example")
