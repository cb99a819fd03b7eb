"""An attempt from the queue, with a store that fails in the middle of it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.delivery.outcome import State
from relay.store.db.errors import StoreFull
from relay.store.queue.messages import StoredMessage
from relay.upstream.outcome import Outcome
from relay.upstream.transaction import Progress, RequireTls, Transfer
from tests.unit.delivery.bench_kit import DeliveryKit, envelope_of
from tests.unit.delivery.delivery_kit import SENDER, message_of, state_of, stored, upstream_of


async def claimed(delivery: DeliveryKit) -> list[StoredMessage]:
    return await delivery.queue.claim(["support"], 5, datetime.now(UTC), str(State.SENDING))


async def test_an_attempt_delivers(delivery: DeliveryKit) -> None:
    id_ = await stored(delivery)
    (message,) = await claimed(delivery)
    await delivery.attempts.try_stored(message)
    assert await state_of(delivery, id_) == State.DELIVERED
    assert await claimed(delivery) == []


@pytest.mark.parametrize("step", ["content_to_send", "begin_attempt"])
async def test_a_store_that_fails_before_the_attempt_gives_the_message_back(
    step: str, delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await stored(delivery)
    (message,) = await claimed(delivery)
    fail_once(delivery, step, monkeypatch)
    await delivery.attempts.try_stored(message)
    assert await state_of(delivery, id_) == State.QUEUED
    (again,) = await claimed(delivery)
    await delivery.attempts.try_stored(again)
    assert await state_of(delivery, id_) == State.DELIVERED


async def test_an_outcome_is_written_down_when_the_store_is_back(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await stored(delivery)
    (message,) = await claimed(delivery)
    fail_once(delivery, "settle", monkeypatch)
    async with asyncio.timeout(10):
        await delivery.attempts.try_stored(message)
    assert await state_of(delivery, id_) == State.DELIVERED


async def test_what_requires_tls_is_handed_over_so_and_a_bounce_where_it_can(delivery: DeliveryKit) -> None:
    strict = replace(envelope_of(SENDER), require_tls=True)
    wanted = {}
    for name, envelope in {
        "plain": envelope_of(SENDER),
        "strict": strict,
        "bounce": replace(strict, sender=None),
    }.items():
        await stored(delivery, envelope)
        (message,) = await claimed(delivery)
        await delivery.attempts.try_stored(message)
        wanted[name] = upstream_of(delivery).transfers[-1].require_tls
    assert wanted == {
        "plain": RequireTls.NO,
        "strict": RequireTls.ALWAYS,
        "bounce": RequireTls.WHERE_OFFERED,
    }


@pytest.mark.parametrize(("is_sent", "state"), [(False, State.QUEUED), (True, State.UNKNOWN)])
async def test_a_fault_of_ours_leaves_no_message_under_way(
    *, is_sent: bool, state: State, delivery: DeliveryKit
) -> None:
    """It would stay so until the next start, and the queue would show that it is being sent."""
    id_ = await stored(delivery)
    (message,) = await claimed(delivery)

    async def fail(_: Transfer, progress: Progress) -> Outcome:
        if is_sent:
            assert progress.before_final_dot is not None
            await progress.before_final_dot()
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream_of(delivery), "deliver", fail)
        await delivery.attempts.try_stored(message)
    after = await message_of(delivery, id_)
    assert after.state == state
    assert after.reason.endswith(": 451 4.3.0 the relay met a fault of its own in this attempt; its log says which")
    assert after.next_attempt is not None
    assert after.next_attempt > delivery.clock(), "not at once, again and again"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["content_to_send", "deliver"])
async def test_a_fault_that_never_ends_is_tried_by_the_schedule_and_given_up(
    step: str, delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Outcome:
        raise ZeroDivisionError

    owner = upstream_of(delivery) if step == "deliver" else delivery.queue
    monkeypatch.setattr(owner, step, fail)
    id_, now, pauses = await stored(delivery), delivery.clock(), list[float]()
    delivery.recorder.chance = lambda: 0.5
    for _ in range(3):
        delivery.recorder.clock = lambda now=now: now  # type: ignore[misc]
        (message,) = await delivery.queue.claim(["support"], 5, now, str(State.SENDING))
        await delivery.attempts.try_stored(message)
        due = (await message_of(delivery, id_)).next_attempt
        assert due is not None
        pauses.append((due - now).total_seconds())
        now = due
    assert pauses == [60, 120, 300]
    assert len(await delivery.queue.attempts(id_)) == 3

    now += timedelta(days=5)
    delivery.recorder.clock = lambda: now
    (message,) = await delivery.queue.claim(["support"], 5, now, str(State.SENDING))
    await delivery.attempts.try_stored(message)
    assert await state_of(delivery, id_) == State.FAILED
    (report,) = await delivery.queue.list_queue(limit=5)
    assert report.subject == f"report about {id_}: failed"
    assert [str(one.recipient.address) for one in report.recipients] == [SENDER]


def fail_once(delivery: DeliveryKit, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one method of the queue fail the first time, as on a full disk."""
    real = getattr(delivery.queue, step)
    left = [1]

    async def failing(*args: Any, **keys: Any) -> Any:
        if left:
            left.pop()
            raise StoreFull("the disk is full")
        return await real(*args, **keys)

    monkeypatch.setattr(delivery.queue, step, failing)
