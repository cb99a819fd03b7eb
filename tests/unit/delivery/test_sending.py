"""Mode queued: a message is on disk before its client has an answer, and leaves at once where nothing is in its way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from relay.delivery.desk import Desk
from relay.delivery.history import History
from relay.delivery.lifecycle import State
from relay.delivery.postman import Postman
from relay.delivery.sending import Sending
from relay.directory.model import Account, Meaning, Mode
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.reply import Reply
from relay.store.errors import StoreFull
from relay.store.messages import Attempt, StoredMessage
from relay.upstream.outcome import Failure, Outcome, Phase
from relay.upstream.transaction import Progress, Transfer
from tests.unit.delivery.bench_kit import CLIENT, MESSAGE, FakeUpstream, arrival_now, envelope_of
from tests.unit.delivery.delivery_kit import dispatching, message_of, reached, state_of, upstream_of

SUPPORT = "support@acmejets.example"
ACCOUNT = Account("acmejets", SUPPORT)
NO_LOGIN = Failure(phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True)


@pytest.fixture
async def queued(postman: Postman) -> AsyncIterator[Postman]:
    postman.office = replace(postman.office, mode=Mode.QUEUED)
    yield postman
    await postman.stop()


async def submit(postman: Postman, sender: str | None = SUPPORT, content: Content = MESSAGE) -> str:
    """Submit a message, and return its id. Nothing that goes on in the background has begun by then."""
    desk = Desk("relay.test", postman.office, postman, History(postman.queue))
    reply = await desk.open(CLIENT, envelope_of(sender), arrival_now()).complete(content)
    assert reply.text.startswith("Ok: queued as ")
    return reply.text.rpartition(" ")[2]


async def test_what_is_stored_goes_on_without_a_dispatcher(queued: Postman) -> None:
    gate = upstream_of(queued).gate = asyncio.Event()
    id_ = await submit(queued)
    assert await state_of(queued, id_) == State.SENDING
    gate.set()
    await reached(queued, id_, State.DELIVERED)
    (attempt,) = await queued.queue.attempts(id_)
    assert (attempt.number, attempt.server, attempt.final_dot) == (1, "acmejets", True)
    assert len(upstream_of(queued).transfers) == 1


async def test_it_is_on_disk_before_its_server_hears_of_it(queued: Postman) -> None:
    seen: list[tuple[StoredMessage | None, tuple[Attempt, ...]]] = []

    class Looking(FakeUpstream):
        async def deliver(self, transfer: Transfer, progress: Progress) -> Outcome:
            seen.append((await queued.queue.message(id_), await queued.queue.attempts(id_)))
            assert progress.before_final_dot is not None
            await progress.before_final_dot()
            seen.append((await queued.queue.message(id_), await queued.queue.attempts(id_)))
            return await super().deliver(transfer, progress)

    queued.office = replace(queued.office, upstream=Looking())
    id_ = await submit(queued)
    await reached(queued, id_, State.DELIVERED)
    assert [message.state for message, _ in seen if message] == [State.SENDING] * 2
    assert [[(one.ended, one.final_dot) for one in attempts] for _, attempts in seen] == [
        [(None, False)],
        [(None, True)],
    ]


async def test_a_store_that_takes_nothing_keeps_it_from_the_server(
    queued: Postman, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise StoreFull("the store is full")

    monkeypatch.setattr(queued.queue, "add", full)
    desk = Desk("relay.test", queued.office, queued, History(queued.queue))
    assert (await desk.open(CLIENT, envelope_of(SUPPORT), arrival_now()).complete(MESSAGE)).code == 452
    await queued.stop()
    assert upstream_of(queued).transfers == []


async def test_what_fails_waits_for_its_next_attempt(queued: Postman) -> None:
    away = Failure(phase=Phase.CONNECT, reply=Reply(451, "4.4.1", "away"), meaning=Meaning.TEMPORARY, from_server=False)
    upstream_of(queued).outcome = Outcome(host="h", failure=away)
    id_ = await submit(queued)
    await reached(queued, id_, State.QUEUED)
    message = await message_of(queued, id_)
    assert message.next_attempt is not None
    assert message.next_attempt > queued.clock()
    assert message.attempts == 1


async def test_who_comes_behind_waiting_mail_waits_behind_it(queued: Postman) -> None:
    queued.is_behind = lambda account: account == ACCOUNT
    assert await state_of(queued, await submit(queued)) == State.QUEUED
    assert upstream_of(queued).transfers == []


async def test_a_dispatcher_that_has_mail_of_the_account_says_so(queued: Postman) -> None:
    gate = upstream_of(queued).gate = asyncio.Event()
    queued.is_behind = lambda _: True
    first = await submit(queued)
    async with dispatching(queued):
        await asyncio.wait_for(upstream_of(queued).began.wait(), 10)
        assert queued.is_behind(ACCOUNT)
        second = await submit(queued)
        assert await state_of(queued, second) in {State.QUEUED, State.SENDING}
        gate.set()
        for id_ in (first, second):
            await reached(queued, id_, State.DELIVERED)
    assert not queued.is_behind(ACCOUNT)


async def test_a_null_sender_waits_for_a_way_that_some_servers_need(queued: Postman) -> None:
    content = Content(b"From: support@acmejets.example\r\n", (b"back on monday\r\n",))
    assert await state_of(queued, await submit(queued, None, content)) == State.QUEUED


async def test_a_held_account_gets_nothing(queued: Postman) -> None:
    spent = replace(NO_LOGIN, meaning=Meaning.QUOTA)
    queued.accounts.hold(ACCOUNT, Address.parse(SUPPORT), spent, "", queued.clock())
    assert await state_of(queued, await submit(queued)) == State.QUEUED  # until the dispatcher sees it


async def test_a_hold_that_comes_between_is_obeyed(queued: Postman) -> None:
    id_ = await submit(queued)
    queued.accounts.hold(ACCOUNT, Address.parse(SUPPORT), NO_LOGIN, "", queued.clock())
    await reached(queued, id_, State.HELD)
    assert upstream_of(queued).transfers == []
    (attempt,) = await queued.queue.attempts(id_)
    assert (attempt.meaning, attempt.ended is None) == ("login-refused", False)


async def test_more_than_an_account_sends_in_moments_waits_on_disk(queued: Postman) -> None:
    gate = upstream_of(queued).gate = asyncio.Event()
    states = [await state_of(queued, await submit(queued)) for _ in range(22)]
    assert states == [State.SENDING] * 20 + [State.QUEUED] * 2  # five for each of its four connections
    gate.set()


def test_room_is_by_messages_of_an_account_and_by_octets_of_all() -> None:
    sending, other = Sending(), Account("acmejets", "other")
    ends = [sending.begin(ACCOUNT, MESSAGE) for _ in range(5)]
    assert not sending.has_room(ACCOUNT, 1, MESSAGE)
    assert sending.has_room(ACCOUNT, 2, MESSAGE)
    assert sending.has_room(other, 1, MESSAGE)
    large = Content(b"", (bytes(1024),) * (31 * 1024))
    end_large = sending.begin(other, large)
    assert not sending.has_room(ACCOUNT, 2, large)
    for end in (*ends, end_large):
        end(None)
    assert sending == Sending()
