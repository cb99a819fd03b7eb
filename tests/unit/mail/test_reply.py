"""A reply is one clean line whatever a server wrote in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.reply import Reply, clean_text
from tests.peers.rows import each_row


@given(code=st.integers(200, 599), text=st.text(max_size=700))
def test_no_upstream_text_breaks_a_reply(code: int, text: str) -> None:
    """Whatever a server says becomes one line of at most 512 octets, with an enhanced code of its own class."""
    reply = Reply.of_upstream(code, text)
    line = bytes(reply)
    assert line.startswith(str(code).encode())
    assert line.endswith(b"\r\n")
    assert not re.search(rb"[\x00-\x1f\x7f]", line[:-2])
    assert len(reply.text.splitlines()) <= 1
    assert len(line) <= 512
    assert not reply.enhanced or reply.enhanced[0] == str(code)[0]


@pytest.mark.parametrize(
    ("code", "text", "line"),
    [
        (250, "2.0.0 Ok: queued", "250 2.0.0 Ok: queued"),
        (250, "Ok", "250 Ok"),
        (550, "5.1.1 no such\n5.1.1 user", "550 5.1.1 no such user"),
        (550, "no such user", "550 5.0.0 no such user"),
        (550, "4.2.2 odd", "550 5.0.0 odd"),
        (451, "", "451 4.0.0"),
        (421, "4.7.0", "421 4.7.0"),
        (550, "5.\u0661.\u0661 no", "550 5.0.0 5.\u0661.\u0661 no"),
        (550, "5.7.1 no\u2028250 2.0.0 yes\x9b31m", "550 5.7.1 no 250 2.0.0 yes 31m"),
    ],
)
def test_what_an_upstream_said(code: int, text: str, line: str) -> None:
    assert str(Reply.of_upstream(code, text)) == line


@pytest.mark.parametrize(
    ("code", "enhanced", "text"),
    [
        (199, "", "x"),
        (600, "", "x"),
        (250, "5.0.0", "x"),
        (250, "2.0", "x"),
        (250, "", "a\nb"),
        (250, "", "a\x85b"),
        (250, "", "a\u2029b"),
    ],
)
def test_what_is_no_reply(code: int, enhanced: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"reply|enhanced"):
        Reply(code, enhanced, text)


def test_what_a_reply_means() -> None:
    assert Reply(250, "2.0.0", "Ok").is_success
    assert Reply(451, "4.3.0", "later").is_temporary
    assert Reply(550, "5.7.1", "no").is_permanent
    assert not Reply(354, "", "go on").is_success


@each_row(
    "control",
    [
        *map(chr, (*range(0x20), *range(0x7F, 0xA0))),
        *"\u2028\u2029",
        *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    ],
    ids=ascii,
)
def test_text_without_what_moves_a_line_or_a_terminal(control: str) -> None:
    assert clean_text(f"{control}to{control}{control}you{control}") == "to you"


@given(st.text(max_size=300))
def test_clean_text_is_one_line_and_clean_already(text: str) -> None:
    clean = clean_text(text)
    assert len(clean.splitlines()) <= 1
    assert clean_text(clean) == clean
    assert clean.encode().decode() == clean


@pytest.mark.parametrize("text", ["Grüße, 世界", "שלום", "مرحبا", "a\u200db"])
def test_clean_text_leaves_words_alone(text: str) -> None:
    assert clean_text(text) == text
