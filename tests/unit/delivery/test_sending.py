"""Mode queued: a message is on disk before its client has an answer, and leaves at once where nothing is in its way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from relay.delivery.outcome import State
from relay.directory.model import Account, Meaning, Mode
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.reply import Reply
from relay.store.db.errors import StoreFull
from relay.store.queue.messages import Attempt, StoredMessage
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Transfer
from tests.unit.delivery.bench_kit import CLIENT, MESSAGE, DeliveryKit, FakeUpstream, arrival_now, complete, envelope_of
from tests.unit.delivery.delivery_kit import dispatching, message_of, reached, state_of, upstream_of

SUPPORT = "support@acmejets.example"
ACCOUNT = Account("acmejets", SUPPORT)
NO_LOGIN = Failure(phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True)


@pytest.fixture
async def queued(delivery: DeliveryKit) -> AsyncIterator[DeliveryKit]:
    delivery.acceptance.mode = Mode.QUEUED
    yield delivery
    await delivery.attempts.stop()


async def submit(
    delivery: DeliveryKit,
    sender: str | None = SUPPORT,
    content: Content = MESSAGE,
    told: Callable[[str], None] = lambda _: None,
) -> str:
    """Submit a message, and return its id. When it is `told`, nothing that goes on in the background has begun."""
    ids: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def answer(reply: Reply) -> None:
        assert reply.text.startswith("Ok: queued as ")
        id_ = reply.text.rpartition(" ")[2]
        told(id_)
        ids.set_result(id_)

    delivery.acceptance.open(CLIENT, envelope_of(sender), arrival_now()).begin(content, answer)
    return await ids


async def test_what_is_stored_goes_on_without_the_queue_runner(queued: DeliveryKit) -> None:
    gate = upstream_of(queued).gate = asyncio.Event()
    id_ = await submit(queued)
    assert await state_of(queued, id_) == State.SENDING
    gate.set()
    await reached(queued, id_, State.DELIVERED)
    (attempt,) = await queued.queue.attempts(id_)
    assert (attempt.number, attempt.server, attempt.final_dot) == (1, "acmejets", True)
    assert len(upstream_of(queued).transfers) == 1


async def test_it_is_on_disk_before_its_server_hears_of_it(queued: DeliveryKit) -> None:
    seen: list[tuple[StoredMessage | None, tuple[Attempt, ...]]] = []
    ids: list[str] = []

    class Looking(FakeUpstream):
        async def deliver(self, transfer: Transfer, progress: Progress) -> Outcome:
            (id_,) = ids
            seen.append((await queued.queue.message(id_), await queued.queue.attempts(id_)))
            assert progress.before_final_dot is not None
            await progress.before_final_dot()
            seen.append((await queued.queue.message(id_), await queued.queue.attempts(id_)))
            return await super().deliver(transfer, progress)

    queued.attempts.upstream = Looking()
    id_ = await submit(queued, told=ids.append)
    await reached(queued, id_, State.DELIVERED)
    assert [message.state for message, _ in seen if message] == [State.SENDING] * 2
    assert [[(one.ended, one.final_dot) for one in attempts] for _, attempts in seen] == [
        [(None, False)],
        [(None, True)],
    ]


async def test_a_store_that_takes_nothing_keeps_it_from_the_server(
    queued: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise StoreFull("the store is full")

    monkeypatch.setattr(queued.queue, "add", full)
    acceptance = queued.acceptance
    assert (await complete(acceptance.open(CLIENT, envelope_of(SUPPORT), arrival_now()), MESSAGE)).code == 452
    await queued.attempts.stop()
    assert upstream_of(queued).transfers == []


async def test_what_fails_waits_for_its_next_attempt(queued: DeliveryKit) -> None:
    away = Failure(phase=Phase.CONNECT, reply=Reply(451, "4.4.1", "away"), meaning=Meaning.TEMPORARY, from_server=False)
    upstream_of(queued).outcome = Outcome(host="h", failure=away)
    id_ = await submit(queued)
    await reached(queued, id_, State.QUEUED)
    message = await message_of(queued, id_)
    assert message.next_attempt is not None
    assert message.next_attempt > queued.clock()
    assert message.attempts == 1


async def test_who_comes_behind_waiting_mail_waits_behind_it(queued: DeliveryKit) -> None:
    queued.acceptance.is_behind = lambda account: account == ACCOUNT
    assert await state_of(queued, await submit(queued)) == State.QUEUED
    assert upstream_of(queued).transfers == []


async def test_a_queue_runner_that_has_mail_of_the_account_says_so(queued: DeliveryKit) -> None:
    gate = upstream_of(queued).gate = asyncio.Event()
    queued.acceptance.is_behind = lambda _: True
    first = await submit(queued)
    async with dispatching(queued):
        await asyncio.wait_for(upstream_of(queued).began.wait(), 10)
        assert queued.acceptance.is_behind(ACCOUNT)
        second = await submit(queued)
        assert await state_of(queued, second) in {State.QUEUED, State.SENDING}
        gate.set()
        for id_ in (first, second):
            await reached(queued, id_, State.DELIVERED)
    assert not queued.acceptance.is_behind(ACCOUNT)


async def test_a_null_sender_waits_for_a_way_that_some_servers_need(queued: DeliveryKit) -> None:
    content = Content(b"From: support@acmejets.example\r\n", (b"back on monday\r\n",))
    assert await state_of(queued, await submit(queued, None, content)) == State.QUEUED


async def test_a_held_account_gets_nothing(queued: DeliveryKit) -> None:
    spent = replace(NO_LOGIN, meaning=Meaning.QUOTA)
    queued.accounts.hold(ACCOUNT, Address.parse(SUPPORT), spent, "", queued.clock())
    assert await state_of(queued, await submit(queued)) == State.QUEUED  # until the queue runner sees it


async def test_a_hold_that_comes_between_is_obeyed(queued: DeliveryKit) -> None:
    def hold(_: str) -> None:
        queued.accounts.hold(ACCOUNT, Address.parse(SUPPORT), NO_LOGIN, "", queued.clock())

    id_ = await submit(queued, told=hold)
    await reached(queued, id_, State.HELD)
    assert upstream_of(queued).transfers == []
    (attempt,) = await queued.queue.attempts(id_)
    assert (attempt.meaning, attempt.ended is None) == ("login-refused", False)


async def test_more_than_an_account_sends_in_moments_waits_on_disk(queued: DeliveryKit) -> None:
    gate = upstream_of(queued).gate = asyncio.Event()
    states = [await state_of(queued, await submit(queued)) for _ in range(22)]
    assert states == [State.SENDING] * 20 + [State.QUEUED] * 2  # five for each of its four connections
    gate.set()


async def test_room_is_by_messages_of_an_account_and_by_octets_of_all(queued: DeliveryKit) -> None:
    acceptance = queued.acceptance
    support, billing = (
        acceptance.find_route(CLIENT, Address.parse(sender)) for sender in (SUPPORT, "billing@acmejets.example")
    )
    small, large = 1000, 31 * 1024 * 1024
    for _ in range(5):
        acceptance.begin_at_once(ACCOUNT, small)
    assert not acceptance.may_send_at_once(support, small, 1)
    assert acceptance.may_send_at_once(support, small, 2)
    assert acceptance.may_send_at_once(billing, small, 1)
    acceptance.begin_at_once(billing.account, large)
    assert not acceptance.may_send_at_once(support, large, 2)
    for _ in range(5):
        acceptance.end_at_once(ACCOUNT, small)
    acceptance.end_at_once(billing.account, large)
    assert acceptance.may_send_at_once(support, large, 1)
    assert (acceptance._sent_at_once, acceptance._octets_at_once) == ({}, 0)
