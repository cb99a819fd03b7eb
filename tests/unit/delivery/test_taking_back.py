"""What an earlier run of the relay left under way, when the next one takes it back."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from relay.delivery.outcome import State
from relay.directory.model import Meaning
from relay.mail.reply import Reply
from relay.store.queue.messages import Attempt, NewMessage
from relay.store.queue.queue import Queue
from relay.system.clock import utc_now
from relay.upstream.outcome import Failure, Outcome, Phase
from tests.unit.delivery.bench_kit import DeliveryKit
from tests.unit.delivery.delivery_kit import message_of, stored, upstream_of

BUSY = Failure(phase=Phase.RCPT, reply=Reply(450, "4.2.1", "busy"), meaning=Meaning.TEMPORARY, from_server=True)


async def die_in_an_attempt(delivery: DeliveryKit, *, final_dot: bool = False) -> str:
    """Let a run of this relay end in the middle of an attempt, and return the message's id."""
    id_ = await stored(delivery)
    dying = delivery.queue
    (message,) = await dying.claim(["support"], 1, delivery.clock(), str(State.SENDING))
    attempt = Attempt(number=1, started=delivery.clock(), server="acmejets", username="u", phase="resolve")
    await dying.begin_attempt(id_, message.fence, attempt)
    if final_dot:
        await dying.mark_final_dot(id_, message.fence, 1)
    delivery.recorder.queue = Queue(dying._database, "the next run")
    return id_


async def test_what_never_had_its_final_dot_is_tried_at_once(delivery: DeliveryKit) -> None:
    id_ = await die_in_an_attempt(delivery)
    await delivery.recorder.take_back()
    message = await message_of(delivery, id_)
    assert (message.state, message.unknowns, message.warned) == (State.QUEUED, 0, False)
    assert message.next_attempt is not None
    assert message.next_attempt <= delivery.clock()
    (attempt,) = await delivery.queue.attempts(id_)
    assert (attempt.meaning, attempt.final_dot) == ("temporary", False)
    assert "stopped" in attempt.reply


async def test_what_had_its_final_dot_pauses_as_unknown(delivery: DeliveryKit) -> None:
    id_ = await die_in_an_attempt(delivery, final_dot=True)
    await delivery.recorder.take_back()
    message = await message_of(delivery, id_)
    assert (message.state, message.unknowns) == (State.UNKNOWN, 1)
    assert message.next_attempt is not None
    assert message.next_attempt > delivery.clock() + timedelta(minutes=29)


@pytest.mark.parametrize(("days", "kinds"), [(1, {"delayed"}), (10, {"failed"})])
async def test_a_relay_that_was_down_for_long_tells_the_sender_and_drops_nothing_in_silence(
    days: int, kinds: set[str], delivery: DeliveryKit
) -> None:
    """The time that it has waited is judged by the attempt that follows, which can report it."""
    id_ = await die_in_an_attempt(delivery)
    delivery.recorder.clock = lambda: utc_now() + timedelta(days=days)
    await delivery.recorder.take_back()
    assert (await message_of(delivery, id_)).state == State.QUEUED

    upstream_of(delivery).outcome = Outcome(host="127.0.0.1", failure=BUSY)
    (message,) = await delivery.queue.claim(["support"], 1, delivery.clock(), str(State.SENDING))
    await delivery.attempts.try_stored(message)
    reports = [one for one in await delivery.queue.search(limit=9) if one.is_report]
    assert {one.subject.rpartition(" ")[2] for one in reports} == kinds


async def test_a_copy_that_was_delivered_before_stays_so(delivery: DeliveryKit) -> None:
    id_ = await stored(delivery)
    message = await message_of(delivery, id_)
    done = replace(message.recipients[0], state=str(State.DELIVERED))
    both = replace(message, id="two", recipients=(done, replace(message.recipients[0], number=1)))
    both = replace(both, envelope=replace(both.envelope, recipients=tuple(one.recipient for one in both.recipients)))
    await delivery.queue.add(NewMessage(message=both, content=await delivery.queue.content(id_)))
    assert await delivery.queue.claim_one("two", str(State.SENDING))
    delivery.recorder.queue = Queue(delivery.queue._database, "the next run")
    await delivery.recorder.take_back()
    assert [one.state for one in (await message_of(delivery, "two")).recipients] == [State.DELIVERED, State.QUEUED]


async def test_who_gives_back_what_it_claimed_ends_with_the_store(delivery: DeliveryKit) -> None:
    """A relay that ends must not wait for a store that it has closed itself: the next start takes the message back."""
    await stored(delivery)
    (message,) = await delivery.queue.claim(["support"], 1, delivery.clock(), str(State.SENDING))
    await delivery.queue.aclose()
    async with asyncio.timeout(10):
        await delivery.recorder.give_back(message)
