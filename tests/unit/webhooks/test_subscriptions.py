"""What is written for webhooks, with each change of a message and in its transaction."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.delivery import administrative_actions as actions
from relay.store.queue.holds import Cause
from relay.store.queue.messages import ReturnRow
from relay.store.queue.queue import Queue
from relay.webhooks.subscriptions import Subscriptions
from tests.unit.store.store_kit import MINUTE, NOW, attempt, history, new, new_message, open_queue, settlement
from tests.unit.webhooks.webhooks_kit import BI, CRM, hook


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Queue]:
    async with open_queue(tmp_path / "relay.db") as opened:
        opened.subscribers = Subscriptions([hook()])
        yield opened


async def told(queue: Queue, url: str = CRM) -> list[dict[str, Any]]:
    """Everything that a webhook is told, in its order, as it takes each."""
    found: list[dict[str, Any]] = []
    while due := await queue.outbox.due(url, NOW + timedelta(days=99999), 100):
        found += [json.loads(one.body) for one in due]
        await queue.outbox.told([one.number for one in due], NOW)
    return found


async def types(queue: Queue) -> list[str]:
    return [event["type"] for event in await told(queue)]


async def test_what_waits_and_what_is_over_at_once_is_told(queue: Queue) -> None:
    await queue.add(new(new_message("m1")))
    await queue.record([history(new_message("m2", state="delivered")), history(new_message("m3", state="failed"))])
    assert await types(queue) == ["message.queued", "message.delivered", "message.failed"]


async def test_an_event_has_what_is_known_of_its_message(queue: Queue) -> None:
    message = new_message(
        "m1", to=("bob@there.example", "zoë@there.example"), subject="grüße \udc80 \0", reply="250 ok"
    )
    over = attempt(3, ended=NOW + MINUTE, server="acmejets", username="mailer@acmejets.example", reply="250 ok")
    await queue.record([replace(history(replace(message, state="delivered")), attempt=over)])
    (event,) = await told(queue)
    assert (event["type"], event["timestamp"]) == ("message.delivered", "2026-01-02T03:05:05.678Z")
    assert event["data"] == {
        "id": "m1",
        "message_id": "<m1@acmejets.example>",
        "subject": "grüße ? ?",
        "profile": "support",
        "client": "10.0.0.9",
        "sender": "support@acmejets.example",
        "recipients": [
            {"address": "bob@there.example", "state": "queued", "reply": ""},
            {"address": "zoë@there.example", "state": "queued", "reply": ""},
        ],
        "size": message.size,
        "created": "2026-01-02T03:04:05.678Z",
        "state": "delivered",
        "server": "acmejets",
        "account": "acmejets/mailer@acmejets.example",
        "attempts": 3,
        "next_attempt": None,
        "reason": "",
        "reply": "250 ok",
    }


async def test_an_event_is_written_with_the_state_or_not_at_all(queue: Queue) -> None:
    await queue.add(new(new_message("m1")))
    taken = await queue.claim_one("m1", "sending")
    assert taken is not None
    after = replace(taken, state="delivered")
    done = replace(settlement(taken, state="delivered"), event="delivered", after=after)
    await queue.settle(done)
    with pytest.raises(Exception, match="m1"):  # its lease has ended
        await queue.settle(done)
    assert await types(queue) == ["message.queued", "message.delivered"]


async def test_what_a_person_does_is_told(queue: Queue) -> None:
    await queue.add(new(new_message("m1")))
    for change in (
        actions.hold(NOW),
        actions.hold(NOW),
        actions.release(NOW),
        actions.retry(NOW),
        actions.remove(NOW),
    ):
        await queue.edit("m1", change)
    events = await told(queue)
    assert [event["type"].removeprefix("message.") for event in events] == ["queued", "held", "released", "removed"]
    assert [event["data"]["recipients"][0]["state"] for event in events] == ["queued", "held", "queued", "removed"]


async def test_what_an_account_holds_and_frees_is_told_of_each_message(queue: Queue) -> None:
    await queue.add(new(new_message("m1")), new(new_message("m2")), new(new_message("m3", profile="sales")))
    cause = Cause("acmejets/mailer", "login-refused", "login-refused: 535 no")
    assert await queue.hold_waiting(["support"], cause=cause, state="held", now=NOW) == 2
    assert await queue.free("acmejets/mailer", state="queued", now=NOW) == 2
    events = [(event["data"]["id"], event["type"]) for event in await told(queue)]
    assert [id_ for id_, type_ in events if type_ == "message.held"] == ["m1", "m2"]
    assert [type_ for id_, type_ in events if id_ == "m2"] == ["message.queued", "message.held", "message.released"]
    assert [type_ for id_, type_ in events if id_ == "m3"] == ["message.queued"]


async def test_what_comes_back_is_told_with_who_and_why(queue: Queue) -> None:
    await queue.record([history(new_message("m1", to=("a@there.example", "b@there.example"), state="delivered"))])
    row = ReturnRow(number=1, found=NOW, status="5.1.1", words="no such user", reporter="mx.there.example")
    assert await queue.add_return("m1", row)
    assert not await queue.add_return("m1", row)
    (*_, event) = await told(queue)
    assert event["type"] == "message.returned"
    assert event["data"]["returned"] == {
        "address": "b@there.example",
        "status": "5.1.1",
        "reply": "no such user",
        "reporter": "mx.there.example",
    }


async def test_each_webhook_hears_of_its_events_and_profiles_alone(queue: Queue) -> None:
    queue.subscribers = Subscriptions([hook(events=("delivered",)), hook(BI, profiles=("sales",))])
    await queue.add(
        new(new_message("m1")), new(new_message("m2", profile="sales")), new(new_message("m3", profile=None))
    )
    await queue.record([history(new_message("m4", state="delivered"))])
    assert [event["data"]["id"] for event in await told(queue)] == ["m4"]
    assert [event["data"]["id"] for event in await told(queue, BI)] == ["m2"]


async def test_of_our_own_reports_nobody_is_told(queue: Queue) -> None:
    await queue.add(new(new_message("m1", is_report=True)))
    assert await told(queue) == []


async def test_the_id_of_an_event_is_one_and_the_same_for_all(queue: Queue) -> None:
    queue.subscribers = Subscriptions([hook(), hook(BI)])
    await queue.add(new(new_message("m1")))
    ids = [(await queue.outbox.due(url, NOW + timedelta(days=99999), 9))[0].id for url in (CRM, BI)]
    assert ids[0] == ids[1]


async def test_a_fault_of_ours_keeps_no_mail_from_being_stored(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subscriptions, "_made", lambda *_: 1 / 0)
    await queue.add(new(new_message("m1")))
    assert await queue.message("m1") is not None
    assert await told(queue) == []


async def test_without_webhooks_nothing_is_written(queue: Queue) -> None:
    queue.subscribers = None
    await queue.add(new(new_message("m1")))
    assert await queue.outbox.backlogs() == {}
