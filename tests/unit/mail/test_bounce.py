"""Returned mail: what each mail system's report says is found, and nothing else is taken for one."""

from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.bounce import may_be_bounce, read_bounce, status_in
from relay.mail.mime import MimePart
from tests.unit.mail.bounce_samples import ANN, NOT_RETURNED, POSTFIX, POSTFIX_OLD, RETURNED, SENT


@pytest.mark.parametrize("name", RETURNED)
def test_a_report_says_who_did_not_get_it_and_why(name: str) -> None:
    raw, addresses, status, words, reporter = RETURNED[name]
    bounce = read_bounce(raw)
    assert bounce is not None
    copy = bounce.copies[0]
    assert list(copy.addresses) == addresses
    assert (copy.status, copy.reporter.endswith(reporter)) == (status, True)
    assert words in copy.words
    assert SENT in bounce.message_ids


@pytest.mark.parametrize("name", RETURNED)
def test_a_report_has_a_header_that_makes_us_read_it(name: str) -> None:
    header = RETURNED[name][0].partition(b"\r\n\r\n")[0]
    assert may_be_bounce(header)
    assert not may_be_bounce(b"From: Ann <ann@customer.example>\r\nContent-Type: multipart/mixed; boundary=x\r\n")


@pytest.mark.parametrize("name", RETURNED)
def test_line_ends_and_a_cut_make_no_difference(name: str) -> None:
    raw = RETURNED[name][0]
    assert read_bounce(raw.replace(b"\r\n", b"\n")) == read_bounce(raw)
    assert read_bounce(raw + b"\r\n\r\n" + b"x" * 1_000_000) == read_bounce(raw)


@pytest.mark.parametrize("name", NOT_RETURNED)
def test_what_is_no_report_about_an_end_is_none(name: str) -> None:
    assert read_bounce(NOT_RETURNED[name]) is None


def test_several_recipients_are_several_copies() -> None:
    bounce = read_bounce(POSTFIX_OLD)
    assert bounce is not None
    assert [copy.addresses[0] for copy in bounce.copies] == [ANN, "bob@customer.example"]
    assert bounce.copies[1].words.startswith("Name service error for name=customer.example")


def test_what_the_returned_message_says_is_not_what_the_report_says() -> None:
    bounce = read_bounce(RETURNED["qmail"][0])
    assert bounce is not None
    assert [copy.addresses for copy in bounce.copies] == [(ANN,)]


def test_words_hold_nothing_that_a_terminal_obeys() -> None:
    bounce = read_bounce(POSTFIX.replace(b"User unknown", b"\x1b[2J" + b"long " * 500))
    assert bounce is not None
    assert len(bounce.copies[0].words) <= 500
    assert bounce.copies[0].words.isprintable()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("550 5.1.1 no", "5.1.1"),
        ("550-5.7.26 no", "5.7.26"),
        ("host 5.10.20.30 said: 552 full", "5.0.0"),
        ("5.10.20.30", ""),
        ("#5.1.1 - x", "5.1.1"),
        ("call 5501 now", ""),
        ("(reason: 421 later)", "4.0.0"),
    ],
)
def test_a_status_is_no_part_of_an_address(words: str, status: str) -> None:
    assert status_in(words) == status


def test_a_message_within_messages_within_messages_ends() -> None:
    raw = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (depth, depth) for depth in range(5000))
    assert len(MimePart.parse(raw).leaves) == 1
    assert read_bounce(raw) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_read(raw: bytes) -> None:
    read_bounce(raw)
    read_bounce(b"Return-Path: <>\n\n" + raw)
    read_bounce(b"X-Failed-Recipients: a@b.example\n\n" + raw)
    may_be_bounce(raw)


@given(st.sampled_from(sorted(RETURNED)), st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=6)), max_size=8))
def test_a_damaged_report_is_read(name: str, damages: list[tuple[int, bytes]]) -> None:
    raw = bytearray(RETURNED[name][0])
    for position, octets in damages:
        raw[position : position + len(octets)] = octets
    bounce = read_bounce(bytes(raw))
    assert bounce is None or all(copy.words == " ".join(copy.words.split()) for copy in bounce.copies)


def test_parts_are_what_the_standard_library_sees() -> None:
    ours = [(part.kind, part.text.strip()) for part in MimePart.parse(POSTFIX).leaves]
    theirs = [part for part in message_from_bytes(POSTFIX).walk() if part.get_content_type().startswith("text/")]
    expected = [(part.get_content_type(), str(part.get_payload()).replace("\r\n", "\n").strip()) for part in theirs]
    assert [each for each in ours if each[0] in {"text/plain", "text/rfc822-headers"}] == [
        each for each in expected if each[0] in {"text/plain", "text/rfc822-headers"} and each[1]
    ][: len(ours) - 1]


def test_encoded_parts_are_decoded() -> None:
    part = MimePart.parse(
        b"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n=FC=\nx"
    )
    assert part.text == "üx"
    assert MimePart.parse(b"Content-Transfer-Encoding: base64\n\naGVsbG8=\n").text == "hello"
    assert MimePart.parse(b"Content-Transfer-Encoding: base64\n\na\n").text == "a\n"
    assert MimePart.parse(b"Content-Type: text/plain; charset=nonsense\n\nx").text == "x"
