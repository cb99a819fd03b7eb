"""What a client may say: valid commands, broken ones, and valid ones with an octet changed."""

import re
from collections.abc import Sequence

from hypothesis import strategies as st

from tests.hostile.reading import encoded

_FILLING = re.compile(rb"\{([0-9]+)\}")
_ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n")
_HELLO = (b"EHLO client.example", b"ehlo [127.0.0.1]", b"HELO client", b"EHLO", b"EHLO a b c", "EHLO ü".encode())
_MAIL = (
    b"MAIL FROM:<support@acmejets.example>",
    b"MAIL FROM:<jane@acmejets.example> REQUIRETLS",
    b"mail from:<support+1@acmejets.example> BODY=8BITMIME SMTPUTF8",
    b"MAIL FROM: <> RET=HDRS ENVID=X1 AUTH=<>",
    b"MAIL FROM:<stranger@acmejets.example>",
    b"MAIL FROM:<full@acmejets.example>",
    b"MAIL FROM:<support@acmejets.example> SIZE=99999999",
    b"MAIL FROM:support@acmejets.example",
    b'MAIL FROM:<"=?utf-8?q?a=0d=0aX-Inj:1?="@b.example>',
    "MAIL FROM:<jürgen@acmejets.example>".encode(),
)
_RCPT = (
    b"RCPT TO:<jo@customer.example>",
    b"RCPT TO:<jo@customer.example>",
    b"rcpt to:<refused@customer.example>",
    b"RCPT TO:<jo@customer.example> NOTIFY=NEVER ORCPT=rfc822;jo@customer.example",
    b"RCPT TO:<jo@customer.example> NOTIFY=SOMETIMES",
    b"RCPT TO:<jo>",
    b"RCPT TO:<a b@customer.example>",
)
_OTHERS = (
    b"RSET",
    b"RSET now",
    b"NOOP",
    b"NOOP \xff",
    b"HELP me",
    b"VRFY jo",
    b"EXPN all",
    b"QUIT",
    b"QUIT now",
    b"DATA",
    b"DATA now",
    b"STARTTLS now",
    b"WHAT",
    b"",
    b" NOOP",
    b"NO\0OP",
    b"NOOP\rNOOP",
    b"MAIL",
    b"RCPT TO:",
    b"GET / HTTP/1.1",
    b"NOOP {3000}",
    b"{13000}",
    b"BDAT",
    b"BDAT x LAST",
    b"BDAT -1",
)
_LOGINS = (
    b"AUTH PLAIN " + encoded("\0support\0right"),
    b"AUTH PLAIN " + encoded("support\0support\0right"),
    b"auth plain\r\n" + encoded("\0jane\0schön €"),
    b"AUTH LOGIN\r\n" + encoded("support") + b"\r\n" + encoded("right"),
    b"AUTH LOGIN " + encoded("jane") + b"\r\n" + encoded("schön €"),
    b"AUTH PLAIN " + encoded("\0support\0wrong"),
    b"AUTH PLAIN " + encoded("jane\0support\0right"),
    b"AUTH PLAIN " + encoded("\0sup\rport\0right"),
    b"AUTH PLAIN " + encoded("support"),
    b"AUTH PLAIN =",
    b"AUTH PLAIN\r\n*",
    b"AUTH LOGIN\r\n\r\n",
    b"AUTH LOGIN\r\nnot base64!",
    b"AUTH PLAIN {4000}",
    b"AUTH PLAIN\r\n{13000}",
    b"AUTH",
    b"AUTH GSSAPI",
    b"AUTH PLAIN a b",
    b"AUTH SCRAM-SHA-256 " + encoded("n,,n=support,r=nonce"),
    b"AUTH SCRAM-SHA-256\r\n" + encoded("n,,n=support,r=nonce") + b"\r\n" + encoded("c=biws,r=nonce,p=AAAA"),
    b"AUTH SCRAM-SHA-256\r\n\r\n",
)
_CONTENTS = (
    b"Subject: Hi\r\n\r\nHello\r\n",
    b"Subject: Hi\n\nbare line feeds\n",
    b"Subject: Hi\r\n\r\n..\r\n..two\r\n",
    b"Subject: mixed\r\nX: 1\n\r\nx\r\n",
    b"Subject: body mixed\r\n\r\nx\ny\r\n",
    b"no end",
    b"",
    b"\r\n",
    b"Subject: bare\rcr\r\n\r\n",
    b"Subject: nul\0\r\n\r\n",
    b"{5000}",
    b"Subject: in\r\n\r\nx\n.\nMAIL FROM:<foreign@acmejets.example>\r\nRCPT TO:<jo@customer.example>\r\nDATA\r\nin\r\n",
    b"Subject: in\r\n\r\nx\r\n.\rQUIT\r\n",
    b"Subject: in\r\n\r\nx\r\n.\r\r\nQUIT\r\n",
)


