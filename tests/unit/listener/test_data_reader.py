"""Reading DATA. The invariant: only CRLF.CRLF ends a message, wherever the chunks are cut."""

from collections.abc import Iterable

from hypothesis import example, given
from hypothesis import strategies as st

from relay.listener.receiving import DotReader
from tests.peers.rows import each_row


def read(chunks: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Return content and rest."""
    reader, content, rest = DotReader(), b"", b""
    for chunk in chunks:
        if reader.has_ended:
            rest += chunk
            continue
        content += reader.feed(chunk)
        rest += reader.rest
    assert reader.has_ended
    return content, rest


def octets(text: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in text]


CASES = {
    b".\r\n": b"",
    b"\r\n.\r\n": b"\r\n",
    b"a\r\n.\r\n": b"a\r\n",
    b"..\r\n.\r\n": b".\r\n",
    b".a\r\n.\r\n": b"a\r\n",
    b"a\r\n..b\r\n...\r\n.\r\n": b"a\r\n.b\r\n..\r\n",
    b"a\r\n.b\r\n.\r\n": b"a\r\nb\r\n",
    b"\r\n\r\n..\r\n.\r\n": b"\r\n\r\n.\r\n",
    b"a.\r\n.\r\n": b"a.\r\n",
    b"\r\r\n.\r\n": b"\r\r\n",
}


@each_row("text", CASES, ids=repr)
@each_row("rest", [b"", b"QUIT\r\n", b".\r\n"], ids=repr)
def test_content_whole_and_octet_by_octet(text: bytes, rest: bytes) -> None:
    expected = (CASES[text], rest)
    assert read([text + rest]) == expected
    assert read(octets(text + rest)) == expected


def by_the_book(text: bytes) -> bytes:
    """RFC 5321 section 4.5.2, line by line."""
    content = b""
    for line in text.split(b"\r\n"):
        if line == b".":
            return content
        content += line.removeprefix(b".") + b"\r\n"
    raise AssertionError


PIECES = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\0"]), max_size=20).map(b"".join)


@given(PIECES, st.lists(st.integers(1, 8), max_size=40))
@example(b"\r\n", [1, 1, 1])
def test_as_the_book_says_wherever_the_chunks_are_cut(text: bytes, cuts: list[int]) -> None:
    whole = text + b"\r\n.\r\n"
    chunks, start = [], 0
    for cut in cuts:
        chunks.append(whole[start : start + cut])
        start += cut
    chunks.append(whole[start:])
    content, rest = read(filter(None, chunks))
    assert content == by_the_book(whole)
    # Every message ends once: what is read as content holds no end of its own as it came.
    assert whole.endswith(b".\r\n" + rest)
