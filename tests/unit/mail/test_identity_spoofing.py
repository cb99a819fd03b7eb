"""Whatever From a client forges, what leaves bears the identity alone, and its name shows no other address.

The vectors are of the kinds that "Composition Kills" (USENIX Security 2020) and "Weak Links" (arXiv 2011.08420) list.
"""

from collections.abc import Sequence

import pytest

from relay.mail.content import ContentRefused
from relay.mail.header import Header
from relay.mail.identity import Alignment, Mismatch, align
from tests.peers.rows import each_row
from tests.unit.mail.mail_kit import (
    MAILER,
    OWN,
    REJECT,
    REST,
    REWRITE,
    SHARED,
    SUPPORT,
    Client,
    alignment,
    fields_of,
    lines,
    send,
)

UNREADABLE = [
    pytest.param([f"From: {SUPPORT}", "From: ceo@acme.example"], "there are 2 of them", id="two From fields"),
    pytest.param([f"From: {SUPPORT}, ceo@acme.example"], "it names several mailboxes", id="several mailboxes"),
    pytest.param([f"From: {SUPPORT}; ceo@acme.example"], "it is a group", id="several mailboxes with a semicolon"),
    pytest.param(["From: Smith, John <ceo@acme.example>"], "it names several mailboxes", id="an unquoted comma"),
    pytest.param([f"From: ceo@acme.example: {SUPPORT};"], "it is a group", id="a group with an address as its name"),
    pytest.param([f"From: Team: {SUPPORT};"], "it is a group", id="a group"),
    pytest.param(["From: undisclosed:;"], "it is a group", id="an empty group"),
    pytest.param(
        ["From: =?utf-8?q?ceo=40acme.example?=@acme.example"],
        "its address holds an encoded word",
        id="an encoded word in the address",
    ),
    pytest.param(
        ["From: Jane <=?utf-8?q?ceo?=@acme.example>"],
        "its address holds an encoded word",
        id="an encoded word in the address in brackets",
    ),
    pytest.param(
        [f"From: <@evil.example:{SUPPORT}>"], "its address holds a source route", id="obsolete syntax: a source route"
    ),
    pytest.param(
        [f"From: <@a.example,@b.example:{SUPPORT}>"], "its address holds a source route", id="a long source route"
    ),
    pytest.param([f"From: {SUPPORT} (Jane"], "a comment in it is not closed", id="an unclosed comment"),
    pytest.param([f"From: {SUPPORT} (Jane\\)"], "a comment in it is not closed", id="a comment with an escaped end"),
    pytest.param(["From: "], "it is empty", id="an empty one"),
    pytest.param(["From: (nobody)"], "it is empty", id="a comment only"),
    pytest.param(["From: <>"], "it is no mailbox", id="a null address"),
    pytest.param(["From: Jane"], "it is no mailbox", id="no address"),
    pytest.param([f"From: {SUPPORT}>"], "it is no mailbox", id="a stray bracket"),
    pytest.param([f"From: <{SUPPORT}"], "it is no mailbox", id="an open bracket"),
    pytest.param([f"From: <{SUPPORT}> <ceo@acme.example>"], "it is no mailbox", id="two addresses in brackets"),
    pytest.param([f"From: ceo@acme.example <{SUPPORT}>"], "it is no mailbox", id="an unquoted address as the name"),
    pytest.param([f"From: <ceo@acme.example> {SUPPORT}"], "it is no mailbox", id="an address behind the brackets"),
    pytest.param([f"From: <<{SUPPORT}>>"], "it is no mailbox", id="brackets in brackets"),
    pytest.param([f'From: "Jane <{SUPPORT}>'], "'\"' has no place in it", id="an open quote"),
    pytest.param([f"From: Jane) <{SUPPORT}>"], "')' has no place in it", id="a stray parenthesis"),
    pytest.param([f"From: Jane\\ <{SUPPORT}>"], "'\\\\' has no place in it", id="a stray backslash"),
    pytest.param([f"From: {SUPPORT}\x01"], "it holds control characters", id="a control character"),
    pytest.param([f"From: {SUPPORT}\x0b\x0c"], "it holds control characters", id="vertical tab and form feed"),
    pytest.param(["From: ceo.@acme.example"], "'ceo.' is no local part", id="obsolete dots"),
    pytest.param(["From: jane@-acme.example"], "'-acme.example' is no domain", id="no domain name"),
    pytest.param([f"From: {'x' * 5000} <{SUPPORT}>"], "it is longer than 4096 octets", id="an endless name"),
]


