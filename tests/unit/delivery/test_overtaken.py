"""A message that another node took over while it was under way here: the other's record counts, and ours is counted."""

import asyncio

from relay.delivery.dispatcher import Dispatcher
from relay.delivery.lifecycle import State
from relay.delivery.postman import Postman
from relay.metrics import Now
from relay.store.queue import Queue
from relay.upstream.outcome import Outcome
from relay.upstream.transaction import Progress, Transfer
from tests.unit.delivery.delivery_kit import message_of, state_of, stored, upstream_of

EMPTY = Now(queue={}, accounts_held=0, connections=0)


def overtaken(postman: Postman) -> dict[str, float]:
    counts = postman.office.telling.metrics.counts(EMPTY)
    (samples,) = (each["samples"] for each in counts if each["name"] == "relay_overtaken")
    return {labels["sent"]: value for _, labels, value in samples}


async def take_over(postman: Postman) -> None:
    """Let another take all that is under way, and keep it."""
    async for _ in Queue(postman.queue._database, "another").take_back(postman.clock()):
        pass


async def test_what_was_taken_over_before_it_was_sent_is_not_sent(postman: Postman) -> None:
    id_ = await stored(postman)
    (message,) = await postman.queue.claim(["support"], 1, postman.clock(), str(State.SENDING))
    await take_over(postman)
    await postman.attempt(message)
    assert upstream_of(postman).transfers == []
    assert overtaken(postman) == {"no": 1}
    assert (await message_of(postman, id_)).fence == message.fence + 1


async def test_what_was_sent_meanwhile_is_counted_and_not_written_down(postman: Postman) -> None:
    id_ = await stored(postman)
    (message,) = await postman.queue.claim(["support"], 1, postman.clock(), str(State.SENDING))
    upstream = upstream_of(postman)
    real = upstream.deliver

    async def deliver(transfer: Transfer, progress: Progress) -> Outcome:
        outcome = await real(transfer, progress)
        await take_over(postman)
        return outcome

    upstream.deliver = deliver  # type: ignore[method-assign]
    await postman.attempt(message)
    assert len(upstream.transfers) == 1
    assert overtaken(postman) == {"yes": 1}
    assert await state_of(postman, id_) == State.SENDING


async def test_a_node_that_is_drained_claims_nothing(postman: Postman) -> None:
    id_ = await stored(postman)
    dispatcher = Dispatcher(postman)
    dispatcher.rest(is_wanted=True)
    await dispatcher._look()
    assert dispatcher._carriers == {}
    dispatcher.rest(is_wanted=False)
    await dispatcher._look()
    await asyncio.wait(dispatcher._tasks)
    await dispatcher.stop()
    assert await state_of(postman, id_) == State.DELIVERED
