"""An attempt from the queue, with a store that fails in the middle of it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.delivery import postman as module
from relay.delivery.accounts import Accounts
from relay.delivery.drafts import draft
from relay.delivery.lifecycle import State
from relay.delivery.office import Office
from relay.delivery.parcel import Handed, header_of, pack
from relay.delivery.postman import Postman
from relay.delivery.reporter import Reporter
from relay.delivery.schedule import Schedule
from relay.directory.routing import Routing
from relay.directory.rules import parse_directory
from relay.mail.identity import Mismatch
from relay.mail.trace import Arrival, new_id
from relay.secrets.keeper import SecretKeeper
from relay.secrets.key_source import KeyFile
from relay.secrets.vault import Vault
from relay.settings import Delivery
from relay.store.database import open_database
from relay.store.errors import StoreFull
from relay.store.messages import NewMessage, StoredMessage
from relay.store.queue import Queue
from relay.store.secrets import SecretTable
from tests.delivery.test_submission import CLIENT, DIRECTORY, MESSAGE, FakeUpstream, envelope_of

SENDER = "support@acmejets.example"


@pytest.fixture
async def postman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Postman]:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(module, "_TROUBLE_SECONDS", 0.01)
    database = await open_database(tmp_path / "relay.db")
    vault = await Vault.open(SecretTable(database), KeyFile(tmp_path / "master.key"))
    routing = Routing(parse_directory(DIRECTORY, "directory.toml"))
    office = Office(
        routing=lambda: routing,
        secrets=SecretKeeper(vault, {}, tmp_path),
        upstream=FakeUpstream(),
        tell=lambda _: None,
        mismatch=Mismatch.REWRITE,
    )
    schedule = Schedule.of(Delivery())
    queue = Queue(database, "test")
    yield Postman(office, queue, Accounts(schedule), schedule, Reporter("relay.test", schedule))
    await queue.aclose()
    await database.close()


async def stored(postman: Postman) -> str:
    """Put a message in the queue, due now, and return its id."""
    now = datetime.now(UTC)
    arrival = Arrival("client", "127.0.0.1", "relay.test", "ESMTP", new_id(now), now)
    handed = Handed(CLIENT, arrival, envelope_of(SENDER), MESSAGE)
    header, sender = header_of(MESSAGE), handed.envelope.sender
    assert sender is not None
    parcel = pack(postman.office, handed, header, postman.office.find_route(CLIENT, sender))
    await postman.queue.add(NewMessage(message=draft(handed, header, parcel, now), content=MESSAGE))
    return arrival.id


async def claimed(postman: Postman) -> list[StoredMessage]:
    return await postman.queue.claim(["support"], 5, datetime.now(UTC), str(State.SENDING))


async def state_of(postman: Postman, id_: str) -> str:
    message = await postman.queue.message(id_)
    assert message is not None
    return message.state


async def test_an_attempt_delivers(postman: Postman) -> None:
    id_ = await stored(postman)
    (message,) = await claimed(postman)
    await postman.attempt(message)
    assert await state_of(postman, id_) == State.DELIVERED
    assert await claimed(postman) == []


@pytest.mark.parametrize("step", ["content", "begin_attempt"])
async def test_a_store_that_fails_before_the_attempt_gives_the_message_back(
    step: str, postman: Postman, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await stored(postman)
    (message,) = await claimed(postman)
    fail_once(postman, step, monkeypatch)
    await postman.attempt(message)
    assert await state_of(postman, id_) == State.QUEUED
    (again,) = await claimed(postman)
    await postman.attempt(again)
    assert await state_of(postman, id_) == State.DELIVERED


async def test_an_outcome_is_written_down_when_the_store_is_back(
    postman: Postman, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await stored(postman)
    (message,) = await claimed(postman)
    fail_once(postman, "settle", monkeypatch)
    async with asyncio.timeout(5):
        await postman.attempt(message)
    assert await state_of(postman, id_) == State.DELIVERED


def fail_once(postman: Postman, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one method of the queue fail the first time, as on a full disk."""
    real = getattr(postman.queue, step)
    left = [1]

    async def failing(*args: Any, **keys: Any) -> Any:
        if left:
            left.pop()
            raise StoreFull("the disk is full")
        return await real(*args, **keys)

    monkeypatch.setattr(postman.queue, step, failing)
