"""Encoded words come back as the text they were made of; what cannot be decoded stays visible."""

import re

from hypothesis import given
from hypothesis import strategies as st

from relay.mail.encoded_words import decode_words, encode_words, fold
from tests.peers.rows import each_row
from tests.peers.work import growth


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_encoded_words_are_read_back(text: str) -> None:
    """Any text comes back, and no encoded word is longer than RFC 2047 allows."""
    encoded = encode_words(text)
    assert encoded.isascii()
    assert max(map(len, encoded.split(" "))) <= 75
    assert decode_words(encoded) == text


@each_row(
    ("text", "decoded"),
    [
        ("plain", "plain"),
        ("=?utf-8?Q?a_b=3D?=", "a b="),
        ("=?UTF-8?B?w6k=?=", "é"),
        ("=?UTF-8?B?w6k?=", "é"),
        ("=?iso-8859-1*de?q?=E9?=", "é"),
        ("a =?utf-8?q?b?= c", "a b c"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?=C3?= \t=?utf-8?q?=A9?=", "é"),
        ("=?utf-8?q?a?= =?us-ascii?q?b?=", "ab"),
        ("=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?= =?utf-8?x?b?= =?utf-8?q?c?=", "a =?utf-8?x?b?= c"),
        ("a b =?utf-8?q?c?==?koi8-r?q?d?=", "a b cd"),
        ("=?utf-8?q?=FF?=", "\N{REPLACEMENT CHARACTER}"),
        ("=?utf-8?q??=", ""),
        ("=?utf-8?b?w6k=w6k=?=", "=?utf-8?b?w6k=w6k=?="),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),
        ("=?utf-8?q?é?=", "=?utf-8?q?é?="),
        ("=?cp9999?q?a?= b", "=?cp9999?q?a?= b"),
        ("=?rot13?q?a?=", "=?rot13?q?a?="),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
    ],
)
def test_what_is_decoded(text: str, decoded: str) -> None:
    assert decode_words(text) == decoded


@given(value=st.text(alphabet="ab ", min_size=1, max_size=300).map(str.strip).filter(bool))
def test_folding_changes_no_text(value: str) -> None:
    """A folded field unfolds to its value, no line is of white space only, and none is longer than it must be."""
    folded = fold("Subject", value)
    assert folded.endswith(b"\r\n")
    lines = folded[:-2].split(b"\r\n")
    assert b"".join(lines) == b"Subject: " + value.encode()
    assert all(line.strip() for line in lines)
    assert all(len(line) <= 78 or not re.search(rb"\S +\S", line.partition(b": ")[2]) for line in lines[:1])
    assert all(len(line) <= 78 or b" " not in line.strip() for line in lines[1:])


def test_many_encoded_words_cost_no_more_each_than_few() -> None:
    assert growth(lambda size: lambda: decode_words("=?utf-8?q?a?= " * size), 500) < 5


def test_a_mebibyte_of_encoded_words_is_read() -> None:
    """Whoever began anew at each of them would take minutes, and be ended."""
    assert len(decode_words("=?utf-8?q?a?= " * 75_000)) == 75_001
