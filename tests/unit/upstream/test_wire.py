"""What goes over the wire. Invariant: undoing the dot-stuffing gives back the very content, whatever it is and
however it is cut into chunks, and nothing but the end looks like the end.
"""

import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.directory.model import Account, Server
from relay.mail.address import Address
from relay.mail.content import Content
from relay.mail.envelope import Recipient
from relay.upstream.transaction import (
    CHUNK_END,
    FINAL_DOT,
    Offers,
    Transfer,
    check_lines,
    chunk,
    joined,
    mail_command,
    pieces,
    rcpt_command,
    stuffed,
)

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


def transfer(sender: str | None, recipient: str, content: Content, **settings: Any) -> Transfer:
    server = Server(name="acme", host="mail.acme.example", **settings)
    return Transfer(
        server=server,
        account=Account("acme", "jo"),
        secret=None,
        sender=Address.parse(sender) if sender else None,
        recipients=(Recipient(Address.parse(recipient)),),
        content=content,
    )


def told(transfer: Transfer, ehlo: str) -> list[str]:
    offers = Offers.parse(f"hello\n{ehlo}")
    recipient = rcpt_command(transfer, transfer.recipients[0], offers)
    content = transfer.content
    size, is_ascii = content.size, content.is_ascii
    mail = mail_command(transfer, offers, is_encrypted=False, size=size, is_ascii=is_ascii, recipients=recipient)
    return [mail, recipient]


@pytest.mark.parametrize("text", ["a@b.example", '"a b"@b.example', "ü@bücher.example", "a@[127.0.0.1]"])
def test_a_path_is_the_address_as_it_was_written(text: str) -> None:
    mail, rcpt = told(transfer(text, text, Content(b"")), "SMTPUTF8")
    assert mail.removesuffix(" SMTPUTF8") == f"MAIL FROM:<{text}>"
    assert rcpt == f"RCPT TO:<{text}>"


def test_the_null_sender_is_an_empty_path() -> None:
    assert told(transfer(None, "a@b.example", Content(b"")), "")[0] == "MAIL FROM:<>"


@pytest.mark.parametrize(
    ("chunks", "is_one"),
    [((), True), ((b"a\r\n",), True), ((b"a\r\n", b"b\r\n"), True), ((b"x" * 200_000,), False), ((b"",) * 3, False)],
)
def test_what_is_small_is_joined(chunks: tuple[bytes, ...], is_one: bool) -> None:
    content = Content(b"Subject: x\r\n", chunks)
    assert joined(content) == (b"".join(content.chunks()) if is_one else None)


@given(lines=LINES)
def test_one_piece_is_stuffed_like_many(lines: list[bytes]) -> None:
    content = b"Subject: x\r\n\r\n" + canonical(lines)
    assert stuffed(content) == b"".join(pieces([content]))


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (b"a\r\nb\r\n", 1),
        (b"a\nb\r\n", 2),
        (b"a\rb\r\n", 1),
        (b"a\0\r\n", 1),
        (b"a\x7f\r\n", 1),
        (b"a\t\r\n", 1),
        (b"a\r\r\n", 1),
        (b"a", 1),
    ],
)
def test_a_command_with_a_control_character_does_not_leave(lines: bytes, number: int) -> None:
    with pytest.raises(ValueError, match="control character"):
        check_lines(lines, number)


def test_commands_leave_line_by_line() -> None:
    check_lines("MAIL FROM:<ü@b.example>\r\nDATA\r\n".encode(), 2)
