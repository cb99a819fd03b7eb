"""What leaves is what came, but for the fields that the contract names; every parser reads one From in it, ours."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email import message_from_bytes
from email.headerregistry import AddressHeader
from email.policy import compat32, default
from email.utils import getaddresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.content import Content, ContentRefused
from relay.mail.header import Change, Header
from relay.mail.identity import Alignment
from relay.mail.mailbox import names_other_address
from relay.mail.outgoing import compose
from tests.unit.mail.mail_kit import (
    ARRIVAL,
    MAILER,
    OWN,
    REJECT,
    SHARED,
    SUPPORT,
    Client,
    alignment,
    fields_of,
    read,
    send,
)

DATE, MESSAGE_ID = b"Mon, 24 Nov 2025 09:05:07 +0000", b"<0123456789abcdefghijklmn@acme.example>"
TOUCHED = ("from", "sender", "reply-to", "bcc", "resent-bcc", "return-path", "date", "message-id", "dkim-signature")
ALIGNMENTS = st.sampled_from(
    [OWN, SHARED, alignment(mismatch=REJECT), alignment(client=Client(is_trusted=False)), SHARED._replace(sender=None)]
)

# fmt: off
NAMES = st.sampled_from(
    [
        b"From", b"from", b"FROM", b"From ", b"From\t", b"\xef\xbb\xbfFrom", b"Sender", b"Reply-To", b"Resent-From",
        b"To", b"Subject", b"X-From", b"", b"Bcc", b"Date", b"Message-ID", b"DKIM-Signature", b"Received",
    ]
)
FRAGMENTS = st.sampled_from(
    [
        SUPPORT.encode(), SUPPORT.encode(), b"<" + SUPPORT.encode() + b">", b"ceo@acme.example", b"<ceo@acme.example>",
        b"x@nobody.example", b"<sales@acme.example>", b"Jane", b"Acme Inc.", b'"Doe, J."', b'"ceo@acme.example"',
        b"=?utf-8?q?ceo=40acme.example?=", b"=?utf-8?q?J=C3=B6rg?=", b"=?utf-8?q?a=2C_b=3C?=", b"=?utf-8?q?=0D=0Ax?=",
        b"J\xc3\xb6rg", b"J\xf6rg", b"(comment)", b"(ceo@acme.example)", b"\\", b'"', b"(", b")", b"<", b">", b"@",
        b",", b":", b";", b" ", b" ", b"\t", b"\r\n ", b"\r\n\t", b"\r\n \r\n ", b"\r\n", b"\n", b"\r", b"\0", b"\x0b",
        b"\x0c", b"\x1c", b"\x1f", b"\xc2\x85", b"\xe2\x80\xa8", b"@a.example:", b"Group:", b"[192.0.2.1]", b".",
    ]
)
# fmt: on
VALUES = st.lists(FRAGMENTS, max_size=7).map(b" ".join) | st.lists(FRAGMENTS, max_size=7).map(b"".join)
FIELDS = st.tuples(NAMES, VALUES).map(lambda parts: parts[0] + b": " + parts[1])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])
# Mostly a From first, so that most messages are let through.
BLOCKS = st.builds(
    lambda froms, others, end: end.join([*froms, *others, b""]),
    st.lists(VALUES.map(b"From: ".__add__), max_size=2),
    st.lists(FIELDS, max_size=4),
    ENDS,
)
BODIES = st.lists(st.sampled_from([b"From: ceo@acme.example", b"\n", b"\r\n", b".", b"\xff", b" "]), max_size=8).map(
    b"".join
)


def crlf_fields(message: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a message as a parser reads them that knows only CRLF: name in lower case, unfolded value."""
    block = (b"\r\n" + message).partition(b"\r\n\r\n")[0]
    raw = re.split(rb"\r\n(?![ \t])", block)[1:]
    parts = [line.replace(b"\r\n", b"").partition(b":") for line in raw]
    return [(name.strip().lower(), value.strip()) for name, _, value in parts]


def from_by_crlf(message: bytes) -> list[str]:
    found = [value for name, value in crlf_fields(message) if name == b"from"]
    return [re.sub(r".*<(.*)>", r"\1", value.decode()) for value in found]


def from_by_compat32(message: bytes) -> list[str]:
    found = message_from_bytes(message, policy=compat32).get_all("from", [])
    return [address for _, address in getaddresses([str(value) for value in found])]


def from_by_default(message: bytes) -> list[str]:
    found: Sequence[AddressHeader] = message_from_bytes(message, policy=default).get_all("from", [])
    assert all(group.display_name is None for header in found for group in header.groups)
    return [address.addr_spec for header in found for address in header.addresses]


@given(block=BLOCKS, body=BODIES, aligned=ALIGNMENTS)
@example(block=b"From: support@acme.example\r\n", body=b"\r\n", aligned=OWN)
def test_every_parser_reads_one_from_that_is_the_identity(block: bytes, body: bytes, aligned: Alignment) -> None:
    """Python's old and new parser and one for CRLF alone see exactly one From, with exactly the identity's address,
    and a display name that shows no address of others."""
    try:
        outgoing = send(block + b"\r\n" + body, aligned)
    except ContentRefused:
        return
    message = b"".join(outgoing.content.chunks())
    identity = [str(aligned.identity)]
    assert from_by_crlf(message) == from_by_compat32(message) == from_by_default(message) == identity
    (header,) = message_from_bytes(message, policy=default).get_all("from", [])
    assert not names_other_address(header.addresses[0].display_name, aligned.is_own)
    assert b"\0" not in message
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", message)


