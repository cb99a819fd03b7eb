"""What the limits of an account do to messages: while a client waits, and in the queue."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from relay.delivery import by_hand, lateness
from relay.delivery.desk import Desk
from relay.delivery.events import Ending
from relay.delivery.history import History
from relay.delivery.lifecycle import State
from relay.delivery.postman import Postman
from relay.delivery.turn import Turn
from relay.directory.model import Account, Meaning, Mode, Server
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.store.claims import Late
from relay.upstream.outcome import Failure, Outcome
from relay.upstream.phase import Phase
from tests.unit.delivery.bench_kit import CLIENT, MESSAGE, arrival_now, envelope_of
from tests.unit.delivery.delivery_kit import dispatching, limited, message_of, reached, state_of, stored, upstream_of

SUPPORT = "support@acmejets.example"
ACCOUNT = Account("acmejets", SUPPORT)
FIVE = ",".join(f"you{number}@example.net" for number in range(5))


async def submit(postman: Postman, envelope: Envelope | None = None) -> Reply:
    desk = Desk("relay.test", postman.office, postman, History(postman.queue))
    return await desk.open(CLIENT, envelope or envelope_of(SUPPORT), arrival_now()).complete(MESSAGE)


def queued_id(reply: Reply) -> str:
    assert reply.text.startswith("Ok: queued as ")
    return reply.text.rpartition(" ")[2]


async def test_a_short_wait_happens_while_the_client_waits(postman: Postman) -> None:
    journeys = limited(postman, messages_per_minute=600)
    async with asyncio.timeout(30):
        replies = [await submit(postman) for _ in range(45)]  # forty may go at once
    assert {reply.text for reply in replies} == {"Ok: delivered via acmejets: Ok: taken as 42"}
    assert len(journeys) == 45


async def test_a_wait_longer_than_the_patience_is_none_at_all(postman: Postman) -> None:
    journeys = limited(postman, messages_per_minute=1)
    assert (await submit(postman)).text.startswith("Ok: delivered")
    async with asyncio.timeout(10):
        id_ = queued_id(await submit(postman))
    assert await state_of(postman, id_) == State.QUEUED
    assert len(upstream_of(postman).transfers) == 1
    assert journeys[-1].ending is Ending.QUEUED
    assert journeys[-1].detail.startswith(f"waits for acmejets/{SUPPORT}: 1 message a minute, next in ")


async def test_direct_waits_as_long_as_it_can_and_no_longer(postman: Postman) -> None:
    journeys = limited(postman, Mode.DIRECT, patience=1.0, messages_per_minute=1)
    assert (await submit(postman)).code == 250
    assert str(await submit(postman)).startswith("451 4.7.0 The sending limit of this account is used up")
    assert "1 message a minute" in journeys[-1].detail
    assert len(upstream_of(postman).transfers) == 1


async def test_a_client_that_leaves_in_the_line_takes_nobodys_turn(postman: Postman) -> None:
    limited(postman, Mode.DIRECT, patience=100.0, messages_per_minute=1)
    assert (await submit(postman)).code == 250
    desk = Desk("relay.test", postman.office, postman, History(postman.queue))
    submission = desk.open(CLIENT, envelope_of(SUPPORT), arrival_now())
    waiting = asyncio.create_task(submission.complete(MESSAGE))
    while submission._waiting is None:  # noqa: ASYNC110  what is waited for knows no event
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    submission.client_left()
    assert str(await waiting) == "451 4.4.2 The client left before the message was handed over"
    assert len(upstream_of(postman).transfers) == 1


async def test_what_a_failure_leaves_of_the_budget_is_there_for_the_next(postman: Postman) -> None:
    limited(postman, Mode.DIRECT, recipients_per_day=1)
    upstream, accepted = upstream_of(postman), upstream_of(postman).outcome
    refusal = Failure(phase=Phase.RCPT, reply=Reply(550, "5.1.1", "no"), meaning=Meaning.REFUSED, from_server=True)
    upstream.outcome = Outcome(host="h", failure=refusal)
    assert (await submit(postman)).code == 550
    upstream.outcome = accepted
    assert (await submit(postman)).code == 250
    assert (await submit(postman)).code == 451


async def test_a_message_for_many_goes_in_parts_each_for_its_recipients(postman: Postman) -> None:
    limited(postman, recipients_per_message=2)
    id_ = queued_id(await submit(postman, envelope_of(SUPPORT, FIVE)))
    message = await message_of(postman, id_)
    assert [one.state for one in message.recipients] == ["delivered"] * 2 + ["queued"] * 3
    async with dispatching(postman) as dispatcher:
        dispatcher.wake()
        await reached(postman, id_, State.DELIVERED)
    named = [[str(one.address) for one in transfer.recipients] for transfer in upstream_of(postman).transfers]
    assert named == [FIVE.split(",")[:2], FIVE.split(",")[2:4], FIVE.split(",")[4:]]


async def test_a_refused_part_does_not_keep_the_others_back(postman: Postman) -> None:
    limited(postman, recipients_per_message=2)
    upstream = upstream_of(postman)
    refusal = Failure(phase=Phase.RCPT, reply=Reply(550, "5.1.1", "no"), meaning=Meaning.REFUSED, from_server=True)
    upstream.outcome = Outcome(host="h", failure=refusal, refused={0: refusal, 1: refusal})
    id_ = await stored(postman, envelope_of(SUPPORT, FIVE))
    taken = await postman.queue.claim_one(id_, str(State.SENDING))
    assert taken is not None
    await postman.attempt(taken)
    message = await message_of(postman, id_)
    assert [one.state for one in message.recipients] == ["failed"] * 2 + ["queued"] * 3
    assert message.next_attempt is not None
    assert message.next_attempt <= postman.clock()


async def test_a_login_that_is_refused_holds_all_parts(postman: Postman) -> None:
    limited(postman, recipients_per_message=2)
    no_login = Failure(
        phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True
    )
    upstream_of(postman).outcome = Outcome(host="h", failure=no_login)
    id_ = await stored(postman, envelope_of(SUPPORT, FIVE))
    taken = await postman.queue.claim_one(id_, str(State.SENDING))
    assert taken is not None
    await postman.attempt(taken)
    assert {one.state for one in (await message_of(postman, id_)).recipients} == {"held"}


async def test_what_the_day_has_no_room_for_any_more_is_left_where_it_waits(
    postman: Postman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may take the last of the day while the account's worker waits for the minute."""
    limited(postman, recipients_per_day=1)
    pacing, spent = postman.office.pacing, asyncio.Event()
    real_turn = pacing.turn

    async def turn_when_all_is_spent(server: Server, account: Account, profile: str | None) -> Turn | None:
        turn, of_a_client = await real_turn(server, account, profile), await real_turn(server, account, profile)
        if of_a_client is not None:
            await of_a_client.charge(1)
            spent.set()
        return turn

    monkeypatch.setattr(pacing, "turn", turn_when_all_is_spent)
    id_ = await stored(postman)
    async with dispatching(postman) as dispatcher:
        dispatcher.wake()
        await asyncio.wait_for(spent.wait(), 10)
        await asyncio.sleep(0.1)
        message = await message_of(postman, id_)
    assert (message.state, message.fence) == (State.QUEUED, 0)


