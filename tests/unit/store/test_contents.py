import asyncio
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.content import Content, InMemory
from relay.store.db.errors import StoreError
from relay.store.queue.contents import LONGEST_PIECE, _pieces
from relay.store.queue.messages import NewMessage, NoContent
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
