"""What the limits of an account do to messages: while a client waits, and in the queue."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from relay.delivery import administrative_actions as actions
from relay.delivery import queue_runner
from relay.delivery.events import Ending
from relay.delivery.outcome import State
from relay.directory.model import Account, Meaning, Mode
from relay.limits.limiter import Limiter, Permit
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.store.queue.claims import Late
from relay.upstream.outcome import Failure, Outcome, Phase
from tests.peers.moments import a_while
from tests.unit.delivery.bench_kit import CLIENT, MESSAGE, DeliveryKit, arrival_now, complete, envelope_of
from tests.unit.delivery.delivery_kit import dispatching, limited, message_of, reached, state_of, stored, upstream_of

SUPPORT = "support@acmejets.example"
ACCOUNT = Account("acmejets", SUPPORT)
FIVE = ",".join(f"you{number}@example.net" for number in range(5))


async def submit(delivery: DeliveryKit, envelope: Envelope | None = None) -> Reply:
    acceptance = delivery.acceptance
    return await complete(acceptance.open(CLIENT, envelope or envelope_of(SUPPORT), arrival_now()), MESSAGE)


def queued_id(reply: Reply) -> str:
    assert reply.text.startswith("Ok: queued as ")
    return reply.text.rpartition(" ")[2]


async def test_a_short_wait_happens_while_the_client_waits(delivery: DeliveryKit) -> None:
    journeys = limited(delivery, messages_per_minute=600)
    async with asyncio.timeout(30):
        replies = [await submit(delivery) for _ in range(45)]  # forty may go at once
    assert {reply.text for reply in replies} == {"Ok: delivered via acmejets: Ok: taken as 42"}
    assert len(journeys) == 45


async def test_a_wait_longer_than_the_patience_is_none_at_all(delivery: DeliveryKit) -> None:
    journeys = limited(delivery, messages_per_minute=1)
    assert (await submit(delivery)).text.startswith("Ok: delivered")
    async with asyncio.timeout(10):
        id_ = queued_id(await submit(delivery))
    assert await state_of(delivery, id_) == State.QUEUED
    assert len(upstream_of(delivery).transfers) == 1
    assert journeys[-1].ending is Ending.QUEUED
    assert journeys[-1].detail.startswith(f"waits for acmejets/{SUPPORT}: 1 message a minute, next in ")


async def test_direct_waits_as_long_as_it_can_and_no_longer(delivery: DeliveryKit) -> None:
    journeys = limited(delivery, Mode.DIRECT, patience=1.0, messages_per_minute=1)
    assert (await submit(delivery)).code == 250
    assert str(await submit(delivery)).startswith("451 4.7.0 The sending limit of this account is used up")
    assert "1 message a minute" in journeys[-1].detail
    assert len(upstream_of(delivery).transfers) == 1


async def test_a_client_that_leaves_in_the_line_takes_nobodys_turn(delivery: DeliveryKit) -> None:
    limited(delivery, Mode.DIRECT, patience=100.0, messages_per_minute=1)
    assert (await submit(delivery)).code == 250
    acceptance = delivery.acceptance
    submission = acceptance.open(CLIENT, envelope_of(SUPPORT), arrival_now())
    waiting = asyncio.create_task(complete(submission, MESSAGE))
    while submission._wait._permit is None:  # noqa: ASYNC110  what is waited for knows no event
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    submission.client_left()
    assert str(await waiting) == "451 4.4.2 The client left before the message was handed over"
    assert len(upstream_of(delivery).transfers) == 1


async def test_what_a_failure_leaves_of_the_budget_is_there_for_the_next(delivery: DeliveryKit) -> None:
    limited(delivery, Mode.DIRECT, recipients_per_day=1)
    upstream, accepted = upstream_of(delivery), upstream_of(delivery).outcome
    refusal = Failure(phase=Phase.RCPT, reply=Reply(550, "5.1.1", "no"), meaning=Meaning.REFUSED, from_server=True)
    upstream.outcome = Outcome(host="h", failure=refusal)
    assert (await submit(delivery)).code == 550
    upstream.outcome = accepted
    assert (await submit(delivery)).code == 250
    assert (await submit(delivery)).code == 451


async def test_a_message_for_many_goes_in_parts_each_for_its_recipients(delivery: DeliveryKit) -> None:
    limited(delivery, recipients_per_message=2)
    id_ = queued_id(await submit(delivery, envelope_of(SUPPORT, FIVE)))
    message = await message_of(delivery, id_)
    assert [one.state for one in message.recipients] == ["delivered"] * 2 + ["queued"] * 3
    async with dispatching(delivery) as runner:
        runner.wake()
        await reached(delivery, id_, State.DELIVERED)
    named = [[str(one.address) for one in transfer.recipients] for transfer in upstream_of(delivery).transfers]
    assert named == [FIVE.split(",")[:2], FIVE.split(",")[2:4], FIVE.split(",")[4:]]


async def test_a_refused_part_does_not_keep_the_others_back(delivery: DeliveryKit) -> None:
    limited(delivery, recipients_per_message=2)
    upstream = upstream_of(delivery)
    refusal = Failure(phase=Phase.RCPT, reply=Reply(550, "5.1.1", "no"), meaning=Meaning.REFUSED, from_server=True)
    upstream.outcome = Outcome(host="h", failure=refusal, refused={0: refusal, 1: refusal})
    id_ = await stored(delivery, envelope_of(SUPPORT, FIVE))
    taken = await delivery.queue.claim_one(id_, str(State.SENDING))
    assert taken is not None
    await delivery.attempts.try_stored(taken)
    message = await message_of(delivery, id_)
    assert [one.state for one in message.recipients] == ["failed"] * 2 + ["queued"] * 3
    assert message.next_attempt is not None
    assert message.next_attempt <= delivery.clock()


async def test_a_login_that_is_refused_holds_all_parts(delivery: DeliveryKit) -> None:
    limited(delivery, recipients_per_message=2)
    no_login = Failure(
        phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True
    )
    upstream_of(delivery).outcome = Outcome(host="h", failure=no_login)
    id_ = await stored(delivery, envelope_of(SUPPORT, FIVE))
    taken = await delivery.queue.claim_one(id_, str(State.SENDING))
    assert taken is not None
    await delivery.attempts.try_stored(taken)
    assert {one.state for one in (await message_of(delivery, id_)).recipients} == {"held"}


async def test_the_last_recipient_of_the_day_is_sent_from_the_queue(delivery: DeliveryKit) -> None:
    """The permit of a message has it already: nobody may ask then whether there is one left."""
    limited(delivery, recipients_per_day=2)
    ids = [await stored(delivery) for _ in range(3)]
    async with dispatching(delivery) as runner:
        runner.wake()
        async with asyncio.timeout(10):
            while len(upstream_of(delivery).transfers) < 2:  # noqa: ASYNC110  the upstream knows no event
                await asyncio.sleep(0.01)
    states = sorted([await state_of(delivery, id_) for id_ in ids])
    assert states == ["delivered", "delivered", "queued"]


async def test_what_the_day_has_no_room_for_any_more_is_left_where_it_waits(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was promised to a worker may be too old when the minute lets it go."""
    limited(delivery, recipients_per_day=1)
    asked = asyncio.Event()

    async def charge_none(_: Permit, __: int) -> int:
        asked.set()
        return 0

    monkeypatch.setattr(Permit, "charge", charge_none)
    monkeypatch.setattr(Limiter, "room", lambda *_: 0 if asked.is_set() else 1)
    id_ = await stored(delivery)
    async with dispatching(delivery) as runner:
        runner.wake()
        await asyncio.wait_for(asked.wait(), 10)
        await a_while(0.1)
        message = await message_of(delivery, id_)
    assert (message.state, message.attempts) == (State.QUEUED, 0)