def _filled(phrase: bytes) -> bytes:
    """Put as many letters as it says in place of "{3000}"."""
    return _FILLING.sub(lambda match: b"A" * int(match[1]), phrase)


def _data(content: bytes) -> bytes:
    content = _filled(content)
    return b"DATA\r\n" + content + (b"" if content.endswith(b"\r\n") else b"\r\n") + b".\r\n"


def _chunks(contents: Sequence[bytes]) -> bytes:
    contents = [_filled(content) for content in contents]
    last = len(contents) - 1
    return b"".join(
        b"BDAT %d%s\r\n%s" % (len(content), b" LAST" * (at == last), content) for at, content in enumerate(contents)
    )


@st.composite
def _mutated(draw: st.DrawFn, phrases: st.SearchStrategy[bytes]) -> bytes:
    """The same with an octet more, less, or another one."""
    phrase = draw(phrases)
    at = draw(st.integers(0, len(phrase)))
    octet = draw(st.binary(max_size=2))
    return phrase[:at] + octet + phrase[at + draw(st.integers(0, 1)) :]


_COMMANDS = st.builds(
    lambda phrase, end: _filled(phrase) + end,
    st.sampled_from((*_HELLO, *_MAIL, *_RCPT, *_OTHERS, *_LOGINS)),
    st.sampled_from(_ENDS),
)
_MESSAGES = st.one_of(
    st.sampled_from(_CONTENTS).map(_data), st.lists(st.sampled_from(_CONTENTS), min_size=1, max_size=3).map(_chunks)
)
_PLAIN_PHRASES = st.one_of(_COMMANDS, _COMMANDS, _COMMANDS, _MESSAGES)
PHRASES = st.one_of(_PLAIN_PHRASES, _PLAIN_PHRASES, _PLAIN_PHRASES, _mutated(_PLAIN_PHRASES), st.binary(max_size=12))
# Whole ones beside them: random commands alone seldom come as far as a login or a message.
LOGINS = st.sampled_from(_LOGINS).map(lambda login: b"EHLO client.example\r\n" + _filled(login) + b"\r\n")
# Of a transaction that is given up, nothing must be left for the next one.
_GIVEN_UP = (
    b"",
    b"",
    _MAIL[0] + b"\r\n" + _RCPT[0] + b"\r\nRSET\r\n",
    _MAIL[0] + b"\r\n" + _RCPT[0] + b"\r\nBDAT 5\r\na: b\nRSET\r\n",
    _MAIL[0] + b"\r\n" + _RCPT[0] + b"\r\nEHLO again\r\n",
)
MAILS = st.builds(
    lambda before, mail, recipients, end: before + b"".join(line + b"\r\n" for line in (mail, *recipients)) + end,
    st.sampled_from(_GIVEN_UP),
    st.one_of(st.sampled_from(_MAIL[:4]), st.sampled_from(_MAIL[:4]), st.sampled_from(_MAIL)),
    st.one_of(st.just(_RCPT[:1]), st.lists(st.sampled_from(_RCPT), min_size=1, max_size=4)),
    _MESSAGES,
)
