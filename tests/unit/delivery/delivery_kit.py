"""Messages for a postman, and what became of them."""

from relay.delivery.drafts import Draft
from relay.delivery.parcel import Handed, header_of, pack
from relay.delivery.postman import Postman
from relay.mail.envelope import Envelope
from relay.mail.trace import Arrival, new_id
from relay.store.messages import NewMessage, StoredMessage
from tests.unit.delivery.test_submission import CLIENT, MESSAGE, FakeUpstream, envelope_of

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
