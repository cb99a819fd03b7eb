"""A mail password is tried at its server before it is kept, and what the server refuses is kept only when told so."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import LoginRefused
from relay.listener.capture import CaptureServer
from tests.unit.control.control_kit import AdminOperations, operations_in

MAILER, JANE = "mailer@acmejets.example", "jane@acmejets.example"
RIGHT = {MAILER: "geheim-server", JANE: "geheim-jane"}


@pytest.fixture
async def upstream() -> AsyncIterator[CaptureServer]:
    server = CaptureServer(passwords=RIGHT)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def operations(tmp_path: Path, upstream: CaptureServer) -> AsyncIterator[AdminOperations]:
    main = {"host": "127.0.0.1", "port": upstream.port, "security": "none", "auth": "plain", "username": MAILER}
    servers = {
        "main": main,
        "inside": {**main, "internal": True},
        "away": {**main, "port": 1},
        "free": {"host": "127.0.0.1", "port": upstream.port, "security": "none", "auth": "none", "address": MAILER},
    }
    agents = {"jane": {"address": JANE, "server": "main", "override": True}, "joe": {"address": "joe@acmejets.example"}}
    directory = {"default_server": "main", "servers": servers, "agents": agents}
    async with operations_in(tmp_path, directory) as operations:
        yield operations


async def _set(operations: AdminOperations, operation: str, name: str, password: str, **params: Any) -> dict[str, Any]:
    kept: dict[str, Any] = await operations.run(operation, {"name": name, "password": password, **params})
    assert kept["ok"] is True
    login: dict[str, Any] = kept["login"]
    return login


async def test_what_works_is_kept_and_told(operations: AdminOperations, upstream: CaptureServer) -> None:
    login = await _set(operations, "agent.password", "jane", RIGHT[JANE])
    assert login == {"state": "works", "detail": f"logged in as {JANE} by plain"}
    assert (await _set(operations, "server.password", "main", RIGHT[MAILER]))["state"] == "works"
    assert (await operations.run("agent.show", {"name": "jane"}))["password_set"] is True
    assert upstream.messages == [], "a login sends nothing"


async def test_what_is_refused_is_not_kept_and_the_one_before_stays(operations: AdminOperations) -> None:
    with pytest.raises(LoginRefused) as caught:
        await _set(operations, "agent.password", "jane", "geheim-wrong")
    assert caught.value.key == "password"
    assert caught.value.words.startswith(f"main refuses this password for {JANE}: 535 5.7.8 ")
    assert str(caught.value).endswith("Keep it all the same with: relay agent password jane --unchecked")
    assert "geheim" not in str(caught.value)
    assert (await operations.run("agent.show", {"name": "jane"}))["password_set"] is False

    await _set(operations, "agent.password", "jane", RIGHT[JANE])
    with pytest.raises(LoginRefused):
        await _set(operations, "agent.password", "jane", "geheim-wrong")
    steps = [step async for step in operations.stream("agent.test", {"name": "jane"})]
    assert all(step["ok"] for step in steps), "the password before is still there"


async def test_who_says_so_keeps_it_untried(operations: AdminOperations) -> None:
    assert await _set(operations, "agent.password", "jane", "wrong", unchecked=True) == {
        "state": "skipped",
        "detail": "",
    }
    assert (await operations.run("agent.show", {"name": "jane"}))["password_set"] is True


async def test_a_server_that_cannot_be_reached_is_no_reason_to_refuse_it(operations: AdminOperations) -> None:
    login = await _set(operations, "server.password", "away", "whatever")
    assert login["state"] == "unknown"
    assert login["detail"].startswith("away could not try it: ")
    assert (await operations.run("server.show", {"name": "away"}))["password_set"] is True


async def test_where_nobody_logs_in_with_it_nothing_is_tried(
    operations: AdminOperations, upstream: CaptureServer
) -> None:
    for server in ("inside", "free"):
        await operations.run("agent.set", {"name": "joe", "changes": [f"server={server}"]})
        assert (await _set(operations, "agent.password", "joe", "geheim-any"))["state"] == "skipped"


async def test_an_entry_whose_password_is_refused_is_not_added(operations: AdminOperations) -> None:
    host = (await operations.run("server.show", {"name": "main"}))["host"]
    port = (await operations.run("server.show", {"name": "main"}))["port"]
    new = {"host": host, "port": port, "security": "none", "auth": "plain", "username": MAILER}
    with pytest.raises(LoginRefused, match="second refuses this password"):
        await operations.run("server.add", {"name": "second", "values": new, "password": "wrong"})
    assert "second" not in [one["name"] for one in await operations.run("server.list", {})]
    values = {"address": "max@acmejets.example", "username": JANE, "override": True}
    for operation in ("agent.add", "channel.add"):
        with pytest.raises(LoginRefused, match="main refuses this password"):
            await operations.run(operation, {"name": "max", "values": values, "password": "wrong"})
    kept = await operations.run("agent.add", {"name": "max", "values": values, "password": RIGHT[JANE]})
    assert kept["password_set"] is True
    second = await operations.run("server.add", {"name": "second", "values": new, "password": "x", "unchecked": True})
    assert second["password_set"] is True
