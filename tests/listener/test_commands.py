"""The grammar of MAIL, RCPT and EHLO.

The invariant: whatever bytes come, the result is a value without control characters, or a reply.
"""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.listener.commands import (
    CommandFault,
    MailCommand,
    RcptCommand,
    parse_hello,
    parse_mail,
    parse_rcpt,
    split_command,
)
from relay.mail.address import Address
from relay.mail.envelope import Body
from relay.mail.reply import Reply

SENDER = Address("a", "b.example")

GOOD_MAIL = {
    b"FROM:<a@b.example>": MailCommand(SENDER),
    b"from:<a@b.example>": MailCommand(SENDER),
    b"FROM: <a@b.example>": MailCommand(SENDER),
    b"FROM:<>": MailCommand(None),
    b"FROM:<a@b.example> SIZE=123": MailCommand(SENDER, size=123),
    b"FROM:<a@b.example>  BODY=8BITMIME  SMTPUTF8": MailCommand(SENDER, body=Body.EIGHT_BIT_MIME, smtputf8=True),
    b"FROM:<a@b.example> body=7bit size=0": MailCommand(SENDER),
    b"FROM:<a@b.example> AUTH=<>": MailCommand(SENDER),
    b"FROM:<a@b.example> AUTH=e+3Dmc2@b.example": MailCommand(SENDER),
    "FROM:<ü@b.example> SMTPUTF8".encode(): MailCommand(Address("ü", "b.example"), smtputf8=True),
    b'FROM:<"a b"@b.example>': MailCommand(Address('"a b"', "b.example")),
    b'FROM:<"a>\\"b"@b.example> SIZE=1': MailCommand(Address('"a>\\"b"', "b.example"), size=1),
    b"FROM:<a@[127.0.0.1]>": MailCommand(Address("a", "[127.0.0.1]")),
    b"FROM:<a@[IPv6:::1]>": MailCommand(Address("a", "[IPv6:::1]")),
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
    b"FROM <a@b.example>",
    b"",
    b"TO:<a@b.example>",
    b'FROM:<"' + b"\\" * 2000,
]


@pytest.mark.parametrize("argument", TRICKS, ids=repr)
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
    assert parse_rcpt(b"TO:<a@b.example>").recipient == SENDER
    assert parse_rcpt(b"to: <a@b.example> ").recipient == SENDER


@pytest.mark.parametrize(
    ("argument", "code", "enhanced"),
    [
        (b"TO:<>", 501, "5.1.3"),
        (b"TO:<a>", 501, "5.1.3"),
        (b"TO:a@b.example", 501, "5.5.4"),
        (b"TO:<\xff@b.example>", 501, "5.1.3"),
        (b"TO:<a@b.example> X=1", 555, "5.5.4"),
        (b"TO:<a@b.example> =", 501, "5.5.4"),
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


@pytest.mark.parametrize("octet", [*range(0x20), 0x7F])
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
        b"RCPT TO:<a@c.example>%c",
        b"EHLO client%c.example",
        b"NO%cOP",
    ],
    ids=repr,
)
def test_no_control_character_passes(line: bytes, octet: int) -> None:
    hostile = line.replace(b"%c", bytes([octet]))
    with pytest.raises(CommandFault):
        split_command(hostile)
    # The parsers hold by themselves, too.
    verb, _, argument = hostile.partition(b" ")
    if verb in {b"MAIL", b"RCPT"}:
        with pytest.raises(CommandFault):
            (parse_mail if verb == b"MAIL" else parse_rcpt)(argument)
    elif verb == b"EHLO":
        assert parse_hello(argument).isprintable()


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


def outcome_of(parse: Callable[[bytes], MailCommand | RcptCommand], argument: bytes) -> Address | Reply | None:
    try:
        command = parse(argument)
    except CommandFault as fault:
        return fault.reply
    return command.sender if isinstance(command, MailCommand) else command.recipient


@given(st.binary(max_size=60))
def test_a_verb_is_what_stands_before_the_first_space(line: bytes) -> None:
    try:
        verb, argument = split_command(line)
    except CommandFault:
        return
    assert line.upper().startswith(verb)
    assert argument in line
    assert b" " not in verb