@each_row("came", [pytest.param(row.values[0], id=row.id) for row in UNREADABLE])
def test_an_unreadable_from_is_replaced_by_the_identity_with_rewrite(came: Sequence[str]) -> None:
    """What leaves never bears an address that the client may not use, and its name neither."""
    outgoing = send(b"\r\n".join([*REST, *lines(*came), b"", b""]), alignment(client=Client(is_trusted=False)))
    assert fields_of(outgoing) == [*REST, *lines(f"From: {SUPPORT}")]


@each_row(("came", "why"), UNREADABLE)
def test_an_unreadable_from_is_refused_with_reject(came: Sequence[str], why: str) -> None:
    with pytest.raises(ContentRefused) as caught:
        send(b"\r\n".join([*REST, *lines(*came), b"", b""]), alignment(mismatch=REJECT))
    assert str(caught.value.reply) == f"554 5.6.0 From header: {why}"


@each_row("mismatch", [REWRITE, REJECT])
@each_row(
    ("block", "text"),
    [
        pytest.param(
            b"A: b\r\nFrom: c@d.example\n\r\n", "line 2 of the header block ends", id="bare LF mixed with CRLF"
        ),
        pytest.param(b"A: b\r\nX: y\nFrom: c@d.example\r\n\r\n", "line 2 of the header block ends", id="a hidden From"),
        pytest.param(b"A: b\r\nFro\r\n m: c@d.example\r\n\r\n", "line 2 of the header block is no", id="a folded name"),
        pytest.param(b"From : c@d.example\r\n\r\n", "line 1 of the header block is no", id="a spaced field name"),
        pytest.param(b"From\t: c@d.example\r\n\r\n", "line 1 of the header block is no", id="a field name with a tab"),
        pytest.param(b" From: c@d.example\r\n\r\n", "line 1 of the header block is no", id="an indented first line"),
        pytest.param(b"Hello\r\nFrom: c@d.example\r\n\r\n", "line 1 of the header block is no", id="no field first"),
        pytest.param(b"From c@d.example\r\nFrom: c@d.example\r\n\r\n", "line 1 of the header block is no", id="mbox"),
        pytest.param(b"A: b\r\n\xef\xbb\xbfFrom: c@d.example\r\n\r\n", "line 2 of the header block is no", id="a BOM"),
        pytest.param(b"A: b\rFrom: c@d.example\r\n\r\n", "line 1 holds a bare CR", id="a bare CR"),
        pytest.param(b"From\0: c@d.example\r\n\r\n", "line 1 holds a NUL", id="a NUL"),
    ],
)
def test_a_header_block_that_can_be_read_in_two_ways_is_refused(block: bytes, text: str, mismatch: Mismatch) -> None:
    with pytest.raises(ContentRefused) as caught:
        send(block, alignment(mismatch=mismatch))
    assert str(caught.value.reply).startswith(f"554 5.6.0 {text}")


HIDDEN_NAMES = [
    "=?utf-8?q?ceo=40acme.example?=",
    "=?utf-8?b?Y2VvQGFjbWUuZXhhbXBsZQ==?=",
    "=?utf-8?q?ceo?= =?utf-8?q?=40acme.example?=",
    "=?utf-8?q?ceo?= =?iso-8859-1?q?=40?= =?utf-8?q?acme.example?=",
    '"=?utf-8?q?ceo=40acme.example?="',
    "ceo =?utf-8?q?=40?= acme.example",
    "=?utf-8?b?Y2Vv77ygYWNtZS5leGFtcGxl?=",
    '"ceo\\@acme.example"',
    '"Boss <ceo@acme.example>"',
    '"ceo@acme.example via support@acme.example"',
    '"ceo @ acme.example"',
    '"ceo\N{FULLWIDTH COMMERCIAL AT}acme.example"',
    '"ceo\N{ZERO WIDTH SPACE}@acme.example"',
    '"ceo@acme\N{ONE DOT LEADER}example"',
    '"\N{RIGHT-TO-LEFT OVERRIDE}elpmaxe.emca@oec"',
    "=?utf-7?q?ceo+AEA-acme.example?=",
    "=?x-unknown?q?ceo=40acme.example?=",
    "=?utf-8?b?Y2V=vQGFjbWUuZXhhbXBsZQ==?=",
    "=?utf-8?q?=3D=3Futf-8=3Fq=3Fceo=3D40acme.example=3F=3D?=",
]


