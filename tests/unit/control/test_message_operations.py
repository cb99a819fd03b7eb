"""The history: which messages are found, and what is told of each."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused
from relay.delivery.outcome import State
from tests.unit.control.control_kit import AdminOperations, parts_in
from tests.unit.control.queue_kit import START, attempt, new, stored

KEYS = {
    "id",
    "message_id",
    "sender",
    "recipients",
    "profile",
    "server",
    "state",
    "created",
    "delivered",
    "reply",
}
GONE, FAILED, WAITS = "aaaaaa111111", "bbbbbb111111", "cccccc111111"


@pytest.fixture
async def operations(tmp_path: Path) -> AsyncIterator[AdminOperations]:
    """A relay that delivered a message, failed with one, and has one that waits."""
    delivered = stored(
        State.DELIVERED,
        id=GONE,
        delivered=START + timedelta(seconds=1),
        reply="250 2.0.0 Ok 42",
        server="other",
        username="u",
    )
    failed = stored(
        State.FAILED,
        State.DELIVERED,
        id=FAILED,
        minute=1,
        to=("bob@customer.example", "ann@customer.example"),
        reply="550 5.1.1 nobody",
        sender="support@acmejets.example",
        profile="support",
    )
    async with parts_in(tmp_path) as parts:
        await parts.queue.add(new(delivered, attempt()), new(failed), new(stored(id=WAITS, minute=2)))
        yield AdminOperations(parts)


async def _ids(operations: AdminOperations, **chosen: Any) -> list[str]:
    return [record["id"] async for record in operations.stream("messages.list", chosen)]


async def test_a_list_has_every_key_and_the_newest_first(operations: AdminOperations) -> None:
    records = [record async for record in operations.stream("messages.list", {})]
    assert [record["id"] for record in records] == [WAITS, FAILED, GONE]
    assert all(record.keys() == KEYS for record in records)
    waits, failed, gone = records
    assert (gone["created"], gone["delivered"]) == ("2025-11-24T09:00:00Z", "2025-11-24T09:00:01Z")
    assert (gone["message_id"], gone["server"], gone["reply"]) == (
        f"<{GONE}@acmejets.example>",
        "other",
        "250 2.0.0 Ok 42",
    )
    assert [one["state"] for one in failed["recipients"]] == ["failed", "delivered"]
    assert (waits["server"], waits["delivered"], waits["reply"]) == ("acmejets", None, "")


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        ({"sender": "Support@acmejets.example"}, [FAILED]),
        ({"sender": "<support@acmejets.example>"}, [FAILED]),
        ({"to": "ann@customer.example"}, [WAITS, FAILED, GONE]),
        ({"to": "bob@customer.example"}, [FAILED]),
        ({"since": "2025-11-24T09:01:00Z"}, [WAITS, FAILED]),
        ({"since": "2025-11-24T10:01:00+01:00"}, [WAITS, FAILED]),
        ({"state": "delivered"}, [GONE]),
        ({"message_id": f"<{FAILED}@acmejets.example>"}, [FAILED]),
        ({"to": "ann@customer.example", "state": "queued"}, [WAITS]),
        ({"sender": "nobody@acmejets.example"}, []),
    ],
)
async def test_what_is_asked_for_is_found(chosen: dict[str, Any], ids: list[str], operations: AdminOperations) -> None:
    assert await _ids(operations, **chosen) == ids


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"sender": "support"}, "'support' has no domain; write it as name@domain"),
        ({"state": "sent"}, "there is no state 'sent'"),
        ({"since": "yesterday"}, "'yesterday' is not a time with a zone; write it as 2025-11-24T10:05:00Z"),
        ({"since": "2025-11-24T10:05:00"}, "is not a time with a zone"),
    ],
)
async def test_what_cannot_be_asked_for_is_refused(
    chosen: dict[str, Any], sentence: str, operations: AdminOperations
) -> None:
    with pytest.raises(Refused, match=sentence):
        await _ids(operations, **chosen)


async def test_show_tells_the_journey_of_any_message(operations: AdminOperations) -> None:
    gone = await operations.run("messages.show", {"id": "aaaaaa"})
    assert gone.keys() > KEYS
    assert (gone["state"], gone["account"], len(gone["attempts"])) == ("delivered", "other/u", 1)
    assert (await operations.run("messages.show", {"id": "cccccc"}))["next_attempt"] == "2025-11-24T10:02:00Z"
    with pytest.raises(Refused, match="there is no message 'dddddd'"):
        await operations.run("messages.show", {"id": "dddddd"})
