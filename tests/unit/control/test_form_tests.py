"""A channel or agent is tested before it is saved; a saved password never goes where it does not go today."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import NotFound, Refused
from relay.listener.capture import CaptureServer
from tests.unit.control.control_kit import AdminOperations, operations_in

MAILER, SUPPORT, OTHER = "mailer@acmejets.example", "support@acmejets.example", "other@acmejets.example"
SERVERS_SECRET, SECRET, NEW = "geheim-server", "geheim-support", "geheim-neu"
FORM = {"address": SUPPORT, "override": True}


@pytest.fixture
async def upstream() -> AsyncIterator[CaptureServer]:
    server = CaptureServer(passwords={MAILER: SERVERS_SECRET, SUPPORT: SECRET, OTHER: NEW})
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def without_login() -> AsyncIterator[CaptureServer]:
    server = CaptureServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def operations(
    tmp_path: Path, upstream: CaptureServer, without_login: CaptureServer
) -> AsyncIterator[AdminOperations]:
    main = {"host": "127.0.0.1", "port": upstream.port, "security": "none", "auth": "plain", "username": MAILER}
    oauth = {"provider": "google", "client_id": "c"}
    servers = {
        "main": main,
        "inside": {**main, "internal": True},
        "open": {"host": "127.0.0.1", "port": without_login.port, "security": "none", "auth": "none"},
        "cloud": {"host": "smtp.gmail.com", "auth": "oauth2", "username": MAILER, "oauth": oauth},
    }
    directory = {"default_server": "main", "servers": servers, "channels": {"support": FORM}}
    async with operations_in(tmp_path, directory) as operations:
        await operations.run("server.password", {"name": "main", "password": SERVERS_SECRET})
        await operations.run("channel.password", {"name": "support", "password": SECRET})
        yield operations


async def _last(operations: AdminOperations, values: dict[str, Any], **params: Any) -> tuple[str, bool, str]:
    asked = {"values": values, "to": "you@customer.example", **params}
    steps = [step async for step in operations.stream("channel.try", asked)]
    assert not [secret for secret in (SERVERS_SECRET, SECRET, NEW) if secret in str(steps)]
    last = steps[-1]
    return last["step"], last["ok"], last["detail"]


async def test_a_form_is_tested_with_its_password_and_nothing_is_saved(
    operations: AdminOperations, upstream: CaptureServer
) -> None:
    before = await operations.run("channel.list", {})
    assert (await _last(operations, {"address": OTHER, "override": True}, password=NEW))[:2] == ("message", True)
    [message] = upstream.messages
    assert (message.login, message.sender, message.recipients) == (OTHER, OTHER, ("you@customer.example",))
    assert (await _last(operations, {**FORM, "username": OTHER}, password="wrong"))[:2] == ("login", False)
    assert (await _last(operations, FORM, password=SECRET, send=False))[:2] == ("send-as", True)
    assert await operations.run("channel.list", {}) == before
    assert len(upstream.messages) == 1


async def test_without_the_override_the_servers_account_sends_to_itself_or_to_the_profile(
    operations: AdminOperations, upstream: CaptureServer
) -> None:
    assert (await _last(operations, {"address": OTHER}, to=None))[:2] == ("message", True)
    [message] = upstream.messages
    assert (message.login, message.sender, message.recipients) == (MAILER, MAILER, (OTHER,))
    with pytest.raises(Refused, match="leave the password out"):
        await _last(operations, {"address": OTHER}, password=NEW)


async def test_the_saved_password_is_taken_where_it_goes_already_and_nowhere_else(
    operations: AdminOperations, upstream: CaptureServer
) -> None:
    saved = {"name": "support"}
    assert (await _last(operations, {**FORM, "server": "main"}, **saved))[:2] == ("message", True)
    for changed in ({"username": OTHER}, {"address": OTHER}, {"server": "cloud"}):
        with pytest.raises(Refused, match=r"enter the password for this test; the saved one is for main/|by OAuth"):
            await _last(operations, {**FORM, **changed}, **saved)
    with pytest.raises(Refused, match=r"^enter the password for this test$"):
        await _last(operations, FORM)
    assert [message.login for message in upstream.messages] == [SUPPORT]


async def test_a_saved_profile_without_a_password_is_told_what_to_do(operations: AdminOperations) -> None:
    await operations.run("channel.add", {"name": "sales", "values": {"address": OTHER, "override": True}})
    step, ok, detail = await _last(operations, {"address": OTHER, "override": True}, name="sales")
    assert (step, ok) == ("login", False)
    assert detail == f"no password is set for main/{OTHER}; set one with: relay channel password sales"


async def test_a_server_without_a_login_needs_no_password(
    operations: AdminOperations, without_login: CaptureServer
) -> None:
    assert (await _last(operations, {**FORM, "server": "open"}))[:2] == ("message", True)
    assert [message.sender for message in without_login.messages] == [SUPPORT]


async def test_what_is_wrong_with_the_values_is_told_by_key(operations: AdminOperations) -> None:
    for values, key, words in (
        ({}, "address", "this key is needed"),
        ({"address": "x@"}, "address", "no domain"),
        ({**FORM, "server": "inside"}, "override", "is internal"),
        ({**FORM, "server": "mian"}, "server", "did you mean 'main'"),
    ):
        with pytest.raises(Refused, match=words) as refused:
            await _last(operations, values, password=NEW)
        assert refused.value.key == key
    with pytest.raises(Refused, match="has no way out"):
        await _last(operations, {"address": OTHER, "server": "open"})
    with pytest.raises(Refused, match="a password is one line"):
        await _last(operations, FORM, password="a\nb")
    with pytest.raises(NotFound, match="there is no channel 'suport'"):
        await _last(operations, FORM, name="suport")


async def test_an_agent_is_tested_in_the_same_way(operations: AdminOperations, upstream: CaptureServer) -> None:
    asked = {"values": {"address": OTHER, "override": True}, "password": NEW}
    steps = [step async for step in operations.stream("agent.try", asked)]
    assert steps[-1]["ok"]
    assert upstream.messages[0].recipients == (OTHER,)
