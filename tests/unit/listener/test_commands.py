"""The grammar of MAIL, RCPT and EHLO.

The invariant: whatever bytes come, the result is a value without control characters, or a reply.
"""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.listener.commands import (
    CommandFault,
    parse_hello,
    parse_mail,
    parse_rcpt,
    split_command,
)
from relay.mail.address import Address
from relay.mail.dsn_parameters import Notify, OriginalRecipient, Return, decode_xtext
from relay.mail.envelope import Body, Envelope, Recipient
from relay.mail.reply import Reply
from tests.peers.rows import each_row

SENDER = Address("a", "b.example")

GOOD_MAIL = {
    b"FROM:<a@b.example>": Envelope(SENDER),
    b"from:<a@b.example>": Envelope(SENDER),
    b"FROM: <a@b.example>": Envelope(SENDER),
    b"FROM:<>": Envelope(None),
    b"FROM:<a@b.example> SIZE=123": Envelope(SENDER, size=123),
    b"FROM:<a@b.example>  BODY=8BITMIME  SMTPUTF8": Envelope(SENDER, body=Body.EIGHT_BIT_MIME, smtputf8=True),
    b"FROM:<a@b.example> body=7bit size=0": Envelope(SENDER),
    b"FROM:<a@b.example> AUTH=<>": Envelope(SENDER),
    b"FROM:<a@b.example> AUTH=e+3Dmc2@b.example": Envelope(SENDER),
    "FROM:<ü@b.example> SMTPUTF8".encode(): Envelope(Address("ü", "b.example"), smtputf8=True),
    b"FROM:<a@b.example> ret=hdrs ENVID=a+2Bb": Envelope(SENDER, ret=Return.HEADERS, envid="a+2Bb"),
    b"FROM:<a@b.example> RequireTLS": Envelope(SENDER, require_tls=True),
    b"FROM:<> RET=FULL": Envelope(None, ret=Return.FULL),
    b'FROM:<"a b"@b.example>': Envelope(Address('"a b"', "b.example")),
    b'FROM:<"a>\\"b"@b.example> SIZE=1': Envelope(Address('"a>\\"b"', "b.example"), size=1),
    b"FROM:<a@[127.0.0.1]>": Envelope(Address("a", "[127.0.0.1]")),
    b"FROM:<a@[IPv6:::1]>": Envelope(Address("a", "[IPv6:::1]")),
}


@pytest.mark.parametrize("argument", GOOD_MAIL, ids=repr)
def test_mail(argument: bytes) -> None:
    assert parse_mail(argument) == GOOD_MAIL[argument]


# What aiosmtpd 1.4.6 takes for an address, or reads as another one than was written (protocol.md 0.1).
TRICKS = [
    b'FROM:<"=?utf-8?q?a=0d=0aX-Inj:1?="@b.c',
    b'FROM:<"a\r\nX-Inj:1"@b.example>',
    b"FROM:<a b@c.example>",
    b"FROM:<a@b.c",
    b'FROM:<"a\rb"@c.example>',
    b"FROM:<a@b\rc.example>",
    b"FROM:<@r1.example,@r2.example:a@b.c>",
    b"FROM:a@b.example",
    b"FROM:<a>",
    b"FROM:<<a@b.example>>",
    b"FROM:<a@b.example>SIZE=1",
    b"FROM:<a@b.example>\tSIZE=1",
    b"FROM:  <a@b.example>",
    b"FROM:<a@b.example> <c@d.example>",
    b"FROM:<a@b.example> =1",
    b"FROM:<a@b.example> SIZE=",
    b"FROM:<a@b.example> SIZE",
    b"FROM:<a@b.example> SIZE=123456789012345678901",
    b"FROM:<a@b.example> AUTH",
    b"FROM:<a@b.example> SIZE=1\x00",
    b"FROM:<a@b.example> REQUIRETLS=1",
    b"FROM:<a@b.example> REQUIRETLS REQUIRETLS",
    b"FROM:<a@b.example> RET",
    b"FROM:<a@b.example> RET=NONE",
    b"FROM:<a@b.example> RET=FULL RET=FULL",
    b"FROM:<a@b.example> ENVID",
    b"FROM:<a@b.example> ENVID=a+0A",
    b"FROM:<a@b.example> ENVID=" + b"x" * 101,
    b"FROM:<a@b.example> ENVID=\xc3\xbc",
    b"FROM <a@b.example>",
    b"",
    b"TO:<a@b.example>",
    b'FROM:<"' + b"\\" * 2000,
]


@each_row("argument", TRICKS, ids=repr)
def test_mail_refuses(argument: bytes) -> None:
    with pytest.raises(CommandFault) as fault:
        parse_mail(argument)
    assert fault.value.reply.code == 501


