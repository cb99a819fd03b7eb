"""Messages that wait: what is said of them, and what is done with them by hand."""

from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.control.context import ControlContext
from relay.control.messages.find import PAGE
from relay.control.refused import Refused
from relay.delivery.outcome import State
from tests.unit.control.control_kit import AdminOperations, parts_in, with_holds_read
from tests.unit.control.queue_kit import BYTES, START, attempt, hold_row, new, stored

KEYS = {
    "id",
    "state",
    "sender",
    "profile",
    "server",
    "recipients",
    "size",
    "created",
    "next_attempt",
    "reason",
}
ID = "aaaaaa111111"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[ControlContext]:
    """A relay with a message of jane's that failed once, one held, one of nobody's, and one that is delivered."""
    async with parts_in(tmp_path) as parts:
        await parts.queue.add(
            new(stored(id=ID, reason="temporary: 450 busy", server="acmejets", username="jane"), attempt()),
            new(stored(State.HELD, id="aaaaaa222222", minute=1, profile="sales")),
            new(stored(id="bbbbbb111111", minute=2, profile=None, sender="")),
            new(stored(State.DELIVERED, id="cccccc111111", minute=3)),
        )
        yield parts


@pytest.fixture
def operations(parts: ControlContext) -> AdminOperations:
    return AdminOperations(parts)


async def _list(operations: AdminOperations, **chosen: Any) -> list[dict[str, Any]]:
    return [record async for record in operations.stream("queue.list", chosen)]


async def _state(parts: ControlContext, id_: str) -> str:
    message = await parts.queue.message(id_)
    assert message is not None
    return message.state


async def test_a_list_has_every_key_and_what_waits_alone_the_oldest_first(operations: AdminOperations) -> None:
    first, second, third = await _list(operations)
    assert first.keys() == KEYS
    assert [one["id"] for one in (first, second, third)] == [ID, "aaaaaa222222", "bbbbbb111111"]
    assert first["recipients"] == [{"address": "ann@customer.example", "state": "queued", "reply": ""}]
    assert (first["created"], first["next_attempt"]) == ("2025-11-24T09:00:00Z", "2025-11-24T10:00:00Z")
    assert (first["sender"], first["profile"], first["reason"]) == (
        "jane@acmejets.example",
        "jane",
        "temporary: 450 busy",
    )
    assert (second["state"], second["next_attempt"]) == ("held", None)
    assert (third["sender"], third["profile"]) == ("", None)


async def test_the_server_is_where_the_message_goes_now(operations: AdminOperations) -> None:
    assert [one["server"] for one in await _list(operations)] == ["acmejets", "other", "acmejets"]
    await operations.run("server.default", {"name": "other"})
    await operations.run("channel.remove", {"name": "sales"})
    assert [one["server"] for one in await _list(operations)] == ["acmejets", None, "other"], (
        "jane stays where her own account is"
    )


async def test_a_list_of_a_profile_or_of_a_state(operations: AdminOperations) -> None:
    assert [one["id"] for one in await _list(operations, profile="jane")] == [ID]
    assert [one["id"] for one in await _list(operations, state="held")] == ["aaaaaa222222"]
    assert await _list(operations, profile="jane", state="held") == []
    with pytest.raises(Refused, match="there is no channel or agent 'jan'; did you mean 'jane'"):
        await _list(operations, profile="jan")
    with pytest.raises(Refused, match="there is no state 'hled'; did you mean 'held'"):
        await _list(operations, state="hled")
    with pytest.raises(Refused, match=r"it is one of queued, sending, unknown, held$"):
        await _list(operations, state="delivered")


async def test_a_profile_that_is_gone_may_have_mail(operations: AdminOperations) -> None:
    await operations.run("channel.remove", {"name": "sales"})
    assert [one["id"] for one in await _list(operations, profile="sales")] == ["aaaaaa222222"]


