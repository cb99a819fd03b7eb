"""Messages page by page: searched by parts, in both directions, and counted over time."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.control.context import ControlContext
from relay.control.messages.records import rfc3339
from relay.control.refused import Refused
from relay.delivery.outcome import State
from tests.unit.control.control_kit import AdminOperations, parts_in
from tests.unit.control.queue_kit import START, new, stored

JANE = "jane@acmejets.example"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    async with parts_in(tmp_path) as parts:
        yield parts


@pytest.fixture
async def operations(parts: ControlContext) -> AdminOperations:
    """The operations over five messages of the history, a minute after each other, and three that wait."""
    delivered, failed = State.DELIVERED, State.FAILED
    await parts.queue.record(
        [
            new(stored(delivered, id="aaaaaa0", minute=0, subject="One")),
            new(stored(failed, id="aaaaaa1", minute=1, subject="Two 100%", to=["Ann@Other.example"])),
            new(stored(delivered, id="aaaaaa2", minute=2, sender="", profile=None)),
            new(stored(delivered, id="aaaaaa3", minute=3, profile="support", sender="support@acmejets.example")),
            new(stored(State.REMOVED, id="aaaaaa4", minute=4, message_id="<Odd@x.example>")),
        ]
    )
    await parts.queue.add(
        new(stored(id="bbbbbb0", minute=5)),
        new(stored(State.HELD, id="bbbbbb1", minute=6, held_by="acmejets/mailer@acmejets.example", profile="support")),
        new(stored(id="bbbbbb2", minute=7, profile="sales", subject="Sale")),
    )
    return AdminOperations(parts)


async def _ids(operations: AdminOperations, operation: str = "messages.page", **params: Any) -> list[str]:
    return [item["id"][-2:] for item in (await operations.run(operation, params))["items"]]


async def test_the_newest_come_first_and_each_has_its_subject(operations: AdminOperations) -> None:
    page = await operations.run("messages.page", {})
    [listed] = [item async for item in operations.stream("messages.list", {}) if item["id"] == "aaaaaa1"]
    assert [item["id"] for item in page["items"]][:2] == ["bbbbbb2", "bbbbbb1"]
    assert page["items"][-2] == {**listed, "subject": "Two 100%"}
    assert page["next"] is None


async def test_pages_follow_each_other(operations: AdminOperations) -> None:
    seen, after = list[str](), None
    while True:
        page = await operations.run("messages.page", {"limit": 3, "after": after})
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [f"bbbbbb{n}" for n in (2, 1, 0)] + [f"aaaaaa{n}" for n in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"sender": JANE}, ["b2", "b1", "b0", "a4", "a1", "a0"]),
        ({"sender": "<>"}, ["a2"]),
        ({"sender": "SUPP"}, ["a3"]),
        ({"to": "@other.example"}, ["a1"]),
        ({"to": "ann@OTHER.example"}, ["a1"]),
        ({"to": "ann@other"}, []),
        ({"state": "removed"}, ["a4"]),
        ({"profile": ""}, ["a2"]),
        ({"profile": "support"}, ["b1", "a3"]),
        ({"subject": "100%"}, ["a1"]),
        ({"contains": "0%"}, ["a1"]),
        ({"contains": " odd@X "}, ["a4"]),
        ({"message_id": "Odd@x.example"}, ["a4"]),
        ({"since": "2025-11-24T09:03:00Z", "until": "2025-11-24T10:05:00+01:00"}, ["a4", "a3"]),
        ({"contains": "\0"}, []),
    ],
)
async def test_what_is_asked_for_is_found(operations: AdminOperations, asked: dict[str, Any], found: list[str]) -> None:
    assert await _ids(operations, **asked) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": "yesterday"},
        {"until": "2025-11-24T09:03:00"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"state": "lost"},
        {"after": "x"},
        {"contains": "\ud800"},
        {"after": "99999999999999999999-a"},
        {"limit": 201},
        {"limit": 0},
    ],
)
async def test_what_cannot_be_asked_is_refused(operations: AdminOperations, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        await operations.run("messages.page", wrong)


async def test_the_queue_comes_the_oldest_first(operations: AdminOperations) -> None:
    page = await operations.run("queue.page", {"limit": 2})
    [listed] = [item async for item in operations.stream("queue.list", {}) if item["id"] == "bbbbbb0"]
    assert page["items"][0] == {**listed, "subject": "Hello"}
    assert [item["id"] for item in page["items"]] == ["bbbbbb0", "bbbbbb1"]
    assert await _ids(operations, "queue.page", after=page["next"]) == ["b2"]
    assert await _ids(operations, "queue.page", state="held") == ["b1"]
    assert await _ids(operations, "queue.page", profile="sales") == ["b2"]
    assert await _ids(operations, "queue.page", contains="sale") == ["b2"]
    with pytest.raises(Refused, match="there is no state 'delivered'"):
        await _ids(operations, "queue.page", state="delivered")


async def test_the_queue_of_an_account_is_what_leaves_through_it(operations: AdminOperations) -> None:
    assert await _ids(operations, "queue.page", account=f"acmejets/{JANE}") == ["b0"]
    assert await _ids(operations, "queue.page", account="acmejets/mailer@acmejets.example") == ["b1"]
    assert await _ids(operations, "queue.page", account="other/sales@acmejets.example") == ["b2"]
    assert await _ids(operations, "queue.page", account="other/nobody") == []
    with pytest.raises(Refused, match="write it as SERVER/USERNAME"):
        await _ids(operations, "queue.page", account="other")


async def test_an_agent_sees_the_own_messages(operations: AdminOperations) -> None:
    assert await _ids(operations, "agent.messages", name="jane") == ["b0", "a4", "a1", "a0"]
    page = await operations.run("agent.messages", {"name": "jane", "limit": 1})
    assert await _ids(operations, "agent.messages", name="jane", after=page["next"], limit=1) == ["a4"]
    with pytest.raises(Refused, match="there is no agent"):
        await _ids(operations, "agent.messages", name="sale")


async def test_counts_have_every_step(operations: AdminOperations) -> None:
    since, until = START - timedelta(minutes=7), START + timedelta(minutes=11)
    params = {"since": rfc3339(since), "until": rfc3339(until), "step": 300}
    counted = await operations.run("messages.counts", params)
    assert [one["at"][11:16] for one in counted] == ["08:50", "08:55", "09:00", "09:05", "09:10"]
    nothing = {"delivered": 0, "failed": 0, "queued": 0, "held": 0, "other": 0}
    assert counted[1] == {"at": "2025-11-24T08:55:00Z", **nothing}
    assert counted[2] == {"at": "2025-11-24T09:00:00Z", **nothing, "delivered": 3, "failed": 1, "other": 1}
    assert counted[3] == {"at": "2025-11-24T09:05:00Z", **nothing, "queued": 2, "held": 1}


async def test_counts_are_of_the_last_day_by_the_hour(operations: AdminOperations) -> None:
    assert len(await operations.run("messages.counts", {})) in {24, 25}


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 60},
        {"since": "2025-01-01T00:00:00Z", "step": 300},
        {"since": "2025-01-02T00:00:00Z", "until": "2025-01-01T00:00:00Z"},
        {"since": "9999-12-31T23:00:00Z", "until": "9999-12-31T23:59:59Z"},
        {"since": "0001-01-01T00:00:00Z"},
        {"until": "0001-01-01T00:00:00Z"},
    ],
)
async def test_counts_have_their_bounds(operations: AdminOperations, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        await operations.run("messages.counts", wrong)
