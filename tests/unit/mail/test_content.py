"""Whatever bytes come, Content is what a simple reference makes of them, and holds no bare CR, bare LF or NUL."""

import re
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.content import LARGEST_HEADER, LONGEST_LINE, Content, ContentReader, ContentRefused, read_at_once
from tests.peers.rows import each_row
from tests.peers.work import counted
from tests.unit.mail.mail_kit import SIXTEEN_MEBIBYTES

PIECES = st.sampled_from(
    [b"\r\n", b"\r\n", b"\n", b"\n\n", b"\r\n\r\n", b"\r", b"\0", b"From: a@b.example", b"X: y", b".", b" ", b"\xff"]
)
MESSAGES = st.lists(PIECES, max_size=30).map(b"".join) | st.binary(max_size=80)

LINES = (b"x" * 78 + b"\r\n") * 30_000


def read(*chunks: bytes) -> Content:
    reader = ContentReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def refusal(*chunks: bytes) -> str:
    with pytest.raises(ContentRefused) as caught:
        read(*chunks)
    return str(caught.value.reply)


def reference(message: bytes) -> bytes | None:
    """What a message means, computed the slow way; None: refused."""
    if b"\0" in message or re.search(rb"\r(?!\n)", message):
        return None
    ends = [line for line in message.splitlines(keepends=True) if line.endswith(b"\n")]
    empty = next((number for number, line in enumerate(ends) if line in (b"\n", b"\r\n")), len(ends))
    is_lf_in_header = any(not line.endswith(b"\r\n") for line in ends[: empty + 1])
    counted = ends[:-1] if message.endswith(b"\n") else ends
    is_crlf_anywhere = any(line.endswith(b"\r\n") for line in counted)
    if is_lf_in_header and is_crlf_anywhere:
        return None
    lines = re.split(rb"\r?\n", message)
    if lines[-1] == b"":
        lines.pop()
    if b"" not in lines:
        lines.append(b"")
    return b"".join(line + b"\r\n" for line in lines)


def outcome(*chunks: bytes) -> bytes | None:
    try:
        content = read(*chunks)
    except ContentRefused:
        return None
    whole = b"".join(content.chunks())
    assert content.size == len(whole)
    assert content.is_ascii == whole.isascii()
    assert not content.header or content.header.endswith(b"\r\n")
    assert not any(left.endswith(b"\r") for left, _ in pairwise(content.body))
    return whole


@given(message=MESSAGES, cuts=st.lists(st.integers(0, 100), max_size=5))
def test_content_is_what_the_reference_says_however_the_bytes_arrive(message: bytes, cuts: list[int]) -> None:
    """The canonical content equals the reference, fed whole, in chunks and byte by byte, and has no bare CR or LF."""
    expected = reference(message)
    bounds = sorted({0, len(message), *(cut for cut in cuts if cut < len(message))})
    assert outcome(message) == expected
    assert outcome(*(message[start:end] for start, end in pairwise(bounds))) == expected
    assert outcome(*(message[at : at + 1] for at in range(len(message)))) == expected
    if expected is not None:
        assert b"\0" not in expected
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n", expected)


@given(message=MESSAGES, padding=st.integers(64 * 1024 - 20, 64 * 1024 + 20))
def test_pieces_do_not_show(message: bytes, padding: int) -> None:
    """A piece boundary of the reader changes nothing, wherever it falls."""
    long = b"A: b\r\n\r\n" + b"x" * padding + message
    assert outcome(long) == reference(long)


