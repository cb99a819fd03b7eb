"""A list of addresses is found as every program reads it, or is a fault."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.structured_fields import ListFault, parse_address_list
from tests.peers.rows import each_row


@each_row(
    ("text", "expected"),
    [
        ("", []),
        (" , ;", []),
        ("jo@x.example", ["jo@x.example"]),
        ("root", ["root"]),
        ("<root>", ["root"]),
        ("root (Cron Daemon)", ["root"]),
        ("jo@x.example, ann@y.example", ["jo@x.example", "ann@y.example"]),
        ("jo@x.example; ann@y.example;", ["jo@x.example", "ann@y.example"]),
        ("Jo <jo@x.example>,\tAnn D. <ann@y.example>", ["jo@x.example", "ann@y.example"]),
        ('"Doe, Jo <no@x.example>" <jo@x.example>', ["jo@x.example"]),
        ("(no@x.example, (a)) jo (b) @ (c) x.example (d)", ["jo@x.example"]),
        ("[List] Jo <jo@[192.0.2.1]>", ["jo@[192.0.2.1]"]),
        ("jo@x.example <ann@y.example>", ["ann@y.example"]),
        ("Friends: jo@x.example, Ann <ann@y.example>;", ["jo@x.example", "ann@y.example"]),
        ("undisclosed-recipients:;", []),
        ("Friends: jo@x.example;, ann@y.example", ["jo@x.example", "ann@y.example"]),
        ('"j o"@x.example', ['"j o"@x.example']),
        ('"a>b,c"@x.example', ['"a>b,c"@x.example']),
        ("=?utf-8?q?no=40x.example=2C?= <jo@x.example>", ["jo@x.example"]),
        ("jö@exämple.example", ["jö@exämple.example"]),
    ],
)
def test_the_addresses_of_a_list(text: str, expected: list[str]) -> None:
    found = parse_address_list(text)
    assert [address.text for address in found] == expected
    assert [address.has_domain for address in found] == ["@" in address for address in expected]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("jo jane", "'jo jane' is no mailbox"),
        ("jo@x.example ann@y.example", "no mailbox"),
        ("<jo@x.example", "no mailbox"),
        ("<jo@x.example> jo", "no mailbox"),
        ("<jo@x.example, ann@y.example>", "no mailbox"),
        ("<@a.example,@b.example:jo@x.example>", "no mailbox"),
        ("<>", "no mailbox"),
        ("@x.example", "no mailbox"),
        ("jo@", "no mailbox"),
        ("(jo@x.example", "a comment in it is not closed"),
        ('"jo@x.example', "has no place in it"),
        ("=?utf-8?q?jo?=@x.example", "holds an encoded word"),
        ('"jo\r\nRCPT TO:<ann@y.example>"@x.example', "it holds control characters"),
        ("jo@x.example\0", "it holds control characters"),
        ('"jo\tjane"@x.example', "holds a tab"),
    ],
)
def test_what_is_no_list(text: str, why: str) -> None:
    with pytest.raises(ListFault, match=why):
        parse_address_list(text)


@given(text=st.text(max_size=60) | st.text(alphabet='ab@.<>(),:;"\\[] \t\r\n=?', max_size=60))
def test_no_address_ends_a_path_or_a_line(text: str) -> None:
    """Only ListFault is raised, each address ends where it says, and none closes the brackets around it."""
    with suppress(ListFault):
        for address in parse_address_list(text):
            assert text[: address.end].rstrip(" \t\r\n").endswith(address.text[-1])
            assert not {"\r", "\n", "\0"} & set(address.text)
            unquoted = address.text.rpartition('"')[2] if address.text.startswith('"') else address.text
            assert not {"<", ">", " ", "\t"} & set(unquoted)