async def test_what_the_day_has_no_room_for_waits_without_an_attempt(postman: Postman) -> None:
    limited(postman, recipients_per_day=3)
    id_ = queued_id(await submit(postman, envelope_of(SUPPORT, FIVE)))  # it does not go as a whole
    async with dispatching(postman) as dispatcher:
        dispatcher.wake()
        async with asyncio.timeout(10):
            while (await message_of(postman, id_)).attempts == 0:  # noqa: ASYNC110  the store knows no event
                await asyncio.sleep(0.01)
        await reached(postman, id_, State.QUEUED)
        second = queued_id(await submit(postman))
        taken = await postman.queue.claim_one(second, str(State.SENDING))
        assert taken is not None
        await postman.attempt(taken)
    assert await postman.queue.attempts(second) == ()
    assert await state_of(postman, second) == State.QUEUED
    message = await message_of(postman, id_)
    assert [one.state for one in message.recipients] == ["delivered"] * 3 + ["queued"] * 2
    assert len(upstream_of(postman).transfers) == 1


async def test_a_slow_account_delays_no_other(postman: Postman) -> None:
    limited(postman, Mode.QUEUED, messages_per_minute=1)
    other = envelope_of("news@acmejets.example")  # by another server
    slow = [await stored(postman) for _ in range(3)]
    quick = [await stored(postman, other) for _ in range(5)]
    async with dispatching(postman) as dispatcher:
        dispatcher.wake()
        for id_ in quick:
            await reached(postman, id_, State.DELIVERED)
    states = [await state_of(postman, id_) for id_ in slow]
    assert sorted(states) == ["delivered", "queued", "queued"]


