"""What goes over the wire. Invariant: undoing the dot-stuffing gives back the very content, whatever it is and
however it is cut into chunks, and nothing but the end looks like the end.
"""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import Address
from relay.upstream.transaction import CHUNK_END, FINAL_DOT, chunk, path, pieces

LINES = st.lists(st.one_of(st.sampled_from([b"", b".", b"..", b".x", b"x."]), st.binary(max_size=12)), max_size=12)
CUTS = st.lists(st.integers(min_value=0, max_value=200), max_size=6)


def canonical(lines: list[bytes]) -> bytes:
    clean = (line.replace(b"\r", b"r").replace(b"\n", b"n") for line in lines)
    return b"".join(line + b"\r\n" for line in clean)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(place for place in cuts if place < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def unstuffed(raw: bytes) -> bytes:
    """What a server makes of the bytes after 354 (RFC 5321 section 4.5.2)."""
    lines = raw.removesuffix(b".\r\n").split(b"\r\n")[:-1]
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines)


@given(lines=LINES, cuts=CUTS)
def test_unstuffing_gives_the_content_back(lines: list[bytes], cuts: list[int]) -> None:
    content = canonical(lines)
    raw = b"".join(pieces(cut(content, cuts))) + FINAL_DOT
    assert unstuffed(raw) == content
    assert raw.find(b"\r\n.\r\n") in {-1, len(raw) - 5}
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")


@pytest.mark.parametrize(
    ("chunks", "raw"),
    [
        ([], b".\r\n"),
        ([b"a\r\n"], b"a\r\n.\r\n"),
        ([b".\r\n"], b"..\r\n.\r\n"),
        ([b"a\r\n", b".\r\n"], b"a\r\n..\r\n.\r\n"),
        ([b"a\r\n", b"", b".b\r\n"], b"a\r\n..b\r\n.\r\n"),
        ([b"a\r", b"\n.\r\n"], b"a\r\n..\r\n.\r\n"),
        ([b"a\r", b"\n", b".\r\n"], b"a\r\n..\r\n.\r\n"),
        ([b"a\r\n.", b"\r\n"], b"a\r\n..\r\n.\r\n"),
        ([b"a.", b".b\r\n"], b"a..b\r\n.\r\n"),
        ([b"no end"], b"no end\r\n.\r\n"),
        ([b"no end ", b"."], b"no end .\r\n.\r\n"),
    ],
)
def test_a_dot_at_the_start_of_a_line_is_doubled(chunks: list[bytes], raw: bytes) -> None:
    assert b"".join(pieces(chunks)) + FINAL_DOT == raw


def test_a_small_message_is_one_piece() -> None:
    assert len(list(pieces([b"a: b\r\n\r\n", b"text\r\n"]))) == 1


def test_a_line_end_on_the_border_of_a_large_chunk_is_seen() -> None:
    for shift in range(4):
        content = b"x" * (128 * 1024 - shift) + b"\r\n.\r\n"
        assert b"".join(pieces([content])) == content.replace(b"\r\n.", b"\r\n..")


def test_a_large_message_is_copied_piece_by_piece_only() -> None:
    body = (*[b"x" * 70 * 1024 + b"\r\n.\r\n"] * 100, b"y" * 5_000_000 + b"\r\n")
    tracemalloc.start()
    lengths = [len(piece) for piece in pieces(body)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(lengths) == sum(map(len, body)) + 100
    assert max(lengths) <= 256 * 1024
    assert peak < 1024 * 1024


@given(lines=LINES.filter(bool), cuts=CUTS)
def test_a_chunk_is_the_content_itself(lines: list[bytes], cuts: list[int]) -> None:
    content = canonical(lines)
    raw = b"".join(chunk(cut(content, cuts), len(content))) + CHUNK_END
    assert raw == b"BDAT %d LAST\r\n" % len(content) + content


@pytest.mark.parametrize(
    ("chunks", "size"),
    [
        ([b"a\r\n"], 4),
        ([b"a\r\n"], 2),
        ([b"a\r\n", b"more\r\n"], 3),
        ([b"no end"], 6),
        ([b"a\r", b"\n", b"b"], 4),
        ([], 0),
    ],
)
def test_a_chunk_of_another_size_or_without_an_end_is_none(chunks: list[bytes], size: int) -> None:
    with pytest.raises(ValueError, match="octets"):
        list(chunk(chunks, size))


def test_a_message_that_turns_out_too_large_is_stopped_within_its_chunk() -> None:
    left: list[bytes] = []
    with pytest.raises(ValueError, match="octets"):
        left.extend(chunk([b"x" * 70 * 1024 + b"\r\n"] * 3, 100 * 1024))
    assert 0 < len(b"".join(left).partition(b"\r\n")[2]) < 100 * 1024


def test_a_large_chunk_leaves_in_pieces() -> None:
    body = [b"x" * 70 * 1024 + b"\r\n"] * 30
    lengths = [len(piece) for piece in chunk(body, sum(map(len, body)))]
    assert len(lengths) > 10
    assert max(lengths) <= 256 * 1024


@pytest.mark.parametrize("text", ["a@b.example", '"a b"@b.example', "ü@bücher.example", "a@[127.0.0.1]"])
def test_a_path_is_the_address_as_it_was_written(text: str) -> None:
    assert path(Address.parse(text)) == f"<{text}>"


def test_the_null_sender_is_an_empty_path() -> None:
    assert path(None) == "<>"
