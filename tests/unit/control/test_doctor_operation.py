"""The doctor's rounds over a directory: every server, account and domain once, and who each finding is about."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.config.settings import Dns
from relay.control.refused import Refused
from relay.listener.capture import CaptureServer
from tests.peers.dns import name_server
from tests.peers.system import free_port
from tests.unit.control.control_kit import AdminOperations, parts_in

pytestmark = pytest.mark.needs("nsd")

AGENTS = 60
RECORDS = """\
localhost. IN A 192.0.2.25
acmejets.example. IN MX 10 mail.test.
mail.test. IN A 192.0.2.1
acmejets.example. IN TXT "v=spf1 ip4:192.0.2.25 -all"
_dmarc.acmejets.example. IN TXT "v=DMARC1; p=reject"
"""
Records = list[dict[str, Any]]


@pytest.fixture
async def upstream() -> AsyncIterator[CaptureServer]:
    logins = {f"agent{number}@acmejets.example": "right" for number in range(AGENTS)}
    server = CaptureServer(passwords={**logins, "mailer@acmejets.example": "right"})
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def operations(tmp_path: Path, upstream: CaptureServer) -> AsyncIterator[AdminOperations]:
    main = {"host": "localhost", "port": upstream.port, "security": "none", "auth": "plain"}
    agents = {
        f"agent{number}": {"address": f"agent{number}@acmejets.example", "override": True, "password": "right"}
        for number in range(AGENTS)
    }
    agents["agent7"]["password"] = "wrong"
    del agents["agent8"]["password"]
    agents["agent9"] = {**agents["agent9"], "password_from": "env:NOT_SET"}
    del agents["agent9"]["password"]
    directory = {
        "default_server": "main",
        "servers": {
            "main": {**main, "username": "mailer@acmejets.example", "password": "right"},
            "unused": {"host": "localhost", "port": free_port(), "security": "none", "auth": "none"},
        },
        "channels": {"support": {"address": "support@acmejets.example"}, "sales": {"address": "sales@other.example"}},
        "agents": agents,
    }
    with name_server(RECORDS) as dns:
        async with parts_in(tmp_path, directory) as parts:
            yield AdminOperations(replace(parts, settings=replace(parts.settings, dns=Dns(servers=(dns,)))))


async def examine(operations: AdminOperations, **params: Any) -> Records:
    return [record async for record in operations.stream("doctor", params)]


def named(records: Records, check: str, level: str) -> list[list[str]]:
    return [record["profiles"] for record in records if (record["check"], record["level"]) == (check, level)]


async def test_everybody_is_examined_and_each_thing_once(operations: AdminOperations, upstream: CaptureServer) -> None:
    records = await examine(operations)
    everybody = {"support", "sales", *(f"agent{number}" for number in range(AGENTS))}
    (of_server,) = named(records, "server", "good")
    assert set(of_server) == everybody
    assert next(each for each in records if each["server"] == "unused")["level"] == "bad"
    assert sorted(named(records, "login", "bad")) == [["agent7"], ["agent8"], ["agent9"]]
    assert len(named(records, "login", "good")) == AGENTS - 3 + 1
    (of_domain,) = named(records, "mx", "good")
    assert set(of_domain) == everybody, "all of them send as addresses in one domain"
    assert ["sales", "support"] in [sorted(names) for names in named(records, "send-as", "good")]
    assert upstream.messages == []


async def test_what_is_wrong_with_a_password_is_said_apart(operations: AdminOperations) -> None:
    why = {each["profile"]: each for each in await examine(operations) if each["check"] == "login"}
    assert why["agent7"]["why"].startswith("the login is refused: 535")
    assert why["agent7"]["fix"] == "set what is right with: relay agent password agent7"
    assert why["agent8"]["why"] == "no password is set for main/agent8@acmejets.example"
    assert "NOT_SET" in why["agent9"]["why"]


async def test_one_profile_alone(operations: AdminOperations) -> None:
    records = await examine(operations, name="support", selectors=["mail"])
    assert {record["profile"] for record in records} == {"support"}
    assert {record["server"] for record in records} == {"main", None}
    (dkim,) = (record for record in records if record["check"] == "dkim")
    assert "mail._domainkey.acmejets.example" in dkim["why"]
    assert [record["check"] for record in records if record["level"] == "bad"] == ["dkim"]


async def test_a_name_of_nobody_is_refused(operations: AdminOperations) -> None:
    with pytest.raises(Refused, match="there is no profile 'suport'; did you mean 'support'"):
        await examine(operations, name="suport")


async def test_leaving_early_ends_every_visit(operations: AdminOperations, upstream: CaptureServer) -> None:
    stream = operations.stream("doctor", {})
    await anext(stream)
    await stream.aclose()
    others = [task for task in asyncio.all_tasks() if "examine" in repr(task.get_coro()) and not task.cancelling()]
    assert not others