@pytest.mark.parametrize(
    "local", [b"=?utf-8?q?boss?=", b"=?utf-8?q?victim=40corp=2Eexample=3E?=", b'"=?utf-8?q?a=0d=0aX-Inj:1?="']
)
def test_an_encoded_word_is_taken_as_it_is_written(local: bytes) -> None:
    """Atoms may hold "=" and "?": such an address exists, and nothing decodes it."""
    sender = parse_mail(b"FROM:<" + local + b"@corp.example>").sender
    assert sender is not None
    assert str(sender).encode() == local + b"@corp.example"


def test_rcpt() -> None:
    assert parse_rcpt(b"TO:<a@b.example>") == Recipient(SENDER)
    assert parse_rcpt(b"to: <a@b.example> ") == Recipient(SENDER)


def test_rcpt_keeps_what_is_asked_about_reports() -> None:
    recipient = parse_rcpt(b"TO:<a@b.example> orcpt=RFC822;a+2Bb@c.example NOTIFY=Failure,delay")
    assert recipient == Recipient(SENDER, Notify("Failure,delay"), OriginalRecipient("RFC822", "a+2Bb@c.example"))


@pytest.mark.parametrize(
    ("argument", "code", "enhanced"),
    [
        (b"TO:<>", 501, "5.1.3"),
        (b"TO:<a>", 501, "5.1.3"),
        (b"TO:a@b.example", 501, "5.5.4"),
        (b"TO:<\xff@b.example>", 501, "5.1.3"),
        (b"TO:<a@b.example> X=1", 555, "5.5.4"),
        (b"TO:<a@b.example> =", 501, "5.5.4"),
        (b"TO:<a@b.example> RET=FULL", 555, "5.5.4"),
        (b"TO:<a@b.example> NOTIFY", 501, "5.5.4"),
        (b"TO:<a@b.example> NOTIFY=", 501, "5.5.4"),
        (b"TO:<a@b.example> NOTIFY=NEVER,DELAY", 501, "5.5.4"),
        (b"TO:<a@b.example> NOTIFY=DELAY NOTIFY=DELAY", 501, "5.5.4"),
        (b"TO:<a@b.example> ORCPT=rfc822;a ORCPT=rfc822;a", 501, "5.5.4"),
        (b"TO:<a@b.example> ORCPT=a@b.example", 501, "5.5.4"),
        (b"TO:<a@b.example> ORCPT=rfc822;a+0D+0AX:", 501, "5.5.4"),
        (b"TO:<a@b.example> ORCPT=rfc822;\xc3\xbc", 501, "5.5.4"),
        (b"TO:<a@b.example> ORCPT=utf-8;\xff", 501, "5.5.4"),
        (b"TO:<a@b.example> ORCPT=rfc822;" + b"x" * 500, 501, "5.5.4"),
    ],
)
def test_rcpt_refuses(argument: bytes, code: int, enhanced: str) -> None:
    with pytest.raises(CommandFault) as fault:
        parse_rcpt(argument)
    assert (fault.value.reply.code, fault.value.reply.enhanced) == (code, enhanced)


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        (b"client.example", "client.example"),
        (b" client.example  and more", "client.example"),
        (b"[127.0.0.1]", "[127.0.0.1]"),
        ("jürgens-pc".encode(), "j??rgens-pc"),
        (b"a\x00b\x7fc", "a?b?c"),
        (b"x" * 300, "x" * 255),
    ],
)
def test_hello_is_made_printable(argument: bytes, name: str) -> None:
    assert parse_hello(argument) == name


@pytest.mark.parametrize("argument", [b"", b"  "])
def test_hello_wants_a_name(argument: bytes) -> None:
    with pytest.raises(CommandFault, match=r"501 5\.5\.4"):
        parse_hello(argument)


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<a%cb@c.example>",
        b'MAIL FROM:<"a%cb"@c.example>',
        b'MAIL FROM:<"a\\%cb"@c.example>',
        b"MAIL FROM:<a@c%c.example>",
        b"MAIL FROM:<a@c.example> SIZE=%c1",
        b"MAIL FROM:<a@c.example> BODY=8BIT%cMIME",
        b"MAIL FROM:<a@c.example> SMTPUTF8%c",
        b"MAIL FROM:<a@c.example> AUTH=a%cb",
        b"MAIL FROM:<a@c.example>%cSIZE=1",
        b"RCPT TO:<a%cb@c.example>",
        b"MAIL FROM:<a@c.example> RET=%cFULL",
        b"MAIL FROM:<a@c.example> ENVID=a%cb",
        b"RCPT TO:<a@c.example>%c",
        b"RCPT TO:<a@c.example> NOTIFY=NEVER%c",
        b"RCPT TO:<a@c.example> ORCPT=rfc822;a%cb",
        b"RCPT TO:<a@c.example> ORCPT=utf-8;a%cb",
        b"EHLO client%c.example",
        b"NO%cOP",
    ],
    ids=repr,
)
def test_no_control_character_passes(line: bytes) -> None:
    for hostile in (line.replace(b"%c", bytes([octet])) for octet in (*range(0x20), 0x7F)):
        assert is_refused(split_command, hostile), hostile
        # The parsers hold by themselves, too.
        verb, _, argument = hostile.partition(b" ")
        if verb in {b"MAIL", b"RCPT"}:
            assert is_refused(parse_mail if verb == b"MAIL" else parse_rcpt, argument), hostile
        elif verb == b"EHLO":
            assert parse_hello(argument).isprintable(), hostile


