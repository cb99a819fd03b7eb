"""A message's content in pieces, and its digest: the same however it is cut, and another for every change of it."""

import asyncio
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from relay.mail.address import Address
from relay.mail.content import Content, InMemory
from relay.store.db.errors import StoreError
from relay.store.db.queue_tables import content, messages, recipients
from relay.store.queue.contents import LONGEST_PIECE, _pieces, digest_of
from relay.store.queue.messages import Damaged, NewMessage, NoContent
from relay.store.queue.queue import Queue
from tests.unit.store.store_kit import StorePlace, new_message, open_queue

MIB = 1024 * 1024


async def test_a_large_message_needs_no_memory_to_be_written_and_once_its_size_to_be_read(place: StorePlace) -> None:
    line = b"x" * 70 + b"\r\n"
    chunk = line * (128 * 1024 // len(line))
    content = Content(b"Subject: large\r\n", tuple(bytes(chunk) for _ in range(36 * 8)))
    async with open_queue(place) as queue:
        await queue.add(NewMessage(message=new_message("warm"), content=Content(b"", (b"x\r\n",))))
        tracemalloc.start()
        try:
            await queue.add(NewMessage(message=new_message("large"), content=content))
            written = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            size = 0
            async for piece in queue.chunks("large"):
                size += len(piece)
            exported = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            again = await queue.content("large")
            read = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert size == content.size == again.size
    assert written < 8 * MIB
    assert exported < 8 * MIB
    assert read < content.size + 8 * MIB


@given(st.lists(st.sampled_from([b"x", b"\r\n", b"x" * 1000, b"\r\n" * 500, b"x" * LONGEST_PIECE]), max_size=9))
def test_a_piece_is_short_and_never_splits_a_crlf(parts: list[bytes]) -> None:
    body = b"".join(parts)
    pieces = list(_pieces(Content(b"Subject: x\r\n", (body,) if body else ())))
    assert pieces[0].is_header
    assert b"".join(piece.octets for piece in pieces[1:]) == body
    assert all(not piece.is_header and 0 < len(piece.octets) <= LONGEST_PIECE for piece in pieces[1:])
    assert not any(one.octets.endswith(b"\r") and two.octets.startswith(b"\n") for one, two in pairwise(pieces))


CONTENTS = {
    "no-body": Content(b"Subject: x\r\n"),
    "no-header": Content(b"", (b"x\r\n",)),
    "small": Content(b"Subject: x\r\n", (b"x" * 100 + b"\r\n",)),
    "one-piece": Content(b"Subject: x\r\n", (b"x" * LONGEST_PIECE,)),
    "two-pieces": Content(b"Subject: x\r\n", (b"x" * LONGEST_PIECE, b"y")),
    "a-page": Content(b"Subject: x\r\n", (b"x" * LONGEST_PIECE,) * 15),
    "more": Content(b"Subject: x\r\n", (b"x" * LONGEST_PIECE,) * 40),
    **{f"many{number}": Content(b"Subject: x\r\n", (b"%d\r\n" % number,)) for number in range(50)},
}


async def test_what_is_asked_for_at_once_comes_to_who_asked(place: StorePlace) -> None:
    async with open_queue(place) as queue:
        await queue.add(*(NewMessage(message=new_message(id_), content=each) for id_, each in CONTENTS.items()))
        found = await asyncio.gather(*map(queue.content, [*CONTENTS, "missing"]), return_exceptions=True)
        for (id_, content), got in zip(CONTENTS.items(), found[:-1], strict=True):
            assert isinstance(got, Content), id_
            assert b"".join(got.chunks()) == b"".join(content.chunks()), id_
        assert isinstance(found[-1], NoContent)


async def test_who_is_cancelled_takes_the_content_from_nobody_else(place: StorePlace) -> None:
    async with open_queue(place) as queue:
        await queue.add(NewMessage(message=new_message("a"), content=CONTENTS["small"]))
        first, second = (asyncio.create_task(queue.content("a")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == CONTENTS["small"]
        with pytest.raises(asyncio.CancelledError):
            await first


class _Full(InMemory):
    """A body that finds no room for some octets."""

    def add(self, chunk: bytes) -> None:
        if chunk.startswith(b"7"):
            raise StoreError("no room for this body")
        super().add(chunk)


async def test_what_is_wrong_with_one_is_nobody_elses(place: StorePlace) -> None:
    async with open_queue(place, new_body=_Full) as queue:
        some = {id_: CONTENTS[id_] for id_ in ("many6", "many7", "many8")}
        await queue.add(*(NewMessage(message=new_message(id_), content=each) for id_, each in some.items()))
        six, seven, eight = await asyncio.gather(*map(queue.content, some), return_exceptions=True)
        assert (six, eight) == (some["many6"], some["many8"])
        assert isinstance(seven, StoreError)


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
        assert await queue.verify(message)


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
    for read in (queue.content_to_send, queue.verify):
        with pytest.raises(Damaged):
            await read(message)
    older = replace(message, digest=None)
    assert (await queue.content_to_send(older)).size
    assert await queue.verify(older) is None