async def test_what_the_day_has_no_room_for_waits_without_an_attempt(delivery: DeliveryKit) -> None:
    limited(delivery, recipients_per_day=3)
    id_ = queued_id(await submit(delivery, envelope_of(SUPPORT, FIVE)))  # it does not go as a whole
    async with dispatching(delivery) as runner:
        runner.wake()
        async with asyncio.timeout(10):
            while (await message_of(delivery, id_)).attempts == 0:  # noqa: ASYNC110  the store knows no event
                await asyncio.sleep(0.01)
        await reached(delivery, id_, State.QUEUED)
        second = queued_id(await submit(delivery))
        taken = await delivery.queue.claim_one(second, str(State.SENDING))
        assert taken is not None
        await delivery.attempts.try_stored(taken)
    assert await delivery.queue.attempts(second) == ()
    assert await state_of(delivery, second) == State.QUEUED
    message = await message_of(delivery, id_)
    assert [one.state for one in message.recipients] == ["delivered"] * 3 + ["queued"] * 2
    assert len(upstream_of(delivery).transfers) == 1


async def test_a_slow_account_delays_no_other(delivery: DeliveryKit) -> None:
    limited(delivery, Mode.QUEUED, messages_per_minute=1)
    other = envelope_of("news@acmejets.example")  # by another server
    slow = [await stored(delivery) for _ in range(3)]
    quick = [await stored(delivery, other) for _ in range(5)]
    async with dispatching(delivery) as runner:
        runner.wake()
        for id_ in quick:
            await reached(delivery, id_, State.DELIVERED)
    states = [await state_of(delivery, id_) for id_ in slow]
    assert sorted(states) == ["delivered", "queued", "queued"]


