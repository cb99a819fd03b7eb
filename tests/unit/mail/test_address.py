"""No text with a control character, an encoded line end or a second meaning ever becomes an address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import Address, AddressError
from tests.peers.rows import each_row


@given(text=st.text(max_size=40) | st.text(alphabet='ab.@"\\ \r\n\0[]:+=?', max_size=40))
def test_every_text_is_an_address_or_an_error(text: str) -> None:
    """An address that exists is written as it was read, and holds no byte under 0x20."""
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert str(address) == text
    assert min(text.encode()) >= 0x20
    assert Address.parse(str(address)) == address
    assert address.key


@each_row(
    "text",
    [
        "",
        "a",
        "@b.example",
        "a@",
        "a@b..example",
        "a@b.example\N{FULLWIDTH FULL STOP}",
        "a@bücher.example\N{IDEOGRAPHIC FULL STOP}",
        ".a@b.example",
        "a.@b.example",
        "a..b@c.example",
        "a b@c.example",
        "a@b.example\r\n",
        "a\x00@b.example",
        '"a\rb"@c.example',
        "a(c)@b.example",
        "<a@b.example>",
        "a@b.example>",
        "a@-b.example",
        "a@b-.example",
        "a@[1.2.3]",
        "a@[IPv6:1::2::3]",
        "a@[b.example]",
        'a"b"@c.example',
        "a,b@c.d",
        "\x85@b.example",
        "a@b\u2028.example",
        chr(0xDCFF) + "@b.example",
        "a@\N{ONE DOT LEADER}b.example",
        "x" * 250 + "@b.example",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Jane@ACME.example", "jane@acme.example"),
        ('"jane"@acme.example', "jane@acme.example"),
        ('"ja\\"ne"@acme.example', 'ja"ne@acme.example'),
        ('"a@b"@acme.example', "a@b@acme.example"),
        ("JÜRGEN@BÜRO.example", "jürgen@xn--bro-hoa.example"),
        ("a@xn--bro-hoa.example", "a@xn--bro-hoa.example"),
        ("a@[IPv6:2001:DB8:0::1]", "a@[IPv6:2001:db8::1]"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("=?utf-8?q?boss?=@acme.example", "=?utf-8?q?boss?=@acme.example"),
    ],
)
def test_how_addresses_compare(text: str, key: str) -> None:
    assert Address.parse(text).key == key


@pytest.mark.parametrize(
    ("text", "tag", "without"),
    [
        ("a+b@c.example", "+b", "a@c.example"),
        ("a+b+c@c.example", "+b+c", "a@c.example"),
        ("a@c.example", "", "a@c.example"),
        ("+b@c.example", "", "+b@c.example"),
        ('"a+b"@c.example', "", '"a+b"@c.example'),
    ],
)
def test_plus_tags(text: str, tag: str, without: str) -> None:
    address = Address.parse(text)
    assert address.tag == tag
    assert str(address.without_tag) == without
    assert str(Address.parse("x@y.example").with_tag(tag)) == f"x{tag}@y.example"


def test_what_needs_smtputf8() -> None:
    assert Address.parse("a@b.example").is_ascii
    assert not Address.parse("ü@b.example").is_ascii
    assert not Address.parse("a@bü.example").is_ascii
