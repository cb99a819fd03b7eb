"""NOTIFY=SUCCESS of a message that goes upstream while its client waits (RFC 3461 section 5.2.2)."""

from typing import Any

import pytest

from relay.delivery.postman import Postman
from relay.directory.model import Meaning
from relay.mail.reply import Reply
from relay.store.errors import StoreFull
from relay.store.messages import StoredMessage
from relay.upstream.outcome import Outcome
from tests.unit.delivery.bench_kit import failed
from tests.unit.delivery.delivery_kit import SENDER, submit, upstream_of


async def waiting(postman: Postman) -> list[StoredMessage]:
    return await postman.queue.list_queue(limit=10)


async def test_the_confirmation_is_in_the_queue_when_the_client_has_its_answer(postman: Postman) -> None:
    woken = []
    postman.books.on_change = lambda: woken.append(True)
    reply = await submit(postman, "SUCCESS")
    assert reply.text.startswith("Ok: delivered via ")
    (report,) = await waiting(postman)
    assert (report.is_report, report.profile) == (True, "support")
    assert [str(one.recipient.address) for one in report.recipients] == [SENDER]
    assert woken


@pytest.mark.parametrize("notify", ["NEVER", "FAILURE", "DELAY", "FAILURE,DELAY"])
async def test_who_asks_for_none_gets_none_and_nothing_is_stored(notify: str, postman: Postman) -> None:
    assert (await submit(postman, notify)).code == 250
    assert await waiting(postman) == []


async def test_a_server_with_dsn_confirms_itself(postman: Postman) -> None:
    upstream_of(postman).outcome = Outcome(host="127.0.0.1", accepted=Reply(250, "2.0.0", "Ok"), has_dsn=True)
    assert (await submit(postman, "SUCCESS")).code == 250
    assert await waiting(postman) == []


async def test_a_refusal_is_the_clients_and_needs_no_report(postman: Postman) -> None:
    upstream_of(postman).outcome = failed(Meaning.REFUSED, Reply(550, "5.1.1", "no such user")).outcome
    assert str(await submit(postman, "SUCCESS,FAILURE")) == "550 5.1.1 no such user"
    assert await waiting(postman) == []


async def test_a_full_store_costs_the_confirmation_and_not_a_second_message(
    postman: Postman, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise StoreFull("the disk is full")

    monkeypatch.setattr(postman.queue, "add", full)
    assert (await submit(postman, "SUCCESS")).code == 250