async def test_direct_does_not_ask_a_server_that_asked_for_a_pause(delivery: DeliveryKit) -> None:
    limited(delivery, Mode.DIRECT)
    slower = Failure(phase=Phase.MAIL, reply=Reply(421, "4.7.0", "slow"), meaning=Meaning.THROTTLE, from_server=True)
    upstream, accepted = upstream_of(delivery), upstream_of(delivery).outcome
    upstream.outcome = Outcome(host="h", failure=slower)
    said = "451 4.7.0 The outgoing mail server asks for a slower pace; please try again later"
    assert [str(await submit(delivery)) for _ in range(3)] == [said] * 3
    assert len(upstream.transfers) == 1
    now = delivery.clock()
    delivery.recorder.clock = lambda: now + timedelta(seconds=31)
    upstream.outcome = accepted
    assert (await submit(delivery)).code == 250
    assert upstream.transfers[-1].server.max_connections == 2  # half of them, until more got through


async def test_what_waits_for_the_days_budget_is_warned_about_and_given_up(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is tried for it, and its sender is told as of every other mail: waiting for a limit is no hold."""
    limited(delivery, recipients_per_day=1)
    monkeypatch.setattr(queue_runner, "_LATE_SECONDS", 0.0)
    assert (await submit(delivery)).text.startswith("Ok: delivered")
    id_ = queued_id(await submit(delivery))
    before = await message_of(delivery, id_)

    async def kinds() -> list[str]:
        found = await delivery.queue.search(limit=9)
        return sorted(one.subject.rpartition(" ")[2] for one in found if one.is_report)

    async with dispatching(delivery) as runner:
        for hours, expected in ((3, []), (5, ["delayed"]), (50, ["delayed"]), (97, ["delayed", "failed"])):
            delivery.recorder.clock = lambda hours=hours: before.created + timedelta(hours=hours)  # type: ignore[misc]
            runner.wake()
            async with asyncio.timeout(10):
                while await kinds() != expected:  # noqa: ASYNC110  the store knows no event
                    await asyncio.sleep(0.01)
            await a_while(0.2)
            assert await kinds() == expected
            if hours < 97:
                after = await message_of(delivery, id_)
                assert (after.state, after.attempts, after.next_attempt) == (State.QUEUED, 0, before.next_attempt)
        await reached(delivery, id_, State.FAILED)
    sent = [one for one in upstream_of(delivery).transfers if one.sender is not None]
    assert len(sent) == 1


async def test_time_spent_held_is_not_spent_waiting_for_a_budget(delivery: DeliveryKit) -> None:
    limited(delivery, recipients_per_day=1)
    assert (await submit(delivery)).text.startswith("Ok: delivered")
    id_ = queued_id(await submit(delivery))
    message = await message_of(delivery, id_)
    assert await delivery.queue.edit(id_, actions.hold(message.created))
    assert await delivery.queue.edit(id_, actions.release(message.created + timedelta(hours=3)))

    async def late(hours: float) -> list[str]:
        now = message.created + timedelta(hours=hours)
        wanted = Late(now, 4 * 3600, 96 * 3600, "unknown")
        found = await delivery.queue.claim_late(["support"], wanted, 9, now, "sending")
        for one in found:
            await delivery.queue.release_lease(one.id, one.fence, "queued")
        return [one.id for one in found]

    assert [await late(hours) for hours in (6.9, 7.1)] == [[], [id_]]


async def test_what_is_left_of_a_message_that_is_given_up_waits_for_a_person(delivery: DeliveryKit) -> None:
    id_ = await stored(delivery, envelope_of(SUPPORT, "one@there.example,two@there.example"))
    (message,) = await delivery.queue.claim(["support"], 1, delivery.clock(), "sending")
    twice = replace(message.recipients[0], state="held", meaning="unknown")
    delivery.recorder.clock = lambda: message.created + timedelta(days=5)
    await delivery.attempts.put_off(replace(message, recipients=(twice, message.recipients[1])), "no room")
    after = await message_of(delivery, id_)
    assert (after.state, after.next_attempt, after.recipients[1].state) == (State.HELD, None, State.FAILED)
    assert after.attempts == 0
