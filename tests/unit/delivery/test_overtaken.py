"""A message that another node took over while it was under way here: the other's record counts, and ours is counted."""

import asyncio

from relay.delivery.outcome import State
from relay.delivery.queue_runner import QueueRunner
from relay.metrics import Now
from relay.store.queue.queue import Queue
from relay.upstream.outcome import Outcome
from relay.upstream.transaction import Progress, Transfer
from tests.unit.delivery.bench_kit import DeliveryKit
from tests.unit.delivery.delivery_kit import message_of, state_of, stored, upstream_of

EMPTY = Now(queue={}, accounts_held=0, connections=0)


def overtaken(delivery: DeliveryKit) -> dict[str, float]:
    counts = delivery.attempts.events.metrics.counts(EMPTY)
    (samples,) = (each["samples"] for each in counts if each["name"] == "relay_overtaken")
    return {labels["sent"]: value for _, labels, value in samples}


async def take_over(delivery: DeliveryKit) -> None:
    """Let another take all that is under way, and keep it."""
    async for _ in Queue(delivery.queue._database, "another").take_back(delivery.clock()):
        pass


async def test_what_was_taken_over_before_it_was_sent_is_not_sent(delivery: DeliveryKit) -> None:
    id_ = await stored(delivery)
    (message,) = await delivery.queue.claim(["support"], 1, delivery.clock(), str(State.SENDING))
    await take_over(delivery)
    await delivery.attempts.try_stored(message)
    assert upstream_of(delivery).transfers == []
    assert overtaken(delivery) == {"no": 1}
    assert (await message_of(delivery, id_)).fence == message.fence + 1


async def test_what_was_sent_meanwhile_is_counted_and_not_written_down(delivery: DeliveryKit) -> None:
    id_ = await stored(delivery)
    (message,) = await delivery.queue.claim(["support"], 1, delivery.clock(), str(State.SENDING))
    upstream = upstream_of(delivery)
    real = upstream.deliver

    async def deliver(transfer: Transfer, progress: Progress) -> Outcome:
        outcome = await real(transfer, progress)
        await take_over(delivery)
        return outcome

    upstream.deliver = deliver  # type: ignore[method-assign]
    await delivery.attempts.try_stored(message)
    assert len(upstream.transfers) == 1
    assert overtaken(delivery) == {"yes": 1}
    assert await state_of(delivery, id_) == State.SENDING


async def test_a_node_that_is_drained_claims_nothing(delivery: DeliveryKit) -> None:
    id_ = await stored(delivery)
    runner = QueueRunner(delivery.attempts)
    runner.rest(is_wanted=True)
    await runner._look()
    assert runner._workers == {}
    runner.rest(is_wanted=False)
    await runner._look()
    await asyncio.wait(runner._tasks)
    await runner.stop()
    assert await state_of(delivery, id_) == State.DELIVERED
