"""The digest of a message: the same however its content is cut, and another for every change of it."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from relay.mail.address import Address
from relay.mail.content import Content
from relay.store.db.tables import content, messages, recipients
from relay.store.queue.contents import digest_of
from relay.store.queue.messages import Damaged, NewMessage
from relay.store.queue.queue import Queue
from tests.unit.store.store_kit import new_message

MESSAGE = new_message("one", to=("bob@there.example", "eve@there.example"))
CONTENT = Content(b"Subject: x\r\n", (b"first\r\n", b"second\r\n"))


def test_how_a_body_is_cut_is_no_matter() -> None:
    whole = CONTENT._replace(body=(b"first\r\nsecond\r\n",))
    assert digest_of("one", MESSAGE.envelope, CONTENT) == digest_of("one", MESSAGE.envelope, whole)


def test_every_change_is_another_digest() -> None:
    envelope = MESSAGE.envelope
    found = [
        digest_of("one", envelope, CONTENT),
        digest_of("two", envelope, CONTENT),
        digest_of("one", replace(envelope, sender=None), CONTENT),
        digest_of("one", replace(envelope, sender=Address.parse("x@acmejets.example")), CONTENT),
        digest_of("one", envelope.to(envelope.recipients[:1]), CONTENT),
        digest_of("one", envelope, CONTENT._replace(body=(b"first\r\n",))),
        digest_of("one", envelope, Content(b"Subject: x\r\nfirst\r\n", (b"second\r\n",))),
        digest_of("one", envelope, CONTENT._replace(header=b"Subject: y\r\n")),
    ]
    assert len(set(found)) == len(found)


async def test_what_is_read_is_compared(queue: Queue) -> None:
    large = Content(b"Subject: x\r\n", tuple(b"x" * 65536 for _ in range(40)))
    await queue.add(NewMessage(message=MESSAGE, content=CONTENT))
    await queue.add(NewMessage(message=new_message("large"), content=large))
    for id_ in ("one", "large"):
        message = await queue.message(id_)
        assert message is not None
        assert (await queue.content_to_send(message)).size
        assert await queue.look_into(message)


@pytest.mark.parametrize("what", ["piece", "sender", "recipient"])
async def test_damage_is_noticed_and_an_older_message_is_not_checked(what: str, queue: Queue) -> None:
    await queue.add(NewMessage(message=MESSAGE, content=CONTENT))
    harm = {
        "piece": update(content).where(content.c.number == 1).values(piece=b"first\r\nsecomd\r\n"),
        "sender": update(messages).values(sender="supporu@acmejets.example"),
        "recipient": update(recipients).where(recipients.c.number == 1).values(address="evf@there.example"),
    }[what]
    await queue._database.write(lambda connection: connection.execute(harm))
    message = await queue.message("one")
    assert message is not None
    for read in (queue.content_to_send, queue.look_into):
        with pytest.raises(Damaged):
            await read(message)
    older = replace(message, digest=None)
    assert (await queue.content_to_send(older)).size
    assert await queue.look_into(older) is None
