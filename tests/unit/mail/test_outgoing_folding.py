"""Header lines over 998 octets: folded at white space without any other change, or refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.content import ContentRefused
from relay.mail.encoded_words import encode_words
from relay.mail.header import Edited, Field, Header, HeaderEdit
from relay.mail.mailbox import parse_from
from relay.mail.outgoing import fold_long_lines

_WORDS = st.lists(
    st.tuples(st.sampled_from([b" ", b"\t", b"  ", b"\r\n "]), st.integers(1, 900)), min_size=1, max_size=12
)


def folded_of(header: Header) -> tuple[Header, list[Edited]]:
    edit = HeaderEdit(header)
    fold_long_lines(edit)
    return edit.header, edit.done


@given(_WORDS)
def test_a_folded_field_is_what_it_was(words: list[tuple[bytes, int]]) -> None:
    raw = b"Subject:" + b"".join(blank + b"x" * length for blank, length in words) + b"\r\n"
    folded, _ = folded_of(Header((Field.of(raw),)))
    lines = bytes(folded).removesuffix(b"\r\n").split(b"\r\n")
    assert all(len(line) <= 998 and line.strip() for line in lines)
    assert all(line[:1] in b" \t" for line in lines[1:])
    assert re.sub(rb"\r\n(?=[ \t])", b"", bytes(folded)) == re.sub(rb"\r\n(?=[ \t])", b"", raw)


@pytest.mark.parametrize("value", [b"x" * 1000, b" " + b"x" * 999, b"a" + b" " * 2000])
def test_what_has_no_place_to_fold_is_refused(value: bytes) -> None:
    with pytest.raises(ContentRefused, match=r"554 5\.6\.0 .*X-Long"):
        folded_of(Header((Field.of(b"X-Long:" + value + b"\r\n"),)))


def test_what_is_short_stays_and_what_was_folded_is_named() -> None:
    short, long = Field.of(b"Subject: x\r\n"), Field.of(b"References:" + b" <a@b.example>" * 90 + b"\r\n")
    header = Header((short,))
    assert folded_of(header) == (header, [])
    folded, changes = folded_of(Header((short, long)))
    assert folded.raws[0] is short.raw
    assert [change.key for change in changes] == ["references"]


@pytest.mark.parametrize("control", [*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"])
def test_a_display_name_loses_what_turns_its_direction(control: str) -> None:
    for name in (f"Jane{control}Doe", encode_words(f"Jane{control}Doe")):
        mailbox = parse_from(f"{name} <jane@acme.example>".encode())
        assert (mailbox.display, mailbox.is_plain) == ("JaneDoe", False)
