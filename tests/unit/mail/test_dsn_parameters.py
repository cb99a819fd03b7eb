"""What a client asks about reports travels on as it came, and nothing that was decoded from it can end a line."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import Address
from relay.mail.dsn_parameters import (
    Event,
    Notify,
    OriginalRecipient,
    ParameterFault,
    Return,
    decode_xtext,
    encode_xtext,
    parse_envid,
    parse_notify,
    parse_original_recipient,
    parse_return,
)
from relay.mail.envelope import Body, Envelope, Recipient
from tests.peers.rows import each_row

BOB = Address.parse("bob@customer.example")
WORDS = [b"NEVER", b"SUCCESS", b",", b"bob", b"@x.example", b"\r\n", b"\0", b"=", b" ", b"\x85", b"\xc2\x85"]
VALUES = st.binary(max_size=40) | st.lists(
    st.sampled_from(
        [
            b"rfc822;",
            b"utf-8;",
            b"+0A",
            b"+2B",
            b"+",
            b"\\x{A}",
            b"\\x{0D}",
            b"\\x{2028}",
            b"\\x{D800}",
            "ü".encode(),
            *WORDS,
        ]
    ),
    max_size=8,
).map(b"".join)


@given(value=VALUES)
def test_no_parameter_holds_a_control_character(value: bytes) -> None:
    """Any value is refused, or travels on as it came, in one printable word that decodes to one line."""
    with suppress(ParameterFault):
        assert parse_notify(value).parameter == f"NOTIFY={value.decode()}"
    with suppress(ParameterFault):
        assert parse_envid(value) == value.decode()
        assert decode_xtext(value.decode()).isprintable()
    with suppress(ParameterFault):
        original = parse_original_recipient(value)
        assert original.parameter == f"ORCPT={value.decode()}"
        assert not re.search(r"[\x00-\x20\x7f-\x9f]", original.parameter)
        assert not re.search("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]", original.address)


@given(text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_xtext_is_read_back(text: str) -> None:
    """Any printable ASCII comes back from xtext, which is one word without "=" and with "+" only before digits."""
    encoded = encode_xtext(text)
    assert not re.search(r"[ =]|\+(?![0-9A-F]{2})", encoded)
    assert decode_xtext(encoded) == text


@pytest.mark.parametrize(
    ("value", "events"),
    [
        (b"NEVER", set()),
        (b"never", set()),
        (b"SUCCESS", {Event.SUCCESS}),
        (b"FAILURE,DELAY", {Event.FAILURE, Event.DELAY}),
        (b"delay,Failure,SUCCESS", set(Event)),
        (b"DELAY,DELAY", {Event.DELAY}),
    ],
)
def test_notify(value: bytes, events: set[Event]) -> None:
    notify = parse_notify(value)
    assert notify.events == events
    assert notify.parameter == f"NOTIFY={value.decode()}"


@pytest.mark.parametrize(
    "value",
    [b"", b"NEVER,FAILURE", b"FAILURE,NEVER", b"NEVER,NEVER", b"FAILURE,", b",DELAY", b"FAILURE DELAY", b"SUCCES\xff"],
)
def test_what_is_no_notify(value: bytes) -> None:
    with pytest.raises(ParameterFault, match=r"^NOTIFY is "):
        parse_notify(value)


@pytest.mark.parametrize(
    ("value", "address_type", "address"),
    [
        (b"rfc822;bob@x.example", "rfc822", "bob@x.example"),
        (b"rfc822;bob+2Btag@x", "rfc822", "bob+tag@x"),
        (b"RFC822;+22a+20b+22@x.example", "RFC822", '"a b"@x.example'),
        (b"rfc822;a;b", "rfc822", "a;b"),
        (b"x400;/S=bob/".replace(b"=", b"+3D"), "x400", "/S=bob/"),
        (b"utf-8;\\x{FC}ber\\x{2B}tag@x.example", "utf-8", "über+tag@x.example"),
        ("UTF-8;über@x.example".encode(), "UTF-8", "über@x.example"),
        (b"utf-8;\\x{1F600}@x.example", "utf-8", "\N{GRINNING FACE}@x.example"),
    ],
)
def test_the_original_recipient(value: bytes, address_type: str, address: str) -> None:
    original = parse_original_recipient(value)
    assert (original.address_type, original.address) == (address_type, address)
    assert original.parameter == f"ORCPT={value.decode()}"


@each_row(
    ("value", "fault"),
    [
        (b"", "an address type"),
        (b"bob@x.example", "an address type"),
        (b";bob@x.example", "an address type"),
        (b"rfc 822;bob@x.example", "an address type"),
        (b"rfc822;", "no address"),
        (b"rfc822;+20", "no address"),
        (b"rfc822;bob+tag@x.example", "no xtext"),
        (b"rfc822;bob+2b@x.example", "no xtext"),
        (b"rfc822;bob+2", "no xtext"),
        (b"rfc822;a=b", "no xtext"),
        (b"rfc822;a b", "no xtext"),
        (b"rfc822;a\nb", "no xtext"),
        ("rfc822;ü".encode(), "no xtext"),
        (b"rfc822;+0D+0AX-Injected:+201", "unprintable"),
        (b"rfc822;+00", "unprintable"),
        (b"rfc822;+FC", "unprintable"),
        (b"utf-8;a+2Bb", "coded wrongly"),
        (b"utf-8;a\\b", "coded wrongly"),
        (b"utf-8;\\x{0a}", "coded wrongly"),
        (b"utf-8;\\x{0D}\\x{0A}X:", "unprintable"),
        (b"utf-8;\\x{85}", "unprintable"),
        (b"utf-8;\\x{2028}", "unprintable"),
        (b"utf-8;\\x{D800}", "unprintable"),
        (b"utf-8;\\x{110000}", "no character"),
        (b"utf-8;\xff", "not UTF-8"),
        (b"rfc822;" + b"a" * 494, "at most 500"),
    ],
)
def test_what_is_no_original_recipient(value: bytes, fault: str) -> None:
    with pytest.raises(ParameterFault, match=fault):
        parse_original_recipient(value)


def test_a_word_that_only_looks_like_success_in_capitals_is_none() -> None:
    with pytest.raises(ParameterFault):
        Notify("\N{LATIN SMALL LETTER LONG S}uccess")


def test_an_original_recipient_of_500_octets() -> None:
    assert len(parse_original_recipient(b"rfc822;" + b"a" * 493).address) == 493


def test_ret() -> None:
    assert parse_return(b"FULL") is Return.FULL
    assert parse_return(b"hdrs") is Return.HEADERS
    assert [each.parameter for each in Return] == ["RET=FULL", "RET=HDRS"]


@pytest.mark.parametrize("value", [b"", b"HEADERS", b"FULL,HDRS", "hdr\N{LATIN SMALL LETTER LONG S}".encode(), b"\xff"])
def test_what_is_no_ret(value: bytes) -> None:
    with pytest.raises(ParameterFault, match=r"^RET is "):
        parse_return(value)


def test_envid() -> None:
    assert parse_envid(b"QQ+20314") == "QQ+20314"
    assert parse_envid(b"a" * 100) == "a" * 100


@pytest.mark.parametrize(
    "value", [b"", b"+20", b"a" * 101, b"a b", b"+0A", b"+7F", b"+2b", b"a=b", b"a+", "ü".encode()]
)
def test_what_is_no_envid(value: bytes) -> None:
    with pytest.raises(ParameterFault):
        parse_envid(value)


def test_xtext_holds_no_line_end() -> None:
    with pytest.raises(ParameterFault, match="printable"):
        encode_xtext("a\r\nb")


def test_what_the_next_server_is_told() -> None:
    recipient = Recipient(BOB, Notify("FAILURE,DELAY"), OriginalRecipient("rfc822", "bob+2Btag@x"))
    assert recipient.report_parameters(smtputf8=False) == ("NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;bob+2Btag@x")
    envelope = Envelope(BOB, (recipient,), Body.SEVEN_BIT, smtputf8=False, size=7, ret=Return.HEADERS, envid="QQ+20314")
    assert envelope.report_parameters == ("RET=HDRS", "ENVID=QQ+20314")


def test_the_next_server_is_told_nothing_that_was_not_given() -> None:
    assert Recipient(BOB).report_parameters(smtputf8=True) == ()
    assert Envelope(BOB, (Recipient(BOB),)).report_parameters == ()
    assert Envelope(BOB, envid="a").report_parameters == ("ENVID=a",)
    assert Envelope(BOB, ret=Return.FULL).report_parameters == ("RET=FULL",)


def test_an_original_recipient_for_a_server_without_smtputf8() -> None:
    recipient = Recipient(BOB, original=OriginalRecipient("utf-8", "ü\N{GRINNING FACE}@x"))
    assert recipient.report_parameters(smtputf8=True) == ("ORCPT=utf-8;ü\N{GRINNING FACE}@x",)
    assert recipient.report_parameters(smtputf8=False) == ("ORCPT=utf-8;\\x{FC}\\x{1F600}@x",)
    as_ascii = recipient.original and recipient.original.as_ascii
    assert as_ascii
    assert as_ascii.address == "ü\N{GRINNING FACE}@x"
    too_long = Recipient(BOB, original=OriginalRecipient("utf-8", "ü" * 200))
    assert too_long.report_parameters(smtputf8=False) == ()