@pytest.mark.parametrize(
    ("message", "header", "body"),
    [
        pytest.param(b"", b"", b"", id="nothing"),
        pytest.param(b"\r\n", b"", b"", id="an empty line"),
        pytest.param(b"\r\nbody\r\n", b"", b"body\r\n", id="no header"),
        pytest.param(b"A: b\r\n", b"A: b\r\n", b"", id="no empty line"),
        pytest.param(b"A: b\r\n\r\nbody", b"A: b\r\n", b"body\r\n", id="no last line end"),
        pytest.param(b"A: b\n\nbody\n", b"A: b\r\n", b"body\r\n", id="all LF"),
        pytest.param(b"A: b\n\nbody\n\r\n", b"A: b\r\n", b"body\r\n\r\n", id="all LF, with curl's CRLF behind it"),
        pytest.param(b"A: b\n\r\n", b"A: b\r\n", b"", id="a header of LF, and curl's CRLF as the empty line"),
        pytest.param(b"A: b\r\n\r\none\ntwo\r\n", b"A: b\r\n", b"one\r\ntwo\r\n", id="a bare LF in the body"),
        pytest.param(b"A: b\r\n\r\n\n.\r\n\n.\n", b"A: b\r\n", b"\r\n.\r\n\r\n.\r\n", id="smuggled ends of data"),
        pytest.param(b"A: \xff\r\n\r\n\xff\r\n", b"A: \xff\r\n", b"\xff\r\n", id="raw 8-bit bytes"),
    ],
)
def test_what_is_read(message: bytes, header: bytes, body: bytes) -> None:
    content = read(message)
    assert content.header == header
    assert b"".join(content.body) == body


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        pytest.param(b"A: b\r\n\r\nx\ry\r\n", "554 5.6.0 line 3 holds a bare CR; lines end with CRLF", id="bare CR"),
        pytest.param(b"A: b\r\n\r\nx\r\r\n", "554 5.6.0 line 3 holds a bare CR; lines end with CRLF", id="CR CR LF"),
        pytest.param(b"A: b\r\n\r\nx\r", "554 5.6.0 line 3 holds a bare CR; lines end with CRLF", id="CR at the end"),
        pytest.param(
            b"A: b\rFrom: c\r\n\r\n", "554 5.6.0 line 1 holds a bare CR; lines end with CRLF", id="CR in header"
        ),
        pytest.param(b"A: b\r\nC\0: d\r\n\r\n", "554 5.6.0 line 2 holds a NUL", id="NUL in the header"),
        pytest.param(b"A: b\r\n\r\n\n\n\0", "554 5.6.0 line 5 holds a NUL", id="NUL in the body"),
        pytest.param(
            b"A: b\r\nC: d\nFrom: e\r\n\r\n",
            "554 5.6.0 line 2 of the header block ends with a bare LF, and other lines with CRLF",
            id="bare LF mixed with CRLF in the header block",
        ),
        pytest.param(
            b"A: b\r\n\nFrom: e\r\n\r\n",
            "554 5.6.0 line 2 of the header block ends with a bare LF, and other lines with CRLF",
            id="a bare LF as the empty line",
        ),
        pytest.param(
            b"A: b\n\nbody\r\nbody\r\n",
            "554 5.6.0 line 1 of the header block ends with a bare LF, and other lines with CRLF",
            id="a header block of LF, a body of CRLF",
        ),
    ],
)
def test_what_is_refused_names_its_line(message: bytes, reply: str) -> None:
    assert refusal(message) == reply


def test_a_fault_is_told_at_the_end_and_only_the_first() -> None:
    reader = ContentReader()
    reader.feed(b"A: b\r\n\r\n" + b"\0" * 70_000)
    reader.feed(b"\r" * 70_000)
    with pytest.raises(ContentRefused, match="line 3 holds a NUL"):
        reader.finish()


@pytest.mark.parametrize("chunk", [LONGEST_LINE * 3, 100_000, 65_536])
def test_lines_of_a_mebibyte_pass_as_they_are(chunk: int) -> None:
    message = b"A: b\r\n\r\n" + b"x" * LONGEST_LINE + b"\r\n" + b"y" * LONGEST_LINE + b"\r\n"
    content = read(*(message[at : at + chunk] for at in range(0, len(message), chunk)))
    assert b"".join(content.chunks()) == message


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b""])
@pytest.mark.parametrize("chunk", [LONGEST_LINE * 3, 65_537])
def test_longer_lines_are_refused(end: bytes, chunk: int) -> None:
    message = b"A: b\r\n\r\n" + b"x" * (LONGEST_LINE + 1) + end
    said = refusal(*(message[at : at + chunk] for at in range(0, len(message), chunk)))
    assert said == "554 5.6.0 line 3 is longer than 1048576 octets"