@each_row("display", HIDDEN_NAMES)
@each_row("aligned", [OWN, SHARED])
def test_a_name_that_shows_another_address_is_dropped(display: str, aligned: Alignment) -> None:
    header, changes = align(Header.parse(f"From: {display} <{SUPPORT}>\r\n".encode()), aligned)
    assert header.get_all("from")[0].raw == f"From: {aligned.identity}\r\n".encode()
    assert changes[0].field == "From"


def test_a_comment_that_shows_another_address_is_dropped() -> None:
    header, _ = align(Header.parse(f"From: {SUPPORT} (ceo@acme.example)\r\n".encode()), OWN)
    assert bytes(header) == f"From: {SUPPORT}\r\n".encode()


@pytest.mark.parametrize(
    ("came", "leaves"),
    [
        ("Jane Doe", "Jane Doe"),
        ("Acme Inc.", '"Acme Inc."'),
        ('"Doe, Jane"', '"Doe, Jane"'),
        ('"Jane \\"JD\\" Doe"', '"Jane \\"JD\\" Doe"'),
        ('"Jane @ Acme"', '"Jane @ Acme"'),
        ('"@jane"', '"@jane"'),
        ("=?iso-8859-1?q?J=F6rg_M=FCller?=", "=?utf-8?b?SsO2cmcgTcO8bGxlcg==?="),
        ("=?utf-8?b?SsO2cmc=?= Doe", "=?utf-8?b?SsO2cmcgRG9l?="),
        ("=?utf-8?b?SsO2cmc?=", "=?utf-8?b?SsO2cmc=?="),
        ("=?utf-8?q?Jane_=3CD=3E?=", '"Jane <D>"'),
        ("=?utf-8?q?Jane=0D=0AX-Evil=3A_1?=", '"Jane X-Evil: 1"'),
        ("Jane\t Doe", "Jane Doe"),
        ("J" * 80, "=?utf-8?b?"),
    ],
)
def test_how_a_name_is_written_beside_another_address(came: str, leaves: str) -> None:
    header, _ = align(Header.parse(f"From: {came} <{SUPPORT}>\r\n".encode()), SHARED._replace(reply_to=None))
    text = header.get_all("from")[0].value.decode()
    assert text.endswith(f" <{MAILER}>")
    assert text.startswith(leaves)
    assert max(map(len, bytes(header).split(b"\r\n"))) <= 78


@pytest.mark.parametrize(
    "came",
    [
        f"From: {SUPPORT} (Jane Doe)",
        f"From: (hi) Jane Doe (ho) <{SUPPORT}>",
        "From: Jane Doe <support(what)@(ever)acme.example>",
        f"From: Jane Doe < {SUPPORT} >",
        f"From: Jane Doe\r\n \r\n <{SUPPORT}>",
        'From: Jane Doe <"support"@acme.example>',
    ],
)
def test_a_mailbox_that_is_not_plain_is_written_anew(came: str) -> None:
    header, _ = align(Header.parse(f"{came}\r\n".encode()), OWN)
    assert bytes(header) == f"From: Jane Doe <{SUPPORT}>\r\n".encode()


@pytest.mark.parametrize(
    "came",
    [f"From:{SUPPORT}", f"FROM: Jane<{SUPPORT}>", f"From:\r\n Jane\r\n\t<{SUPPORT}>", f'From: "J" A. <{SUPPORT}>'],
)
def test_a_from_that_bears_the_identity_stays_byte_for_byte(came: str) -> None:
    header = Header.parse(f"{came}\r\n".encode())
    assert align(header, alignment(mismatch=REJECT)) == (header, ())