def is_refused(parse: Callable[[bytes], object], octets: bytes) -> bool:
    try:
        parse(octets)
    except CommandFault:
        return True
    return False


PIECES = st.sampled_from(
    [
        b"<",
        b">",
        b'"',
        b"\\",
        b"@",
        b":",
        b"=",
        b" ",
        b"\r",
        b"\n",
        b"\x00",
        b"a",
        b"b.example",
        b"FROM:",
        b"TO:",
        b"SIZE",
    ]
)


@given(st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=14).map(b"".join)))
@example(b'<"\\\r"@b.example>')
def test_whatever_comes_a_clean_value_or_a_reply(text: bytes) -> None:
    for parse, keyword in ((parse_mail, b"FROM:"), (parse_rcpt, b"TO:")):
        for argument in (text, keyword + text, keyword + b"<" + text + b">"):
            outcome = outcome_of(parse, argument)
            if isinstance(outcome, Reply):
                assert outcome.is_permanent
                assert outcome.enhanced
            else:
                assert min(map(ord, str(outcome or "@"))) >= 0x20


def outcome_of(parse: Callable[[bytes], Envelope | Recipient], argument: bytes) -> Address | Reply | None:
    try:
        command = parse(argument)
    except CommandFault as fault:
        return fault.reply
    return command.sender if isinstance(command, Envelope) else command.address


# What a client may put behind "=", with all that decodes to something else: xtext, RFC 6533's escapes, UTF-8.
VALUES = st.lists(
    st.one_of(
        st.binary(max_size=4),
        st.text(max_size=4).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.integers(0, 255).map(lambda octet: b"+%02X" % octet),
        st.integers(0, 0x110000).map(lambda point: b"\\x{%02X}" % point),
        st.sampled_from([b"rfc822;", b"utf-8;", b";", b"NEVER", b"SUCCESS,", b"DELAY", b"FULL", b"HDRS", b"a@b.c"]),
    ),
    max_size=6,
).map(b"".join)
NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@given(st.lists(st.tuples(st.sampled_from([b"ENVID", b"RET", b"SIZE", b"BODY", b"AUTH"]), VALUES), max_size=3))
@example([(b"ENVID", b"a+0Ab")])
def test_no_field_of_mail_holds_a_control_character(parameters: list[tuple[bytes, bytes]]) -> None:
    words = b"".join(b" %s=%s" % parameter for parameter in parameters)
    try:
        command = parse_mail(b"FROM:<a@b.example>" + words)
    except CommandFault:
        return
    for stored in (command.envid, decode_xtext(command.envid)):
        assert not NOT_IN_A_LINE.search(stored)
    assert command.envid.isascii()


@given(st.lists(st.tuples(st.sampled_from([b"NOTIFY", b"ORCPT"]), VALUES), max_size=2))
@example([(b"ORCPT", b"utf-8;\\x{0A}")])
@example([(b"ORCPT", "utf-8;a\u2028b".encode())])
def test_no_field_of_rcpt_holds_a_control_character(parameters: list[tuple[bytes, bytes]]) -> None:
    words = b"".join(b" %s=%s" % parameter for parameter in parameters)
    try:
        recipient = parse_rcpt(b"TO:<a@b.example>" + words)
    except CommandFault:
        return
    stored = [*recipient.report_parameters(smtputf8=True), *recipient.report_parameters(smtputf8=False)]
    if recipient.original is not None:
        stored += [recipient.original.address_type, recipient.original.text, recipient.original.address]
    for text in stored:
        assert not NOT_IN_A_LINE.search(text)


@given(st.binary(max_size=60))
def test_a_verb_is_what_stands_before_the_first_space(line: bytes) -> None:
    try:
        verb, argument = split_command(line)
    except CommandFault:
        return
    assert line.upper().startswith(verb)
    assert argument in line
    assert b" " not in verb