@given(block=BLOCKS, body=BODIES, aligned=ALIGNMENTS)
def test_what_is_not_named_leaves_as_it_came(block: bytes, body: bytes, aligned: Alignment) -> None:
    """The body is the same bytes, and the untouched fields are the same bytes in the same order."""
    try:
        content = read(block + b"\r\n" + body)
        header = Header.parse(content.header)
        outgoing = compose(content, header, arrival=ARRIVAL, recipients=(), alignment=aligned, script=None)
    except ContentRefused:
        return
    assert outgoing.content.body is content.body
    left = Header.parse(outgoing.content.header)
    assert left.fields[0].key == "received"
    assert [f.raw for f in left.fields[1:] if f.key not in TOUCHED] == [
        f.raw for f in header.fields if f.key not in TOUCHED
    ]
    changed = {change.field.lower() for change in outgoing.changes}
    for key in TOUCHED:
        assert (key in changed) is (left.get_all(key) != header.get_all(key))


@given(block=BLOCKS, aligned=ALIGNMENTS)
def test_composing_twice_makes_the_same(block: bytes, aligned: Alignment) -> None:
    """Every attempt sends the same message, and what has left once is aligned already."""
    try:
        first, second = send(block + b"\r\n", aligned), send(block + b"\r\n", aligned)
    except ContentRefused:
        return
    assert first == second
    header = Header.parse(first.content.header)
    again = compose(first.content, header, arrival=ARRIVAL, recipients=(), alignment=aligned, script=None)
    assert again.changes == ()


def test_date_and_message_id_are_added_when_missing_once() -> None:
    outgoing = send(f"From: {SUPPORT}\r\nmessage-id: \r\n\r\nx\r\n".encode(), OWN)
    expected = [f"From: {SUPPORT}".encode(), b"Message-ID: " + MESSAGE_ID, b"Date: " + DATE]
    assert fields_of(outgoing) == expected
    assert outgoing.changes == (
        Change("Date", "", DATE.decode()),
        Change("Message-ID", "", MESSAGE_ID.decode()),
    )
    again = send(b"".join(outgoing.content.chunks()), OWN, arrival=ARRIVAL._replace(id="x" * 24))
    assert [item for item in fields_of(again) if not item.startswith(b"Received")] == expected


def test_one_received_stands_on_top() -> None:
    outgoing = send(f"From: {SUPPORT}\r\n\r\n".encode(), OWN)
    fields = Header.parse(outgoing.content.header).fields
    assert [item.key for item in fields].index("received") == 0
    assert len(Header.parse(outgoing.content.header).get_all("received")) == 1
    assert fields[0].text.startswith("from client.example ([192.0.2.7])\tby relay.example with ESMTP id 0123456789")
    assert "for <bob0@customer.example>" in fields[0].text
    assert "for <" not in Header.parse(send(b"A: b\r\n\r\n", OWN, recipients=2).content.header).fields[0].text


def test_scripts_run_before_alignment_and_break_signatures() -> None:
    block = f"DKIM-Signature: h=subject:x-mailer\r\nFrom: {SUPPORT}\r\nX-Mailer: y\r\n\r\n".encode()
    outgoing = send(block, SHARED, script=({"Organization": "Acme"}, ["X-Mailer"]))
    assert [change.field for change in outgoing.changes] == [
        *("From", "Reply-To", "Date", "Message-ID", "X-Mailer", "Organization", "DKIM-Signature")
    ]
    assert b"Organization: Acme\r\n" in outgoing.content.header


def test_a_loop_is_refused_before_all_else() -> None:
    with pytest.raises(ContentRefused, match=r"554 5\.4\.6"):
        send(b"Received: by relay.example; x\r\n" * 3 + b"From: ceo@acme.example\r\n\r\n", OWN)


def test_a_stored_message_follows_its_route_at_every_attempt() -> None:
    """Nothing is rewritten twice: each attempt starts from the message as it came."""
    content = read(f"From: Jane <{SUPPORT}>\r\n\r\nx\r\n".encode())
    header = Header.parse(content.header)
    later = ARRIVAL._replace(received_at=datetime(2025, 11, 24, 9, 5, 7, tzinfo=UTC))
    shared = compose(content, header, arrival=later, recipients=(), alignment=SHARED, script=None)
    own = compose(content, header, arrival=later, recipients=(), alignment=OWN, script=None)
    assert f"From: Jane <{MAILER}>\r\n".encode() in shared.content.header
    assert f"From: Jane <{SUPPORT}>\r\n".encode() in own.content.header
    assert b"Reply-To" not in own.content.header
    assert content == Content(f"From: Jane <{SUPPORT}>\r\n".encode(), (b"x\r\n",))
