"""Messages for a postman, and what became of them."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from relay.delivery.carrier import Claims
from relay.delivery.desk import Desk
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.drafts import Draft
from relay.delivery.events import Journey
from relay.delivery.history import History
from relay.delivery.lifecycle import State
from relay.delivery.pace import MINUTE
from relay.delivery.parcel import Handed, header_of, pack
from relay.delivery.postman import Postman
from relay.directory.model import Account, Meaning, Mode
from relay.directory.routing import Routing
from relay.directory.rules import parse_directory
from relay.mail.envelope import Envelope
from relay.mail.notify import Notify
from relay.mail.reply import Reply
from relay.mail.trace import Arrival, new_id
from relay.store.messages import NewMessage, StoredMessage
from relay.upstream.outcome import Failure
from relay.upstream.phase import Phase
from tests.unit.delivery.bench_kit import CLIENT, DIRECTORY, MESSAGE, FakeUpstream, arrival_now, envelope_of


def most_in_a_minute(moments: Sequence[float]) -> int:
    """The most that any minute holds, wherever it begins."""
    return max((bisect_left(moments, start + MINUTE) - index for index, start in enumerate(moments)), default=0)


def limited(postman: Postman, mode: Mode = Mode.AUTO, patience: float = 15.0, **limits: Any) -> list[Journey]:
    """Give the server of support these limits, and return the list that journeys will be in."""
    servers = {**DIRECTORY["servers"], "acmejets": {**DIRECTORY["servers"]["acmejets"], **limits}}
    routing = Routing(parse_directory({**DIRECTORY, "servers": servers}, "directory.toml"))
    journeys: list[Journey] = []
    postman.office = replace(
        postman.office,
        routing=lambda: routing,
        mode=mode,
        patience=patience,
        direct_patience=patience,
        tell=journeys.append,
    )
    return journeys


ACCOUNT = Account("acmejets", "support@acmejets.example")
NO_LOGIN = Failure(phase=Phase.LOGIN, reply=Reply(535, "5.7.8", "no"), meaning=Meaning.LOGIN_REFUSED, from_server=True)


@asynccontextmanager
async def dispatching(postman: Postman, claims: Claims | None = None) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(postman, claims)
    task = asyncio.create_task(dispatcher.run())
    yield dispatcher
    await dispatcher.stop()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def reached(postman: Postman, id_: str, state: State) -> None:
    """Wait until a message is in a state."""
    async with asyncio.timeout(10):
        while await state_of(postman, id_) != state:  # noqa: ASYNC110  the store knows no event
            await asyncio.sleep(0.01)


def asking(notify: str) -> Envelope:
    envelope = envelope_of(SENDER)
    return replace(envelope, recipients=tuple(replace(one, notify=Notify(notify)) for one in envelope.recipients))


async def submit(postman: Postman, notify: str) -> Reply:
    desk = Desk("relay.test", postman.office, postman, History(postman.queue))
    return await desk.open(CLIENT, asking(notify), arrival_now()).complete(MESSAGE)


SENDER = "support@acmejets.example"


async def stored(postman: Postman, envelope: Envelope | None = None) -> str:
    """Put a message in the queue, due now, and return its id."""
    now = postman.clock()
    arrival = Arrival("client", "127.0.0.1", "relay.test", "ESMTP", new_id(now), now)
    handed = Handed(CLIENT, arrival, envelope or envelope_of(SENDER), MESSAGE)
    header = header_of(MESSAGE)
    route = postman.office.route_of_message(CLIENT, handed.envelope, header)
    parcel = pack(postman.office, handed, header, route)
    await postman.queue.add(NewMessage(message=Draft(handed, header, parcel).queued(now), content=MESSAGE))
    return arrival.id


async def message_of(postman: Postman, id_: str) -> StoredMessage:
    """Return a message as the store has it."""
    message = await postman.queue.message(id_)
    assert message is not None
    return message


async def state_of(postman: Postman, id_: str) -> str:
    """Return the state of a message."""
    return (await message_of(postman, id_)).state


def upstream_of(postman: Postman) -> FakeUpstream:
    """Return the upstream that the fixture gave."""
    assert isinstance(postman.office.upstream, FakeUpstream)
    return postman.office.upstream