async def test_a_long_list_comes_in_pages_and_whole(parts: ControlContext, operations: AdminOperations) -> None:
    await parts.queue.add(*(new(stored(minute=10 + number // 2)) for number in range(2 * PAGE)))
    sizes = [len(batch) async for batch in operations.batches("queue.list", {})]
    assert sizes == [PAGE, PAGE, 3]
    ids = [record["id"] for record in await _list(operations)]
    assert len(set(ids)) == len(ids) == 2 * PAGE + 3


async def test_show_tells_how_it_came_and_every_attempt(operations: AdminOperations) -> None:
    shown = await operations.run("queue.show", {"id": ID})
    assert shown.keys() > KEYS
    assert (shown["client"], shown["helo"], shown["subject"]) == ("127.0.0.1", "laptop", "Hello")
    assert (shown["account"], shown["message_id"]) == ("acmejets/jane", f"<{ID}@acmejets.example>")
    [tried] = shown["attempts"]
    assert (tried["account"], tried["phase"], tried["meaning"]) == (
        "acmejets/jane@acmejets.example",
        "rcpt",
        "temporary",
    )
    assert (tried["started"], tried["ended"]) == ("2025-11-24T09:00:00Z", "2025-11-24T09:00:02Z")
    assert tried["reply"] == "450 4.2.0 mailbox busy"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("aaaaa", "'aaaaa' is too short; give at least 6 characters of the id"),
        ("aaaaaa", "several ids begin with 'aaaaaa'; give more of it"),
        ("dddddd", "there is no message 'dddddd'"),
        ("aaaaaa%11111", "there is no message 'aaaaaa%11111'"),
        ("cccccc", "message cccccc111111 is delivered and no longer waiting; see relay messages show"),
    ],
)
async def test_an_id_that_means_no_message_that_waits(given: str, sentence: str, operations: AdminOperations) -> None:
    for operation in ("queue.show", "queue.hold", "queue.release", "queue.remove"):
        with pytest.raises(Refused, match=f"^{sentence}$"):
            await operations.run(operation, {"id": given})
    with pytest.raises(Refused, match=f"^{sentence}$"):
        await operations.run("queue.retry", {"ids": [ID, given]})


async def test_the_beginning_of_an_id_is_enough(parts: ControlContext, operations: AdminOperations) -> None:
    assert (await operations.run("queue.show", {"id": "AAAAAA1"}))["id"] == ID
    assert await operations.run("queue.hold", {"id": "aaaaaa1"}) == {"ok": True, "id": ID}
    assert await _state(parts, ID) == "held"


async def test_hold_release_and_remove(parts: ControlContext, operations: AdminOperations) -> None:
    await operations.run("queue.hold", {"id": ID})
    with pytest.raises(Refused, match=f"nothing was done with message {ID}: it is held already"):
        await operations.run("queue.hold", {"id": ID})
    assert (await operations.run("queue.show", {"id": ID}))["reason"].startswith("held by hand")
    await operations.run("queue.release", {"id": ID})
    with pytest.raises(Refused, match="it is queued, not held"):
        await operations.run("queue.release", {"id": ID})
    assert await operations.run("queue.remove", {"id": ID}) == {"ok": True, "id": ID}
    assert await _state(parts, ID) == "removed"
    assert ID not in [one["id"] for one in await _list(operations)]


async def test_a_message_that_waits_for_its_account_is_not_released_alone(parts: ControlContext) -> None:
    account = "acmejets/mailer@acmejets.example"
    await parts.queue.put_hold(hold_row("acmejets", "mailer@acmejets.example"))
    await parts.queue.add(new(stored(State.HELD, id="dddddd111111", held_by=account)))
    parts = await with_holds_read(parts)
    with pytest.raises(
        Refused, match=f"its account, which is held; let that go on with: relay account release {account}"
    ):
        await AdminOperations(parts).run("queue.release", {"id": "dddddd"})
    await parts.queue_actions.release_account("acmejets", "mailer@acmejets.example")
    assert await _state(parts, "dddddd111111") == "queued"


async def test_what_is_under_way_is_left_alone(parts: ControlContext, operations: AdminOperations) -> None:
    await parts.queue.claim_one(ID, "sending")
    for operation in ("queue.hold", "queue.remove"):
        with pytest.raises(Refused, match=f"message {ID} is being sent just now; try again when that is over"):
            await operations.run(operation, {"id": ID})
    assert await operations.run("queue.retry", {"ids": [ID]}) == {"ok": True, "retried": 0}


async def test_retry_makes_messages_due(parts: ControlContext, operations: AdminOperations) -> None:
    assert await operations.run("queue.retry", {"ids": [ID, "aaaaaa2"]}) == {"ok": True, "retried": 1}
    message = await parts.queue.message(ID)
    assert message is not None
    assert message.next_attempt is not None
    assert message.next_attempt > stored().created
    assert await _state(parts, "aaaaaa222222") == "held"


async def test_retry_of_a_profile_and_of_all(parts: ControlContext, operations: AdminOperations) -> None:
    later = START.replace(year=2099)
    await parts.queue.add(new(stored(next_attempt=later)), new(stored(next_attempt=later, profile="support")))
    assert await operations.run("queue.retry", {"profile": "support"}) == {"ok": True, "retried": 1}
    with pytest.raises(Refused, match="there is no channel or agent 'suport'; did you mean 'support'"):
        await operations.run("queue.retry", {"profile": "suport"})
    assert await operations.run("queue.retry", {}) == {"ok": True, "retried": 1}


async def test_what_a_server_may_have_is_tried_early_only_by_its_id(
    parts: ControlContext, operations: AdminOperations
) -> None:
    later = START.replace(year=2099)
    pausing = stored(State.UNKNOWN, next_attempt=later)
    await parts.queue.add(new(pausing))
    await operations.run("queue.retry", {"profile": "jane"})
    await operations.run("queue.retry", {})
    assert await parts.queue.message(pausing.id) == pausing
    assert await operations.run("queue.retry", {"ids": [pausing.id]}) == {"ok": True, "retried": 1}
    message = await parts.queue.message(pausing.id)
    assert message is not None
    assert message.next_attempt is not None
    assert (message.state, message.next_attempt < later) == ("unknown", True)


async def test_a_message_that_is_removed_is_so_although_somebody_has_it(
    parts: ControlContext, operations: AdminOperations
) -> None:
    to = ("ann@customer.example", "bob@customer.example")
    message = stored(State.DELIVERED, State.QUEUED, to=to)
    await parts.queue.add(new(message))
    await operations.run("queue.remove", {"id": message.id})
    shown = await operations.run("messages.show", {"id": message.id})
    assert (shown["state"], [one["state"] for one in shown["recipients"]]) == ("removed", ["delivered", "removed"])
    for state, found in (("removed", [message.id]), ("delivered", [])):
        listed = [one["id"] async for one in operations.stream("messages.list", {"state": state})]
        assert [id_ for id_ in listed if id_ == message.id] == found


async def test_an_export_is_the_message_byte_for_byte(operations: AdminOperations) -> None:
    chunks = [b64decode(item["chunk"]) async for item in operations.stream("queue.export", {"id": ID})]
    assert b"".join(chunks) == BYTES


async def test_the_status_counts_and_names_the_oldest_and_who_is_held(
    parts: ControlContext, operations: AdminOperations
) -> None:
    await parts.queue.put_hold(hold_row("acmejets", "mailer@acmejets.example"))
    status = await operations.run("status", {})
    assert status["running"] is True
    assert status["queue"] == {"queued": 2, "sending": 0, "unknown": 0, "held": 1}
    assert status["oldest"] == "2025-11-24T09:00:00Z"
    assert status["accounts_held"] == [
        {
            "account": "acmejets/mailer@acmejets.example",
            "address": "",
            "held_since": "2025-11-24T09:00:00Z",
            "reason": "535 5.7.8 no",
        }
    ]


async def test_an_empty_queue(tmp_path: Path) -> None:
    async with parts_in(tmp_path) as parts:
        operations = AdminOperations(parts)
        assert await _list(operations) == []
        status = await operations.run("status", {})
    assert set(status["queue"].values()) == {0}
    assert (status["oldest"], status["accounts_held"]) == (None, [])
