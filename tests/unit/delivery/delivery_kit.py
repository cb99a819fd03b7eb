"""Messages for a delivery, and what became of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from relay.delivery.account_worker import Claims
from relay.delivery.events import Journey
from relay.delivery.outcome import State
from relay.delivery.preparation import Draft, Submitted, header_of
from relay.delivery.queue_runner import QueueRunner
from relay.directory.model import Account, Meaning, Mode
from relay.directory.routing import Routing
from relay.directory.rules.validation import parse_directory
from relay.mail.dsn_parameters import Notify
from relay.mail.envelope import Envelope
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id
from relay.store.queue.messages import NewMessage, StoredMessage
from relay.upstream.outcome import Failure, Phase
from tests.unit.delivery.bench_kit import (
    CLIENT,
    DIRECTORY,
    MESSAGE,
    DeliveryKit,
    FakeUpstream,
    arrival_now,
    complete,
    envelope_of,
)


def limited(delivery: DeliveryKit, mode: Mode = Mode.AUTO, patience: float = 15.0, **limits: Any) -> list[Journey]:
    """Give the server of support these limits, and return the list that journeys will be in."""
    servers = {**DIRECTORY["servers"], "acmejets": {**DIRECTORY["servers"]["acmejets"], **limits}}
    routing = Routing(parse_directory({**DIRECTORY, "servers": servers}, "directory.toml"))
    journeys: list[Journey] = []
    delivery.use(routing)
    acceptance = delivery.acceptance
    acceptance.mode, acceptance.tell = mode, journeys.append
    acceptance.patience = acceptance.direct_patience = patience
    return journeys


ACCOUNT = Account("acmejets", "support@acmejets.example")
NO_LOGIN = Failure(phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True)


@asynccontextmanager
async def dispatching(delivery: DeliveryKit, claims: Claims | None = None) -> AsyncIterator[QueueRunner]:
    runner = QueueRunner(delivery.attempts, claims)
    delivery.acceptance.is_behind = runner.is_behind
    task = asyncio.create_task(runner.run())
    yield runner
    await runner.stop()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def reached(delivery: DeliveryKit, id_: str, state: State) -> None:
    """Wait until a message is in a state."""
    async with asyncio.timeout(10):
        while await state_of(delivery, id_) != state:  # noqa: ASYNC110  the store knows no event
            await asyncio.sleep(0.01)


def asking(notify: str) -> Envelope:
    envelope = envelope_of(SENDER)
    return replace(envelope, recipients=tuple(replace(one, notify=Notify(notify)) for one in envelope.recipients))


async def submit(delivery: DeliveryKit, notify: str) -> Reply:
    acceptance = delivery.acceptance
    return await complete(acceptance.open(CLIENT, asking(notify), arrival_now()), MESSAGE)


SENDER = "support@acmejets.example"


async def stored(delivery: DeliveryKit, envelope: Envelope | None = None) -> str:
    """Put a message in the queue, due now, and return its id."""
    now = delivery.clock()
    arrival = Arrival("client", "127.0.0.1", "relay.test", "ESMTP", new_id(now), now)
    submitted = Submitted(CLIENT, arrival, envelope or envelope_of(SENDER), MESSAGE)
    header = header_of(MESSAGE)
    route = delivery.acceptance.route_of_message(CLIENT, submitted.envelope, header)
    prepared = delivery.attempts.prepare(submitted, header, route)
    await delivery.queue.add(
        NewMessage(message=Draft(submitted, header, prepared, MESSAGE.size).queued(now), content=MESSAGE)
    )
    return arrival.id


async def message_of(delivery: DeliveryKit, id_: str) -> StoredMessage:
    """Return a message as the store has it."""
    message = await delivery.queue.message(id_)
    assert message is not None
    return message


async def state_of(delivery: DeliveryKit, id_: str) -> str:
    """Return the state of a message."""
    return (await message_of(delivery, id_)).state


def upstream_of(delivery: DeliveryKit) -> FakeUpstream:
    """Return the upstream that the fixture gave."""
    assert isinstance(delivery.attempts.upstream, FakeUpstream)
    return delivery.attempts.upstream
