import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.content import Content
from relay.store.contents import LONGEST_PIECE, _pieces
from relay.store.messages import NewMessage
from tests.store.store_kit import StorePlace, new_message, open_queue

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
