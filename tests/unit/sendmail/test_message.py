"""The message is read to its end, and nothing of it is changed but line ends."""

import os
import tracemalloc
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.sendmail.exit_status import NotSent
from relay.sendmail.message import Message, read_message

MIB = 1024 * 1024


def read(text: bytes, *, dot_ends: bool = False) -> Message:
    return read_message(BytesIO(text), dot_ends=dot_ends)


@pytest.mark.parametrize(
    ("text", "header", "body"),
    [
        (b"", b"", b""),
        (b"A: b\n\nhello\n", b"A: b\r\n", b"hello\r\n"),
        (b"A: b\r\n\r\nhello\r\n", b"A: b\r\n", b"hello\r\n"),
        # PHP writes CRLF in the header and LF in the body.
        (b"A: b\r\n c\r\n\r\nhello\n\n.\nx", b"A: b\r\n c\r\n", b"hello\r\n\r\n.\r\nx\r\n"),
        (b"A: b", b"A: b\r\n", b""),
        (b"\nhello\n", b"", b"hello\r\n"),
        (b"hello\nworld\n", b"", b"hello\r\nworld\r\n"),
        (b" hello: x\n", b"", b" hello: x\r\n"),
        (b"A: b\nhello\nB: c\n", b"A: b\r\n", b"hello\r\nB: c\r\n"),
        (b"From jo Mon Jan  1 00:00:00 2026\n>From jo\nA: b\n\nx\n", b"A: b\r\n", b"x\r\n"),
        (b"A: b\nFrom jo Mon\n\nx\n", b"A: b\r\n", b"From jo Mon\r\n\r\nx\r\n"),
        # The service refuses this header block; it must not become body, where the Bcc could be read.
        (b"A : b\nBcc: c\n\nx\n", b"A : b\r\nBcc: c\r\n", b"x\r\n"),
        (b"\n\r", b"", b"\r\n"),
        (b"\na\rb\r\r\n", b"", b"a\rb\r\r\n"),
        (b"\n\xe9\0\n", b"", b"\xe9\0\r\n"),
    ],
)
def test_header_and_body(text: bytes, header: bytes, body: bytes) -> None:
    found = read(text)
    assert (found.header, found.body.read()) == (header, body)
    assert (found.body_size, found.body_is_ascii) == (len(body), body.isascii())


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (b"\na\n.\nb\n", b"a\r\n"),
        (b"\na\n.\r\nb\n", b"a\r\n"),
        (b"\na\n.", b"a\r\n"),
        (b"\na\n..\n. \n.b\n b.\nc\n", b"a\r\n..\r\n. \r\n.b\r\n b.\r\nc\r\n"),
        (b"\na\n.\r\r\nb\n", b"a\r\n.\r\r\nb\r\n"),
        (b"\n" + b"x" * 65536 + b".\nb\n", b"x" * 65536 + b".\r\nb\r\n"),
    ],
)
def test_a_line_with_only_a_dot_ends_the_message(text: bytes, body: bytes) -> None:
    assert read(text, dot_ends=True).body.read() == body


def test_a_dot_ends_the_header_block_too() -> None:
    found = read(b"A: b\n.\nC: d\n", dot_ends=True)
    assert (found.header, found.body.read()) == (b"A: b\r\n", b"")


def test_what_follows_the_dot_is_left_unread() -> None:
    stream = BytesIO(b"\na\n.\nb\n")
    read_message(stream, dot_ends=True)
    assert stream.read() == b"b\n"


@pytest.mark.parametrize("length", [65534, 65535, 65536, 65537, 131071, 131072])
def test_a_line_end_is_one_wherever_a_piece_ends(length: int) -> None:
    body = b"x" * length + b"\r\n.\r\n" + b"y" * length + b"\r\n"
    assert read(b"\n" + body).body.read() == body
    assert read(b"\n" + body.replace(b"\r\n", b"\n")).body.read() == body


@given(lines=st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))))
def test_every_body_is_read_back_in_crlf_lines(lines: list[bytes]) -> None:
    """Whether it was written with LF or CRLF."""
    expected = b"".join(line + b"\r\n" for line in lines)
    for end in (b"\n", b"\r\n"):
        assert read(b"A: b\n\n" + b"".join(line + end for line in lines)).body.read() == expected


@given(text=st.binary(max_size=200) | st.text(alphabet="a: .\r\n\t", max_size=80).map(str.encode))
def test_no_octet_is_lost_or_added(text: bytes) -> None:
    """Whatever the input, header and body together are its lines; only the empty line between them may be new."""
    if text.lstrip(b">").startswith(b"From "):
        return
    found = read(text)
    whole = found.header + b"\r\n" + found.body.read()
    assert whole.replace(b"\r\n", b"\n").split() == text.replace(b"\r\n", b"\n").split()


def test_a_large_body_is_not_kept_in_memory() -> None:
    count = 200_000
    text = BytesIO(b"A: b\n\n" + b"%063d\n" % 7 * count)
    tracemalloc.start()
    try:
        found = read_message(text, dot_ends=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    with found.body:
        assert found.body_size == 65 * count
        assert found.body.read() == b"%063d\r\n" % 7 * count
    assert peak < 4 * MIB


def test_a_header_block_without_end_is_refused() -> None:
    with pytest.raises(NotSent, match="the header block is over 1048576 octets") as caught:
        read(b"A: " + b"b" * MIB + b"\n")
    assert caught.value.status == os.EX_DATAERR


def test_a_message_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.sendmail.message._LARGEST_MESSAGE", 1000)
    with pytest.raises(NotSent, match="the message is over 1000 octets") as caught:
        read(b"\n" + b"a\n" * 1000)
    assert caught.value.status == os.EX_DATAERR
