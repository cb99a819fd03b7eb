"""The parsers that hostile octets reach, each with tokens of its grammar to make them of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hypothesis import strategies as st

from tests.hostile.checks import (
    check_address,
    check_address_list,
    check_command,
    check_content,
    check_header,
    check_leaving,
    check_login,
    check_mailbox,
    check_parameter,
    check_proxy,
    check_words,
)


@dataclass(frozen=True)
class Target:
    """One parser: what it is fed, and what must hold."""

    octets: st.SearchStrategy[bytes]
    check: Callable[[bytes], None]


def soup(*tokens: bytes, most: int = 12) -> st.SearchStrategy[bytes]:
    """Tokens of the grammar in any order, with any octets between."""
    token = st.one_of(st.sampled_from(tokens), st.sampled_from(tokens), st.binary(max_size=3))
    return st.lists(token, max_size=most).map(b"".join)


_PATHS = (
    b"<",
    b">",
    b"a@b.example",
    b'"a b"',
    b"@",
    b"\\",
    b"[127.0.0.1]",
    b"[IPv6:::1]",
    "ü".encode(),
    b":",
    b",",
    b" ",
)
_WORDS = (b"=?utf-8?q?a=40b?=", b"=?utf-8?b?YQ==?=", b"=?x?q?a?=", b"=?", b"?=", b"=0D=0A", b"=")
_FROM = (*_PATHS, *_WORDS, b"support@acme.example", b"ceo@acme.example", b"Jane", b"(", b")", b";", b"\t", b'"', b"\\(")
_FIELDS = (
    b"From:",
    b"\r\nFrom:",
    b"\r\nSender:",
    b"\r\n ",
    b"\n",
    b"\r",
    b"\r\nX:",
    b"\r\n\r\n",
    b"\0",
    b" :",
    b"\r\nReply-To:",
)
TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "a command line": Target(
            soup(
                b"MAIL",
                b"RCPT",
                b" FROM:",
                b" TO:",
                b" SIZE=1",
                b" ENVID=+0A",
                b" ORCPT=rfc822;a",
                b"AUTH PLAIN ",
                *_PATHS,
            ),
            check_command,
        ),
        "an address": Target(soup(*_PATHS, *_WORDS, b"a", b".", b"+", b"-", b"xn--"), check_address),
        "a mailbox": Target(soup(*_FROM), check_mailbox),
        "a list of addresses": Target(soup(*_FROM), check_address_list),
        "a header block": Target(soup(*_FIELDS, *_FROM, b"\r\n"), check_header),
        "a content": Target(soup(b"\r\n", b"\n", b"\r", b"a: b", b"\0", b".", b"x", most=20), check_content),
        "a message that leaves": Target(
            soup(*_FIELDS, *_FROM, *_FROM, most=16).map(lambda text: b"From:" + text), check_leaving
        ),
        "a parameter about reports": Target(
            soup(b"NEVER", b"SUCCESS", b",", b"rfc822;", b"utf-8;", b"+0A", b"+2B", b"\\x{0A}", b"\\x{2028}", b"a"),
            check_parameter,
        ),
        "encoded words": Target(soup(*_WORDS, b" ", b"a", "ü".encode()), check_words),
        "a login": Target(
            soup(
                b"\0",
                b"\n",
                b"support",
                b"right",
                b"n,,",
                b"n=",
                b"r=nonce",
                b",",
                b"c=biws",
                b"p=AAAA",
                b"y,a=support,",
            ),
            check_login,
        ),
        "a PROXY header": Target(
            soup(
                b"PROXY ",
                b"TCP4 ",
                b"UNKNOWN",
                b"10.1.0.9 ",
                b"\r\n",
                b"\r\n\r\n\0\r\nQUIT\n",
                b"\x21\x11",
                b"\0\x0c",
                bytes(12),
            ),
            check_proxy,
        ),
    }
)
