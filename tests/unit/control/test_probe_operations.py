"""Tests of a server or profile: each step is told as it is done, and the first that fails is the last."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused
from relay.listener.capture import CaptureServer
from tests.unit.control.control_kit import AdminOperations, operations_in

LOGINS = {"mailer@acmejets.example": "right", "jane@acmejets.example": "hers"}


@pytest.fixture
async def upstream() -> AsyncIterator[CaptureServer]:
    server = CaptureServer(passwords=LOGINS)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def wired(tmp_path: Path, upstream: CaptureServer) -> AsyncIterator[AdminOperations]:
    directory = {
        "default_server": "main",
        "servers": {
            "main": {
                "host": "127.0.0.1",
                "port": upstream.port,
                "security": "none",
                "auth": "plain",
                "username": "mailer@acmejets.example",
            }
        },
        "channels": {"support": {"address": "support@acmejets.example"}},
        "agents": {"jane": {"address": "jane@acmejets.example", "override": True}},
    }
    async with operations_in(tmp_path, directory) as operations:
        await operations.run("server.password", {"name": "main", "password": "right"})
        yield operations


async def _steps(operations: AdminOperations, operation: str, **params: Any) -> list[dict[str, Any]]:
    return [step async for step in operations.stream(operation, params)]


async def test_a_good_server_passes_every_step(wired: AdminOperations, upstream: CaptureServer) -> None:
    steps = await _steps(wired, "server.test", name="main", to="you@customer.example")
    assert [step["step"] for step in steps] == ["resolve", "connect", "ehlo", "login", "mail", "rcpt", "message"]
    assert all(step["ok"] for step in steps)
    [message] = upstream.messages
    assert (message.login, message.sender) == ("mailer@acmejets.example", "mailer@acmejets.example")
    assert message.recipients == ("you@customer.example",)
    assert b"\r\nFrom: mailer@acmejets.example\r\n" in message.content


async def test_without_sending_nothing_arrives(wired: AdminOperations, upstream: CaptureServer) -> None:
    steps = await _steps(wired, "channel.test", name="support", send=False)
    assert [step["step"] for step in steps][-2:] == ["rcpt", "send-as"]
    assert "nothing was sent" in steps[-1]["detail"]
    assert upstream.messages == []


async def test_a_refused_login_is_the_last_step_with_the_servers_words(wired: AdminOperations) -> None:
    await wired.run("server.password", {"name": "main", "password": "geheim-10", "unchecked": True})
    steps = await _steps(wired, "server.test", name="main", to="you@customer.example")
    assert (steps[-1]["step"], steps[-1]["ok"]) == ("login", False)
    assert steps[-1]["detail"].startswith("535 5.7.8")
    assert "geheim" not in str(steps)


async def test_an_agent_tests_with_the_own_account_and_to_the_own_address(
    wired: AdminOperations, upstream: CaptureServer
) -> None:
    steps = await _steps(wired, "agent.test", name="jane")
    assert (steps[-1]["step"], steps[-1]["ok"]) == ("login", False)
    said = "no password is set for main/jane@acmejets.example; set one with: relay agent password jane"
    assert steps[-1]["detail"] == said
    await wired.run("agent.password", {"name": "jane", "password": "hers"})
    assert all(step["ok"] for step in await _steps(wired, "agent.test", name="jane"))
    [message] = upstream.messages
    assert (message.login, message.sender) == ("jane@acmejets.example", "jane@acmejets.example")
    assert message.recipients == ("jane@acmejets.example",)


async def test_a_secret_that_cannot_be_had_is_a_failed_login(wired: AdminOperations) -> None:
    await wired.run("agent.set", {"name": "jane", "changes": ["password_from=env:NOT_SET"]})
    steps = await _steps(wired, "agent.test", name="jane")
    assert (steps[-1]["step"], steps[-1]["ok"]) == ("login", False)
    assert steps[-1]["detail"].startswith("the secret of main/jane@acmejets.example cannot be had: ")
    assert "NOT_SET" in steps[-1]["detail"]


async def test_a_test_of_nobody_is_refused(wired: AdminOperations) -> None:
    with pytest.raises(Refused, match="there is no agent 'jan'; did you mean 'jane'"):
        await _steps(wired, "agent.test", name="jan")
    with pytest.raises(Refused, match="has no domain"):
        await _steps(wired, "server.test", name="main", to="nobody")


async def test_the_last_test_is_remembered_until_the_entry_is_another(
    wired: AdminOperations, upstream: CaptureServer
) -> None:
    assert (await wired.run("server.show", {"name": "main"}))["last_test"] is None
    await _steps(wired, "server.test", name="main", to="you@customer.example")
    last = (await wired.run("server.show", {"name": "main"}))["last_test"]
    assert (last["ok"], last["step"], last["current"]) == (True, "message", True)
    await wired.run("server.password", {"name": "main", "password": "wrong", "unchecked": True})
    await _steps(wired, "channel.test", name="support")
    [support] = (await wired.run("channel.page", {"sort": "last_test"}))["items"]
    assert (support["last_test"]["ok"], support["last_test"]["step"]) == (False, "login")
    assert "535" in support["last_test"]["detail"]
    await wired.run("server.set", {"name": "main", "changes": ["max_connections=2"]})
    [main] = (await wired.run("server.page", {"sort": "last_test", "descending": True}))["items"]
    assert main["last_test"]["current"] is False
    await wired.run("channel.remove", {"name": "support"})
    added = await wired.run("channel.add", {"name": "support", "values": {"address": "new@acmejets.example"}})
    assert added["last_test"] is None


async def test_a_test_that_nobody_watched_to_its_end_is_not_remembered(wired: AdminOperations) -> None:
    stream = wired.stream("server.test", {"name": "main", "to": "you@customer.example"})
    await anext(stream)
    await stream.aclose()
    assert (await wired.run("server.show", {"name": "main"}))["last_test"] is None
