"""The passwords of many are tried in the background, and what their server refuses is listed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.listener.capture import CaptureServer
from tests.unit.control.control_kit import AdminOperations, operations_in

_TABLE = "name,address,override,password\n"
_RIGHT = {f"agent{number}@acmejets.example": f"geheim-{number}" for number in range(6)}


@pytest.fixture
async def upstream() -> AsyncIterator[CaptureServer]:
    server = CaptureServer(passwords=_RIGHT)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def operations(tmp_path: Path, upstream: CaptureServer) -> AsyncIterator[AdminOperations]:
    main = {"host": "127.0.0.1", "port": upstream.port, "security": "none", "auth": "plain", "username": "m@x.example"}
    away = {**main, "port": 1}
    agents = {
        "far": {"address": "far@acmejets.example", "override": True, "server": "away"},
        "joe": {"address": "joe@acmejets.example"},
    }
    directory = {"default_server": "main", "servers": {"main": main, "away": away}, "agents": agents}
    async with operations_in(tmp_path, directory) as operations:
        yield operations


async def _end(operations: AdminOperations) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            tried: dict[str, Any] = await operations.run("agent.passwords-tried", {})
            if not tried["running"]:
                return tried
            await asyncio.sleep(0.01)


async def test_what_an_import_sets_is_tried_and_the_refused_are_listed(
    operations: AdminOperations, upstream: CaptureServer
) -> None:
    assert (await operations.run("agent.passwords-tried", {}))["started"] is None
    rows = [f"agent{number},agent{number}@acmejets.example,yes,geheim-{number % 4}" for number in range(6)]
    text = _TABLE + "\n".join([*rows, "far,far@acmejets.example,yes,any", "joe,joe@acmejets.example,no,any"])
    done = await operations.run("agent.import", {"text": text, "confirm": True})
    assert done["done"], done["faults"]
    assert done["passwords"] == [*(f"agent{number}" for number in range(6)), "far", "joe"]

    begun = await operations.run("agent.passwords-try", {"names": done["passwords"]})
    assert (begun["running"], begun["total"]) == (True, 7), "joe has no account of his own"
    tried = await _end(operations)
    assert (tried["total"], tried["tried"], tried["works"]) == (7, 7, 4)
    assert (tried["refused"], tried["unknown"]) == (2, 1)
    assert sorted((one["name"], one["state"]) for one in tried["items"][:2]) == [
        ("agent4", "refused"),
        ("agent5", "refused"),
    ]
    assert all("535" in one["detail"] for one in tried["items"][:2])
    assert [(one["name"], one["state"]) for one in tried["items"][2:]] == [("far", "unknown")]
    assert "geheim" not in str(tried)
    assert upstream.messages == []


async def test_another_run_takes_the_place_of_the_one_before(operations: AdminOperations) -> None:
    text = f"{_TABLE}agent1,agent1@acmejets.example,yes,geheim-1\n"
    await operations.run("agent.import", {"text": text, "confirm": True})
    await operations.run("agent.passwords-try", {})
    await operations.run("agent.passwords-try", {"names": ["agent1", "nobody"]})
    assert (await _end(operations))["works"] == 1


async def test_a_server_that_cannot_be_reached_is_not_asked_for_each_of_many(operations: AdminOperations) -> None:
    names = [f"f{number:04}" for number in range(1005)]
    rows = [f"{name},{name}@acmejets.example,yes,away,any" for name in names]
    text = "\n".join(["name,address,override,server,password", *rows])
    assert (await operations.run("agent.import", {"text": text, "confirm": True}))["done"]
    await operations.run("agent.passwords-try", {})
    tried = await _end(operations)
    assert (tried["total"], tried["tried"], tried["unknown"], len(tried["items"])) == (1005, 1005, 1005, 1000)
    asked = [one for one in tried["items"] if "could not try it" in one["detail"]]
    assert 3 <= len(asked) <= 5, "three in a row, and those that were being tried meanwhile"


async def test_a_faulty_row_is_not_among_what_happens_and_a_password_that_is_set_is_replaced(
    operations: AdminOperations,
) -> None:
    first = f"{_TABLE}a,a@acmejets.example,yes,one\n"
    assert (await operations.run("agent.import", {"text": first, "confirm": True}))["done"]
    rows = ("a,a@acmejets.example,yes,two", "b,b@nowhere@x,yes,", "joe,joe@acmejets.example,perhaps,")
    text = _TABLE + "\n".join([*rows, "c,c@acmejets.example,no,"])
    shown = await operations.run("agent.import", {"text": text})
    assert {fault["line"] for fault in shown["faults"]} == {3, 4}
    assert shown["unchanged"] == 0, "a faulty row is not told as one that stays"
    assert shown["adds"] == ["c"]
    assert shown["changes"] == [{"name": "a", "keys": {"password": ["set", "replaced"]}}]
