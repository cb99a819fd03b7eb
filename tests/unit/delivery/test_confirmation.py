"""NOTIFY=SUCCESS of a message that goes upstream while its client waits (RFC 3461 section 5.2.2)."""

from typing import Any

import pytest

from relay.directory.model import Meaning
from relay.mail.reply import Reply
from relay.store.db.errors import StoreFull
from relay.store.queue.messages import StoredMessage
from relay.upstream.outcome import Outcome
from tests.unit.delivery.bench_kit import DeliveryKit, failed
from tests.unit.delivery.delivery_kit import SENDER, submit, upstream_of


async def waiting(delivery: DeliveryKit) -> list[StoredMessage]:
    return await delivery.queue.list_queue(limit=10)


async def test_the_confirmation_is_in_the_queue_when_the_client_has_its_answer(delivery: DeliveryKit) -> None:
    delivery.recorder.due.clear()
    reply = await submit(delivery, "SUCCESS")
    assert reply.text.startswith("Ok: delivered via ")
    (report,) = await waiting(delivery)
    assert (report.is_report, report.profile) == (True, "support")
    assert [str(one.recipient.address) for one in report.recipients] == [SENDER]
    assert delivery.recorder.due.is_set()


@pytest.mark.parametrize("notify", ["NEVER", "FAILURE", "DELAY", "FAILURE,DELAY"])
async def test_who_asks_for_none_gets_none_and_nothing_is_stored(notify: str, delivery: DeliveryKit) -> None:
    assert (await submit(delivery, notify)).code == 250
    assert await waiting(delivery) == []


async def test_a_server_with_dsn_confirms_itself(delivery: DeliveryKit) -> None:
    upstream_of(delivery).outcome = Outcome(host="127.0.0.1", accepted=Reply(250, "2.0.0", "Ok"), has_dsn=True)
    assert (await submit(delivery, "SUCCESS")).code == 250
    assert await waiting(delivery) == []


async def test_a_refusal_is_the_clients_and_needs_no_report(delivery: DeliveryKit) -> None:
    upstream_of(delivery).outcome = failed(Meaning.REFUSED, Reply(550, "5.1.1", "no such user")).outcome
    assert str(await submit(delivery, "SUCCESS,FAILURE")) == "550 5.1.1 no such user"
    assert await waiting(delivery) == []


async def test_a_full_store_costs_the_confirmation_and_not_a_second_message(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise StoreFull("the disk is full")

    monkeypatch.setattr(delivery.queue, "add", full)
    assert (await submit(delivery, "SUCCESS")).code == 250
