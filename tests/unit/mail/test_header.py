"""A header block that is taken is the same bytes again; one that parsers read differently is refused with its line."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.content import ContentRefused
from relay.mail.header import Field, Header

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=12)
VALUES = st.binary(max_size=40).map(lambda value: re.sub(rb"[\r\n]", b" ", value))
FOLDS = st.lists(st.sampled_from([b"\r\n ", b"\r\n\tx", b"y"]), max_size=4).map(b"".join)
FIELDS = st.tuples(NAMES, VALUES, FOLDS).map(lambda parts: parts[0].encode() + b":" + parts[1] + parts[2] + b"\r\n")


@given(fields=st.lists(FIELDS, max_size=12))
def test_fields_are_kept_byte_for_byte(fields: list[bytes]) -> None:
    """A block of good fields is split into exactly these fields, and written back as the same bytes."""
    header = Header.parse(b"".join(fields))
    assert [item.raw for item in header.fields] == fields
    assert bytes(header) == b"".join(fields)


@given(block=st.lists(st.sampled_from([b"A", b":", b" ", b"\r\n", b"\t", b"\xff", b"From"]), max_size=20).map(b"".join))
def test_every_block_is_kept_or_refused(block: bytes) -> None:
    """Whatever is taken is written back as the same bytes, and every line of it begins a field or goes on with one."""
    try:
        header = Header.parse(block)
    except ContentRefused:
        return
    assert bytes(header) == block
    assert all(re.match(rb"[!-9;-~]+:|[ \t]", line) for line in block.split(b"\r\n")[:-1])


@pytest.mark.parametrize(
    ("block", "reply"),
    [
        pytest.param(b"Hello\r\n", "line 1 of the header block is no header field: Hello", id="no field"),
        pytest.param(
            b"From a@b Mon\r\nA: b\r\n", "line 1 of the header block is no header field: From a@b Mon", id="mbox"
        ),
        pytest.param(b" A: b\r\n", "line 1 of the header block is no header field: A: b", id="first line folded"),
        pytest.param(b"A: b\r\nFrom : x\r\n", "line 2 of the header block is no header field: From : x", id="spaced"),
        pytest.param(b"A: b\r\nFro\r\n m: x\r\n", "line 2 of the header block is no header field: Fro", id="folded"),
        pytest.param(b"A: b\r\n c\r\n: x\r\n", "line 3 of the header block is no header field: : x", id="no name"),
        pytest.param(b"Fr\xf6m: x\r\n", "line 1 of the header block is no header field: Fr\\xf6m: x", id="8-bit name"),
        pytest.param(b"A: b", "line 1 of the header block is no header field: A: b", id="no line end"),
        pytest.param(b"A: b\nB: c\r\n", "line 1 of the header block is no header field: A: b B: c", id="bare LF"),
    ],
)
def test_what_is_refused(block: bytes, reply: str) -> None:
    with pytest.raises(ContentRefused) as caught:
        Header.parse(block)
    assert str(caught.value.reply) == f"554 5.6.0 {reply}"


def test_a_field_shows_its_parts() -> None:
    item = Field.of(b"SuBject:  one\r\n two\r\n\tthree \r\n")
    assert (item.name, item.key, item.value, item.text) == ("SuBject", "subject", b"one two\tthree", "one two\tthree")
    assert Field.of(b"A: M\xc3\xbcller\r\n").text == "Müller"
    assert Field.of(b"A: M\xfcller\r\n").text == "Müller"


def test_a_header_is_changed_by_new_values() -> None:
    header = Header.parse(b"A: 1\r\nB: 2\r\na: 3\r\nC: 4\r\n")
    new = Field.make("A", "5")
    assert bytes(header.with_field(new)) == b"A: 5\r\nB: 2\r\nC: 4\r\n"
    assert bytes(header.with_field(Field.make("D", "5"))) == bytes(header) + b"D: 5\r\n"
    assert bytes(header.without(("a", "c"))) == b"B: 2\r\n"
    assert header.without(("x",)) is header
    assert [item.raw for item in header.get_all("a")] == [b"A: 1\r\n", b"a: 3\r\n"]


def test_a_line_without_a_colon_costs_linear_time() -> None:
    with pytest.raises(ContentRefused, match="line 1 "):
        Header.parse(b"a" * 1_000_000 + b"\r\n")


def test_a_block_of_very_many_fields_is_refused() -> None:
    assert len(Header.parse(b"a:\r\n" * 10_000).fields) == 10_000
    with pytest.raises(ContentRefused, match=r"552 5\.3\.4"):
        Header.parse(b"a:\r\n" * 10_001)