async def test_direct_does_not_ask_a_server_that_asked_for_a_pause(postman: Postman) -> None:
    limited(postman, Mode.DIRECT)
    slower = Failure(phase=Phase.MAIL, reply=Reply(421, "4.7.0", "slow"), meaning=Meaning.THROTTLE, from_server=True)
    upstream, accepted = upstream_of(postman), upstream_of(postman).outcome
    upstream.outcome = Outcome(host="h", failure=slower)
    said = "451 4.7.0 The outgoing mail server asks for a slower pace; please try again later"
    assert [str(await submit(postman)) for _ in range(3)] == [said] * 3
    assert len(upstream.transfers) == 1
    now = postman.clock()
    postman.books.clock = lambda: now + timedelta(seconds=31)
    upstream.outcome = accepted
    assert (await submit(postman)).code == 250
    assert upstream.transfers[-1].server.max_connections == 2  # half of them, until more got through


async def test_what_waits_for_the_days_budget_is_warned_about_and_given_up(
    postman: Postman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is tried for it, and its sender is told as of every other mail: waiting for a limit is no hold."""
    limited(postman, recipients_per_day=1)
    postman.books.office = postman.office
    monkeypatch.setattr(lateness, "_EVERY_SECONDS", 0.0)
    assert (await submit(postman)).text.startswith("Ok: delivered")
    id_ = queued_id(await submit(postman))
    before = await message_of(postman, id_)

    async def kinds() -> list[str]:
        found = await postman.queue.search(limit=9)
        return sorted(one.subject.rpartition(" ")[2] for one in found if one.is_report)

    async with dispatching(postman) as dispatcher:
        for hours, expected in ((3, []), (5, ["delayed"]), (50, ["delayed"]), (97, ["delayed", "failed"])):
            postman.books.clock = lambda hours=hours: before.created + timedelta(hours=hours)  # type: ignore[misc]
            dispatcher.wake()
            async with asyncio.timeout(10):
                while await kinds() != expected:  # noqa: ASYNC110  the store knows no event
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert await kinds() == expected
            if hours < 97:
                after = await message_of(postman, id_)
                assert (after.state, after.attempts, after.next_attempt) == (State.QUEUED, 0, before.next_attempt)
        await reached(postman, id_, State.FAILED)
    sent = [one for one in upstream_of(postman).transfers if one.sender is not None]
    assert len(sent) == 1


async def test_time_spent_held_is_not_spent_waiting_for_a_budget(postman: Postman) -> None:
    limited(postman, recipients_per_day=1)
    assert (await submit(postman)).text.startswith("Ok: delivered")
    id_ = queued_id(await submit(postman))
    message = await message_of(postman, id_)
    assert await postman.queue.edit(id_, by_hand.hold(message.created))
    assert await postman.queue.edit(id_, by_hand.release(message.created + timedelta(hours=3)))

    async def late(hours: float) -> list[str]:
        now = message.created + timedelta(hours=hours)
        wanted = Late(now, 4 * 3600, 96 * 3600, "unknown")
        found = await postman.queue.claim_late(["support"], wanted, 9, now, "sending")
        for one in found:
            await postman.queue.release_lease(one.id, one.fence, "queued")
        return [one.id for one in found]

    assert [await late(hours) for hours in (6.9, 7.1)] == [[], [id_]]


async def test_what_is_left_of_a_message_that_is_given_up_waits_for_a_person(postman: Postman) -> None:
    id_ = await stored(postman, envelope_of(SUPPORT, "one@there.example,two@there.example"))
    (message,) = await postman.queue.claim(["support"], 1, postman.clock(), "sending")
    twice = replace(message.recipients[0], state="held", meaning="unknown")
    postman.books.clock = lambda: message.created + timedelta(days=5)
    await postman.put_off(replace(message, recipients=(twice, message.recipients[1])), "no room")
    after = await message_of(postman, id_)
    assert (after.state, after.next_attempt, after.recipients[1].state) == (State.HELD, None, State.FAILED)
    assert after.attempts == 0
