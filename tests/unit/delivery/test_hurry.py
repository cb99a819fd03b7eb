"""A relay that stops while clients wait: each has an answer in time, and what had its 250 is on disk."""

import asyncio

import pytest

from relay.delivery.events import Ending
from relay.delivery.outcome import State
from relay.directory.model import Mode
from relay.store.db.errors import StoreFull
from relay.store.queue.messages import NewMessage
from tests.unit.delivery.bench_kit import (
    CLIENT,
    MESSAGE,
    Bench,
    DeliveryKit,
    FakeUpstream,
    Maker,
    arrival_now,
    complete,
    envelope_of,
)
from tests.unit.delivery.delivery_kit import limited

SUPPORT = "support@acmejets.example"


async def hurried(bench: Bench, seconds: float = 0.0) -> str:
    """Submit a message, hurry when its hand-over has begun, and return the reply."""
    submission = bench.acceptance.open(CLIENT, envelope_of(SUPPORT), arrival_now())
    waiting = asyncio.create_task(complete(submission, MESSAGE))
    await bench.upstream.began.wait()
    submission.hurry(seconds)
    async with asyncio.timeout(10):
        return str(await waiting)


@pytest.mark.parametrize("is_sent", [False, True])
async def test_auto_stores_the_message_with_its_attempt_and_answers(make_bench: Maker, *, is_sent: bool) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event(), stops_after_dot=is_sent), mode=Mode.AUTO, patience=60.0)
    assert (await hurried(bench)).startswith("250 2.0.0 Ok: queued as ")
    queue = bench.acceptance.attempts.recorder.queue
    (message,) = await queue.list_queue(limit=2)
    assert message.state == State.SENDING
    (attempt,) = await queue.attempts(message.id)
    assert (attempt.ended, attempt.final_dot) == (None, is_sent), "the next start knows what it is about"
    assert not bench.upstream.was_cancelled
    assert bench.upstream.gate is not None
    bench.upstream.gate.set()
    await bench.acceptance.attempts.stop()
    assert await queue.counts() == {}


async def test_direct_gives_the_message_back_before_its_final_dot(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event()))
    assert (await hurried(bench, 5.0)).startswith("421 4.3.2 ")
    assert bench.upstream.was_cancelled
    assert bench.journeys[0].ending is Ending.DEFERRED


async def test_direct_waits_for_the_answer_to_its_final_dot_as_long_as_there_is_time(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event(), stops_after_dot=True))
    assert bench.upstream.gate is not None
    asyncio.get_running_loop().call_later(0.1, bench.upstream.gate.set)
    assert (await hurried(bench, 5.0)).startswith("250 2.0.0 Ok: delivered")


async def test_direct_says_that_nobody_knows_when_there_is_none_left(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event(), stops_after_dot=True))
    assert (await hurried(bench, 0.1)).startswith("451 4.4.2 ")
    assert not bench.upstream.was_cancelled
    assert bench.journeys[0].ending is Ending.DEFERRED
    assert bench.upstream.gate is not None
    bench.upstream.gate.set()


async def test_a_store_that_takes_nothing_in_that_moment_costs_the_message_no_answer(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event()), mode=Mode.AUTO, patience=60.0)

    async def fail(*_: NewMessage) -> None:
        raise StoreFull("the disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.acceptance.attempts.recorder.queue, "add", fail)
        assert (await hurried(bench)).startswith("452 4.3.1 ")
    assert bench.upstream.was_cancelled


@pytest.mark.parametrize(("mode", "said"), [(Mode.AUTO, "250 2.0.0 Ok: queued as "), (Mode.DIRECT, "421 4.3.2 ")])
async def test_who_stands_in_line_is_sent_away_or_stored(delivery: DeliveryKit, mode: Mode, said: str) -> None:
    limited(delivery, mode, patience=100.0, messages_per_minute=1)
    acceptance = delivery.acceptance
    assert (await complete(acceptance.open(CLIENT, envelope_of(SUPPORT), arrival_now()), MESSAGE)).code == 250
    submission = acceptance.open(CLIENT, envelope_of(SUPPORT), arrival_now())
    waiting = asyncio.create_task(complete(submission, MESSAGE))
    while submission._wait._permit is None:  # noqa: ASYNC110  what is waited for knows no event
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    submission.hurry(1.0)
    async with asyncio.timeout(10):
        assert str(await waiting).startswith(said)


async def test_a_client_that_leaves_in_the_moment_in_which_we_hurry_leaves_nothing_behind(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event()), mode=Mode.AUTO, patience=60.0)
    submission = bench.acceptance.open(CLIENT, envelope_of(SUPPORT), arrival_now())
    waiting = asyncio.create_task(complete(submission, MESSAGE))
    await bench.upstream.began.wait()
    submission.client_left()
    submission.hurry(0.0)
    async with asyncio.timeout(10):
        assert str(await waiting).startswith("451 4.4.2 ")
    assert bench.upstream.was_cancelled
    assert await bench.acceptance.attempts.recorder.queue.counts() == {}, "nothing is stored that nobody would end"


async def test_a_message_that_comes_in_the_last_moment_is_treated_alike(make_bench: Maker) -> None:
    bench = make_bench(FakeUpstream(gate=asyncio.Event()), mode=Mode.AUTO, patience=60.0)
    submission = bench.acceptance.open(CLIENT, envelope_of(SUPPORT), arrival_now())
    submission.hurry(0.0)
    async with asyncio.timeout(10):
        assert (await complete(submission, MESSAGE)).text.startswith("Ok: queued as ")
    assert bench.upstream.gate is not None
    bench.upstream.gate.set()
    await bench.acceptance.attempts.stop()
