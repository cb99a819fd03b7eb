"""One row per sentence of DESIGN's "Identity, in full" that concerns the message: what comes, and what leaves."""

from collections.abc import Sequence

import pytest

from relay.mail.content import ContentRefused
from relay.mail.header import Change, Header
from relay.mail.identity import Alignment, align, from_address
from tests.peers.rows import each_row
from tests.unit.mail.mail_kit import (
    HELP,
    MAILER,
    OWN,
    REJECT,
    REST,
    SHARED,
    SUPPORT,
    Client,
    alignment,
    fields_of,
    lines,
    send,
)


@each_row(
    ("aligned", "came", "leaves"),
    [
        pytest.param(
            alignment(identity="support+4711@acme.example", sender="support+4711@acme.example"),
            ["From: Jane <support+4711@acme.example>"],
            ["From: Jane <support+4711@acme.example>"],
            id="A plus tag is kept when the identity is the profile's own address",
        ),
        pytest.param(
            SHARED,
            ["From: support+4711@acme.example"],
            [f"From: {MAILER}", f"Reply-To: {SUPPORT}"],
            id="A plus tag is dropped otherwise",
        ),
        pytest.param(
            alignment(sender=HELP),
            [f"From: {HELP}"],
            [f"From: {SUPPORT}"],
            id="An alias leaves as `address` (alias_identity = rewrite)",
        ),
        pytest.param(
            alignment(identity=HELP, sender=HELP),
            [f"From: {SUPPORT}"],
            [f"From: {HELP}"],
            id="An alias leaves as itself in envelope and From (keep)",
        ),
        pytest.param(
            alignment(mismatch=REJECT),
            [f"From: {HELP}"],
            [f"From: {SUPPORT}"],
            id="From of the same profile, an alias: aligned silently, also with reject",
        ),
        pytest.param(
            alignment(mismatch=REJECT),
            ["From: Support+7@ACME.example"],
            [f"From: {SUPPORT}"],
            id="From of the same profile, a tag and another spelling: aligned silently, also with reject",
        ),
        pytest.param(
            OWN,
            ["From: Sales <sales@acme.example>"],
            [f"From: Sales <{SUPPORT}>"],
            id="From of another profile that this client may use: from_mismatch decides (rewrite)",
        ),
        pytest.param(
            OWN,
            ["From: x@nobody.example"],
            [f"From: {SUPPORT}"],
            id="From that is nobody's of ours, for a client that may send as any: from_mismatch decides (rewrite)",
        ),
        pytest.param(OWN, ["Subject: x"], ["Subject: x", f"From: {SUPPORT}"], id="No From: one is made"),
        pytest.param(
            alignment(mismatch=REJECT),
            ["Subject: x"],
            ["Subject: x", f"From: {SUPPORT}"],
            id="No From: one is made, also with reject",
        ),
        pytest.param(
            OWN,
            [f"From: Jané <{SUPPORT}>".encode("latin-1"), "Subject: \udcff".encode("ascii", "surrogateescape")],
            [f"From: =?utf-8?b?SmFuw6k=?= <{SUPPORT}>", b"Subject: \xff"],
            id="Raw 8-bit header bytes are accepted; a name in another charset than UTF-8 is encoded",
        ),
        pytest.param(
            OWN,
            [f"From: Jané <{SUPPORT}>"],
            [f"From: Jané <{SUPPORT}>"],
            id="Raw 8-bit header bytes are passed on",
        ),
        pytest.param(
            SHARED,
            ["From: =?utf-8?q?Jan=C3=A9?= <support@acme.example>"],
            [f"From: =?utf-8?b?SmFuw6k=?= <{MAILER}>", f"Reply-To: {SUPPORT}"],
            id="The display name is kept",
        ),
        pytest.param(
            SHARED,
            [f'From: "Acme, {SUPPORT}" <{SUPPORT}>'],
            [f'From: "Acme, {SUPPORT}" <{MAILER}>', f"Reply-To: {SUPPORT}"],
            id="The display name is kept when it names the profile's own address",
        ),
        pytest.param(
            OWN,
            [f'From: "ceo@acme.example" <{SUPPORT}>'],
            [f"From: {SUPPORT}"],
            id="The display name is kept when it names no other address (it does)",
        ),
        pytest.param(
            SHARED,
            [f"From: {SUPPORT}", "Reply-To: bob@elsewhere.example"],
            [f"From: {MAILER}", "Reply-To: bob@elsewhere.example"],
            id="Reply-To is set unless the message has one",
        ),
        pytest.param(
            SHARED,
            ["Reply-To: ", f"From: {SUPPORT}"],
            [f"Reply-To: {SUPPORT}", f"From: {MAILER}"],
            id="An empty Reply-To is none",
        ),
        pytest.param(
            alignment(identity=MAILER, reply_to=HELP, sender=HELP),
            ["From: x@nobody.example"],
            [f"From: {MAILER}", f"Reply-To: {HELP}"],
            id="Reply-To is set to the alias used: never to an address outside the profile",
        ),
        pytest.param(
            OWN,
            [f"From: {SUPPORT}", "Sender: x@nobody.example"],
            [f"From: {SUPPORT}"],
            id="Sender is removed",
        ),
        pytest.param(
            OWN,
            [f"From: {SUPPORT}", f"Sender: {SUPPORT}"],
            [f"From: {SUPPORT}", f"Sender: {SUPPORT}"],
            id="Sender is removed unless it is the identity",
        ),
        pytest.param(
            OWN,
            [f"From: {SUPPORT}", f"Sender: {SUPPORT}", f"Sender: {SUPPORT}"],
            [f"From: {SUPPORT}"],
            id="Two Sender fields are removed",
        ),
        pytest.param(
            OWN,
            [f"From: {SUPPORT}", f'Sender: "ceo@acme.example" <{SUPPORT}>'],
            [f"From: {SUPPORT}"],
            id="Sender is removed where its name shows another address",
        ),
        pytest.param(
            OWN,
            ["Bcc: a@b.example", f"From: {SUPPORT}", "Resent-Bcc: c@d.example", "Return-Path: <e@f.example>"],
            [f"From: {SUPPORT}"],
            id="Bcc, Resent-Bcc and Return-Path are removed",
        ),
        pytest.param(
            SHARED,
            ["DKIM-Signature: v=1; h=from:subject", f"From: {SUPPORT}"],
            [f"From: {MAILER}", f"Reply-To: {SUPPORT}"],
            id="A DKIM signature over a field that we changed is removed",
        ),
        pytest.param(
            OWN,
            ["DKIM-Signature: v=1;\th=from : subject; b=a b", f"From: Jane  <{SUPPORT}>"],
            ["DKIM-Signature: v=1;\th=from : subject; b=a b", f"From: Jane  <{SUPPORT}>"],
            id="Other signatures stay valid byte for byte",
        ),
        pytest.param(
            OWN,
            ["Resent-From: ceo@acme.example", "Resent-Sender: x@y.example"],
            ["Resent-From: ceo@acme.example", "Resent-Sender: x@y.example", f"From: {SUPPORT}"],
            id="Resent-* never picks a profile, and leaves as it came",
        ),
        pytest.param(
            SHARED,
            ["X-A:  1", f"from: {SUPPORT}", "x-a:2 ", "To: a@b.example,\t c@d.example", "Received: by x.example; now"],
            [
                "X-A:  1",
                f"From: {MAILER}",
                "x-a:2 ",
                "To: a@b.example,\t c@d.example",
                "Received: by x.example; now",
                f"Reply-To: {SUPPORT}",
            ],
            id="Everything else leaves as it came",
        ),
    ],
)
def test_what_leaves(aligned: Alignment, came: Sequence[str | bytes], leaves: Sequence[str | bytes]) -> None:
    body = b"Caf\xe9\r\n.\r\n\r\n \r\n"
    outgoing = send(b"\r\n".join([*REST, *lines(*came), b"", body]), aligned)
    assert fields_of(outgoing) == [*REST, *lines(*leaves)]
    assert b"".join(outgoing.content.body) == body