def test_the_header_block_has_a_bound() -> None:
    line = b"A: " + b"x" * 95 + b"\r\n"
    fits = line * (LARGEST_HEADER // 100)
    assert read(fits + b"\r\n").header == fits
    too_large = "552 5.3.4 the header block is over 1048576 octets"
    assert refusal(fits + line + b"\r\n") == too_large
    assert refusal(fits * 2) == too_large


_NUMBERS = [b"%06d" % number for number in range(100_000)] + [b""]


@each_row("first", [1, 65_535, 262_143, 262_144, 300_001])
@each_row("chunk", [4_096, 65_535, 65_536, 262_143, 262_144, 262_145, 10**6])
@each_row("end", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
def test_a_large_message_may_be_cut_anywhere(first: int, chunk: int, end: bytes) -> None:
    message = b"A: b" + end * 2 + end.join(_NUMBERS)
    starts = [0, *range(first, len(message), chunk), len(message)]
    content = read(*(message[start:stop] for start, stop in pairwise(starts)))
    assert b"".join(content.chunks()) == (message if end == b"\r\n" else message.replace(b"\n", b"\r\n"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (b"x\0", "554 5.6.0 the line at octet 2000010 holds a NUL"),
        (b"x\r", "554 5.6.0 the line at octet 2000010 holds a bare CR; lines end with CRLF"),
        (b"x" * (LONGEST_LINE + 1), "554 5.6.0 the line at octet "),
    ],
)
def test_far_behind_the_header_a_line_is_named_by_where_it_is(fault: bytes, said: str) -> None:
    """To count the lines of a large body costs as much as all else that is looked for in it."""
    assert refusal(b"A: b\r\n\r\n" + b"x" * 78 + b"\r\n" + LINES[: 2_000_000 - 80] + fault).startswith(said)


def test_a_bare_lf_far_behind_the_header_is_no_fault() -> None:
    message = b"A: b\r\n\r\n" + LINES[:2_000_000]
    assert read(message + b"x\n").size == len(message) + 3
    assert read(message[:-2] + b"\n").size == len(message)


COST = """
import resource, sys
from relay.mail.content import ContentReader

def largest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

chunk = sys.stdin.buffer.read()
before = largest()
reader = ContentReader()
reader.feed(b'\\n' if b'\\r' not in chunk else b'\\r\\n')
for _ in range(256):
    reader.feed(chunk)
size = sum(map(len, reader.finish().chunks()))
print(largest() - before, size)
"""


@pytest.mark.parametrize(("what", "size"), [("CRLF", 16), ("LF", 32), ("long lines", 16)])
def test_sixteen_mebibytes_cost_little(what: str, size: int) -> None:
    """16 MiB are read in under three times their memory, whatever their line ends."""
    chunk = SIXTEEN_MEBIBYTES[what]
    done = subprocess.run([sys.executable, "-c", COST], input=chunk, capture_output=True, check=True, timeout=60)
    memory, read_size = done.stdout.split()
    assert abs(int(read_size) - size * 1024**2) <= 2
    assert int(memory) < 3 * 16 * 1024**2


@pytest.mark.parametrize("what", SIXTEEN_MEBIBYTES)
def test_an_octet_costs_no_call_of_its_own(what: str) -> None:
    """How long 16 MiB take is measured by `make bench LOADS=bounds`."""
    reader = ContentReader()
    reader.feed(b"A: b\r\n\r\n")
    with counted() as work:
        reader.feed(SIXTEEN_MEBIBYTES[what])
    assert work.calls < 1_000


@given(st.lists(st.sampled_from([b"A: 1", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b"x" * 70, b" "]), max_size=12))
def test_what_is_read_at_once_is_what_the_reader_returns(parts: list[bytes]) -> None:
    message = b"".join(parts)
    at_once = read_at_once(message)
    if at_once is not None:
        assert at_once == read(message)
        assert b"".join(at_once.chunks()) == message
    else:
        is_canonical = message.endswith(b"\r\n") and b"\r\n\r\n" in message and reference(message) == message
        assert not is_canonical


def test_what_is_large_is_not_read_at_once() -> None:
    assert read_at_once(b"A: 1\r\n\r\n" + b"x" * 65536 + b"\r\n") is None
