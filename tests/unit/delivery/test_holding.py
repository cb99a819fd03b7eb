"""What an account's hold does to mail that pauses because a server may already have it."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from relay import log
from relay.delivery.holds import lift
from relay.delivery.outcome import State
from relay.directory.model import Account, Meaning
from relay.mail.address import Address
from relay.mail.reply import Reply
from relay.system.clock import utc_now
from relay.upstream.outcome import Failure, Outcome, Phase
from tests.unit.delivery.bench_kit import DeliveryKit, envelope_of
from tests.unit.delivery.delivery_kit import (
    ACCOUNT,
    NO_LOGIN,
    dispatching,
    message_of,
    reached,
    state_of,
    stored,
    upstream_of,
)

LOST = Failure(phase=Phase.FINAL, reply=Reply(451, "4.4.2", "lost"), meaning=Meaning.UNKNOWN, from_server=False)


async def test_a_lifted_hold_leaves_a_lost_answer_its_pause(delivery: DeliveryKit) -> None:
    """The server may have the message: a hold that comes and goes meanwhile is no reason to send it earlier."""
    upstream, accepted = upstream_of(delivery), upstream_of(delivery).outcome
    async with dispatching(delivery) as runner:
        upstream.outcome = Outcome(host="127.0.0.1", failure=LOST)
        pausing = await stored(delivery)
        runner.wake()
        await reached(delivery, pausing, State.UNKNOWN)
        before = await message_of(delivery, pausing)

        upstream.outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
        for _ in range(2):  # one meets the refusal, the other the hold
            held = await stored(delivery)
            runner.wake()
            await reached(delivery, held, State.HELD)

        upstream.outcome = accepted
        await lift(delivery.queue, delivery.accounts, ACCOUNT, delivery.clock(), with_pairs=True)
        runner.wake()
        await reached(delivery, held, State.DELIVERED)
        assert await message_of(delivery, pausing) == before

        delivery.recorder.clock = lambda: utc_now() + timedelta(minutes=31)
        runner.wake()
        await reached(delivery, pausing, State.DELIVERED)


async def test_a_pause_that_ends_under_a_hold_waits_for_the_hold(delivery: DeliveryKit) -> None:
    upstream, accepted = upstream_of(delivery), upstream_of(delivery).outcome
    async with dispatching(delivery) as runner:
        upstream.outcome = Outcome(host="127.0.0.1", failure=LOST)
        pausing = await stored(delivery)
        runner.wake()
        await reached(delivery, pausing, State.UNKNOWN)
        upstream.outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
        held = await stored(delivery)
        runner.wake()
        await reached(delivery, held, State.HELD)

        delivery.recorder.clock = lambda: utc_now() + timedelta(minutes=31)
        runner.wake()
        await reached(delivery, pausing, State.HELD)

        upstream.outcome = accepted
        await lift(delivery.queue, delivery.accounts, ACCOUNT, delivery.clock(), with_pairs=True)
        runner.wake()
        await reached(delivery, pausing, State.DELIVERED)


async def test_what_was_under_way_when_a_hold_began_does_not_lift_it(delivery: DeliveryKit) -> None:
    """It may use a connection that logged in before, while every new login is refused and counts at the provider."""
    upstream, accepted = upstream_of(delivery), upstream_of(delivery).outcome
    for _ in range(2):
        await stored(delivery)
    slow, refused = await delivery.queue.claim(["support"], 2, delivery.clock(), str(State.SENDING))
    upstream.gate = asyncio.Event()
    under_way = asyncio.create_task(delivery.attempts.try_stored(slow))
    await upstream.began.wait()
    gate, upstream.gate = upstream.gate, None
    upstream.outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
    await delivery.attempts.try_stored(refused)
    upstream.outcome = accepted
    gate.set()
    await under_way
    assert await state_of(delivery, slow.id) == State.DELIVERED
    assert [hold.meaning for hold in delivery.accounts.holds()] == [Meaning.LOGIN_REFUSED]
    assert await state_of(delivery, refused.id) == State.HELD


async def test_a_probe_that_succeeds_leaves_an_address_held_that_only_a_person_can_release(
    delivery: DeliveryKit,
) -> None:
    now, account = delivery.clock(), ACCOUNT
    pair = replace(NO_LOGIN, meaning=Meaning.IDENTITY_REFUSED)
    delivery.accounts.hold(account, Address.parse("other@acmejets.example"), pair, "", now)
    delivery.accounts.hold(account, Address.parse("support@acmejets.example"), NO_LOGIN, "", now)
    await stored(delivery)
    (message,) = await delivery.queue.claim(["support"], 1, delivery.clock(), str(State.SENDING))
    await delivery.attempts.try_stored(message)
    assert [hold.address for hold in delivery.accounts.holds()] == ["other@acmejets.example"]
    assert await lift(delivery.queue, delivery.accounts, account, now, with_pairs=True)
    assert delivery.accounts.holds() == ()


async def test_a_fault_of_ours_does_not_end_the_queue_runner(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("queue_runner", "account_worker"):
        monkeypatch.setattr(f"relay.delivery.{part}._TROUBLE_SECONDS", 0.01)
    faults = [delivery.queue.due_times, delivery.queue.claim]

    def fail_once(name: str) -> None:
        real = getattr(delivery.queue, name)

        async def failing(*args: Any, **keys: Any) -> Any:
            if real in faults:
                faults.remove(real)
                raise ZeroDivisionError
            return await real(*args, **keys)

        monkeypatch.setattr(delivery.queue, name, failing)

    fail_once("due_times")
    fail_once("claim")
    id_ = await stored(delivery)
    async with dispatching(delivery):
        await reached(delivery, id_, State.DELIVERED)
    assert faults == []


async def test_a_refused_login_is_one_login_however_many_messages_are_about_to_try_it(delivery: DeliveryKit) -> None:
    """Providers lock accounts after a few wrong passwords, and what was claimed before knows of no hold yet."""
    upstream = upstream_of(delivery)
    upstream.outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
    for _ in range(3):
        await stored(delivery)
    first, second, third = await delivery.queue.claim(["support"], 3, delivery.clock(), str(State.SENDING))
    begin = delivery.queue.begin_attempt

    async def begin_late(*args: Any) -> None:
        await begin(*args)
        if args[0] == second.id:
            await delivery.attempts.try_stored(first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery.queue, "begin_attempt", begin_late)
        await delivery.attempts.try_stored(second)
    await delivery.attempts.try_stored(third)
    assert len(upstream.transfers) == 1
    for message in (first, second, third):
        after = await message_of(delivery, message.id)
        assert (after.state, after.held_by) == (State.HELD, str(ACCOUNT))
        assert after.reason == "login-refused: 535 5.7.8 no"
    (attempt,) = await delivery.queue.attempts(second.id)
    assert attempt.ended is not None
    assert attempt.reply.startswith("451 4.7.8 the account was held just before this attempt")


async def test_one_message_alone_is_the_probe(delivery: DeliveryKit) -> None:
    upstream = upstream_of(delivery)
    upstream.outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
    await stored(delivery)
    (first,) = await delivery.queue.claim(["support"], 1, delivery.clock(), str(State.SENDING))
    await delivery.attempts.try_stored(first)
    (hold,) = delivery.accounts.holds()
    delivery.accounts.begin_probe(hold, delivery.clock())
    upstream.transfers.clear()
    upstream.outcome = Outcome(
        host="127.0.0.1", failure=replace(NO_LOGIN, phase=Phase.CONNECT, meaning=Meaning.TEMPORARY)
    )
    for _ in range(3):
        await stored(delivery)
    for message in await delivery.queue.claim(["support"], 3, delivery.clock(), str(State.SENDING)):
        await delivery.attempts.try_stored(message)
    assert len(upstream.transfers) == 1, "it could not tell, and the others wait for the next probe"


async def test_a_used_up_quota_is_tried_by_one_message_when_its_window_is_over(delivery: DeliveryKit) -> None:
    upstream, accepted = upstream_of(delivery), upstream_of(delivery).outcome
    quota = replace(NO_LOGIN, phase=Phase.MAIL, meaning=Meaning.QUOTA)
    async with dispatching(delivery) as runner:
        upstream.outcome = Outcome(host="127.0.0.1", failure=quota)
        ids = []
        for _ in range(3):
            ids.append(await stored(delivery))
            runner.wake()
            await reached(delivery, ids[-1], State.HELD)
        assert len(upstream.transfers) == 1

        delivery.recorder.clock = lambda: utc_now() + timedelta(minutes=61)
        runner.wake()
        async with asyncio.timeout(10):
            while len(upstream.transfers) < 2:  # noqa: ASYNC110  the upstream knows no event
                await asyncio.sleep(0.01)
        await reached(delivery, ids[0], State.HELD)
        (hold,) = delivery.accounts.holds()
        assert hold.until is not None
        assert hold.until > delivery.clock() + timedelta(minutes=59)
        assert len(upstream.transfers) == 2

        upstream.outcome = accepted
        delivery.recorder.clock = lambda: utc_now() + timedelta(minutes=130)
        runner.wake()
        for id_ in ids:
            await reached(delivery, id_, State.DELIVERED)
    first = await message_of(delivery, ids[0])
    assert 125 * 60 < first.held_seconds < 131 * 60, "which counts for neither a warning nor giving up"


async def test_a_copy_that_is_held_for_itself_is_not_freed_with_its_account(delivery: DeliveryKit) -> None:
    """The server may have it twice, whatever becomes of the account that its message waits for too."""
    upstream, accepted = upstream_of(delivery), upstream_of(delivery).outcome
    busy = Failure(phase=Phase.RCPT, reply=Reply(450, "4.2.0", "busy"), meaning=Meaning.TEMPORARY, from_server=True)
    lost = Outcome(host="127.0.0.1", accepted=accepted.accepted, refused={0: LOST, 1: busy})
    id_ = await stored(delivery, envelope_of("support@acmejets.example", "one@there.example,two@there.example"))

    async def attempt() -> None:
        (message,) = await delivery.queue.claim(["support"], 1, delivery.clock(), str(State.SENDING))
        await delivery.attempts.try_stored(message)

    async def copies() -> list[str]:
        return [one.state for one in (await message_of(delivery, id_)).recipients]

    for hours in (0, 1):
        delivery.recorder.clock = lambda hours=hours: utc_now() + timedelta(hours=hours)  # type: ignore[misc]
        upstream.outcome = lost
        await attempt()
    assert await copies() == ["held", "queued"]
    delivery.recorder.clock = lambda: utc_now() + timedelta(hours=2)
    upstream.outcome = Outcome(host="127.0.0.1", failure=NO_LOGIN)
    await attempt()
    assert await copies() == ["held", "held"]
    assert (await message_of(delivery, id_)).held_by == str(ACCOUNT)

    upstream.outcome = accepted
    await lift(delivery.queue, delivery.accounts, ACCOUNT, delivery.clock(), with_pairs=True)
    assert await copies() == ["held", "queued"]
    await attempt()
    assert [str(one.address) for one in upstream.transfers[-1].recipients] == ["two@there.example"]
    message = await message_of(delivery, id_)
    assert (await copies(), message.state, message.held_by) == (["held", "delivered"], State.HELD, "")
    assert message.reason.startswith("unknown: ")


async def test_a_hold_over_an_account_that_the_directory_has_no_more_is_dropped(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(log, "released", lambda **facts: told.append(facts))
    gone, now = Account("acmejets", "gone@acmejets.example"), delivery.clock()
    quota = replace(NO_LOGIN, meaning=Meaning.QUOTA)
    for account, failure in ((gone, NO_LOGIN), (gone, replace(NO_LOGIN, meaning=Meaning.IDENTITY_REFUSED))):
        await delivery.queue.put_hold(delivery.accounts.hold(account, Address.parse("a@b.example"), failure, "", now))
    for account in (ACCOUNT, Account("nulls", "nulls@acmejets.example")):
        await delivery.queue.put_hold(delivery.accounts.hold(account, Address.parse("a@b.example"), quota, "", now))
    async with dispatching(delivery):
        async with asyncio.timeout(10):
            while not told:  # noqa: ASYNC110  the log knows no event
                await asyncio.sleep(0.01)
    assert {hold.username for hold in await delivery.queue.holds()} == {ACCOUNT.username, "nulls@acmejets.example"}
    assert {hold.username for hold in delivery.accounts.holds()} == {ACCOUNT.username, "nulls@acmejets.example"}
    assert told == [{"account": str(gone), "messages": 0, "reason": "the directory has this account no more"}]