@pytest.mark.parametrize(
    ("aligned", "address"),
    [
        pytest.param(alignment(mismatch=REJECT), "sales@acme.example", id="another profile's, reject"),
        pytest.param(alignment(mismatch=REJECT), "x@nobody.example", id="nobody's, reject"),
        pytest.param(OWN, "ceo@acme.example", id="another profile's that this client may not use, rewrite"),
        pytest.param(alignment(client=Client(is_trusted=False)), "x@nobody.example", id="nobody's, any other client"),
    ],
)
def test_a_from_that_may_not_be_is_refused(aligned: Alignment, address: str) -> None:
    with pytest.raises(ContentRefused) as caught:
        send(b"\r\n".join([f"From: Jane <{address}>".encode(), b"", b""]), aligned)
    assert str(caught.value.reply) == f"550 5.7.1 From header <{address}> does not match the sender <{SUPPORT}>"


@pytest.mark.parametrize(
    ("block", "address"),
    [
        (f"From: Jane <{SUPPORT}>\r\n", SUPPORT),
        (f"From: {SUPPORT} (Jane)\r\n", SUPPORT),
        ("Subject: x\r\n", None),
        (f"From: {SUPPORT}\r\nFrom: {SUPPORT}\r\n", None),
        (f"From: {SUPPORT}, {HELP}\r\n", None),
        (f"From: Team: {SUPPORT};\r\n", None),
        ("From: =?utf-8?q?support?=@acme.example\r\n", None),
        (f"Resent-From: {SUPPORT}\r\nSender: {SUPPORT}\r\n", None),
    ],
)
def test_a_null_sender_is_routed_by_an_unambiguous_from(block: str, address: str | None) -> None:
    found = from_address(Header.parse(block.encode()))
    assert (str(found) if found else None) == address


def test_the_refusal_of_a_null_senders_from_names_the_null_sender() -> None:
    with pytest.raises(ContentRefused, match="does not match the sender <>"):
        align(Header.parse(b"From: ceo@acme.example\r\n"), alignment(sender=None))


def test_an_identity_that_is_not_ascii_is_written_in_utf8() -> None:
    identity = "jürgen@büro.example"
    header, _ = align(Header.parse("From: Jürgen <x@y.example>\r\n".encode()), alignment(identity=identity))
    assert bytes(header).decode() == f"From: =?utf-8?b?SsO8cmdlbg==?= <{identity}>\r\n"


def test_changes_are_decoded_for_people() -> None:
    block = "From: =?utf-8?q?J=C3=B6rg?= <support@acme.example>\r\nSender: x@y.example\r\n"
    _, changes = align(Header.parse(block.encode()), SHARED)
    assert changes == (
        Change("From", f"Jörg <{SUPPORT}>", f"Jörg <{MAILER}>"),
        Change("Sender", "x@y.example", ""),
        Change("Reply-To", "", SUPPORT),
    )


def test_a_change_is_short() -> None:
    _, changes = align(Header.parse(b"Sender: " + b"x" * 3000 + b"\r\n" + b"Sender: y\r\n" * 3000), OWN)
    assert [(change.field, len(change.before)) for change in changes] == [("From", 0), ("Sender", 503)]
