"""The talk with the service: what is said, and what its answers come to as exit status."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.listener.receiving import DotReader
from relay.mail.reply import Reply
from relay.sendmail.arguments import Arguments
from relay.sendmail.exit_status import NotSent, exit_status
from relay.sendmail.message import Handover, Message
from relay.sendmail.smtp import SmtpConnection, stuffed, submit
from tests.peers.recorder import HANG_UP, Recorder, recorder_server
from tests.peers.rows import each_row
from tests.peers.system import LOOPBACK

JO = Handover("jo@x.example", ("ann@y.example", "bob@y.example"), b"Subject: x\r\n")
ALL_OFFERS = b"250-x\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n"


def message(body: bytes = b"hello\r\n") -> Message:
    return Message(JO.header, BytesIO(body), len(body), body.isascii())


@contextmanager
def service(replies: Mapping[str, bytes] | None = None) -> Iterator[tuple[Recorder, SmtpConnection]]:
    with recorder_server(replies) as recorder, socket.create_connection((LOOPBACK, recorder.port)) as connection:
        line = SmtpConnection(connection, is_verbose=False)
        try:
            yield recorder, line
        finally:
            line.close()


def said(replies: Mapping[str, bytes], arguments: Arguments, handover: Handover, body: bytes) -> list[str]:
    """The commands of one hand-over, without EHLO."""
    with service(replies) as (recorder, line):
        submit(line, arguments, handover, message(body))
    return recorder.conversations[0].commands[1:]


def test_a_message_is_handed_over() -> None:
    with service() as (recorder, line):
        submit(line, Arguments(), JO, message(b".dot\r\n\r\n.\r\nend\r\n"))
    assert recorder.messages == [b"Subject: x\r\n\r\n..dot\r\n\r\n..\r\nend\r\n"]
    assert recorder.conversations[0].commands[1:] == [
        "MAIL FROM:<jo@x.example>",
        "RCPT TO:<ann@y.example>",
        "RCPT TO:<bob@y.example>",
        "DATA",
        "QUIT",
    ]


@pytest.mark.parametrize(
    ("arguments", "handover", "body", "mail", "rcpt"),
    [
        (Arguments(), JO, b"a\r\n", "MAIL FROM:<jo@x.example> SIZE=17", "RCPT TO:<ann@y.example>"),
        (
            Arguments(),
            JO,
            b"\xe9\r\n",
            "MAIL FROM:<jo@x.example> SIZE=17 BODY=8BITMIME",
            "RCPT TO:<ann@y.example>",
        ),
        (
            Arguments(notify="NEVER", ret="HDRS", envid="a+2Bb"),
            JO,
            b"",
            "MAIL FROM:<jo@x.example> SIZE=14 RET=HDRS ENVID=a+2Bb",
            "RCPT TO:<ann@y.example> NOTIFY=NEVER",
        ),
        (
            Arguments(),
            Handover("", ("jö@y.example",), b"A: \xc3\xb6\r\n"),
            b"",
            "MAIL FROM:<> SIZE=9 BODY=8BITMIME SMTPUTF8",
            "RCPT TO:<jö@y.example>",
        ),
    ],
)
def test_what_the_service_offers_is_used(
    arguments: Arguments, handover: Handover, body: bytes, mail: str, rcpt: str
) -> None:
    commands = said({"EHLO": ALL_OFFERS}, arguments, handover, body)
    assert commands[:2] == [mail, rcpt]


def test_what_the_service_does_not_offer_is_not_asked_for() -> None:
    arguments = Arguments(notify="NEVER", ret="HDRS", envid="a")
    commands = said({"EHLO": b"250 x\r\n"}, arguments, JO, b"\xe9\r\n")
    assert commands[:2] == ["MAIL FROM:<jo@x.example>", "RCPT TO:<ann@y.example>"]


@each_row(
    ("replies", "status", "sentences"),
    [
        ({"greeting": b"421 4.7.0 Too many\r\n"}, os.EX_TEMPFAIL, ["421 4.7.0 Too many"]),
        ({"greeting": b"554 5.7.1 Go\r\n"}, os.EX_NOPERM, ["554 5.7.1 Go"]),
        ({"greeting": b"SSH-2.0-x\r\n"}, os.EX_PROTOCOL, ["this is no SMTP service, it said: SSH-2.0-x"]),
        ({"greeting": b"220-x\r\n" * 300}, os.EX_PROTOCOL, ["no SMTP service, its reply has over 200 lines"]),
        ({"greeting": b"x" * 9000 + b"\r\n"}, os.EX_PROTOCOL, ["this is no SMTP service, it said: xxx"]),
        ({"greeting": HANG_UP}, os.EX_TEMPFAIL, ["the service closed the connection"]),
        ({"EHLO": b"502 5.5.1 No\r\n"}, os.EX_PROTOCOL, ["502 5.5.1 No"]),
        ({"MAIL": b"530 5.7.0 Login\r\n"}, os.EX_NOPERM, ["sender <jo@x.example>: 530 5.7.0 Login"]),
        ({"MAIL": b"452 4.3.1 Full\r\n"}, os.EX_TEMPFAIL, ["sender <jo@x.example>: 452 4.3.1 Full"]),
        (
            {"RCPT": b"550 5.1.1 Who?\r\n"},
            os.EX_NOUSER,
            ["<ann@y.example>: 550 5.1.1 Who?", "<bob@y.example>: 550 5.1.1 Who?"],
        ),
        (
            {"RCPT TO:<bob@y.example>": b"550-5.1.1 Who\r\n550 5.1.1 is\x1b[2J he?\r\n"},
            os.EX_NOUSER,
            ["<bob@y.example>: 550 5.1.1 Who is [2J he?", "nothing was sent, not to the other recipients either"],
        ),
        (
            {"RCPT": b"452 4.5.3 Many\r\n", "RCPT TO:<bob@y.example>": b"550 5.1.2 Host?\r\n"},
            os.EX_NOHOST,
            ["<ann@y.example>: 452 4.5.3 Many", "<bob@y.example>: 550 5.1.2 Host?"],
        ),
        ({"RCPT": b"421 4.3.2 Stop\r\n"}, os.EX_TEMPFAIL, ["421 4.3.2 Stop"]),
        ({"RCPT": HANG_UP}, os.EX_TEMPFAIL, ["the service closed the connection"]),
        ({"DATA": b"451 4.3.0 Sick\r\n"}, os.EX_TEMPFAIL, ["451 4.3.0 Sick"]),
        ({"DATA": b"250 2.0.0 Ok\r\n"}, os.EX_PROTOCOL, ["the service does not take the message: 250 2.0.0 Ok"]),
        ({".": b"552 5.3.4 Big\r\n"}, os.EX_DATAERR, ["552 5.3.4 Big"]),
        ({".": b"554 5.6.0 Bad\r\n"}, os.EX_DATAERR, ["554 5.6.0 Bad"]),
        ({".": b"550 5.2.1 Off\r\n"}, os.EX_UNAVAILABLE, ["550 5.2.1 Off"]),
        ({".": HANG_UP}, os.EX_TEMPFAIL, ["the service closed the connection"]),
    ],
)
def test_what_a_refusal_comes_to(replies: Mapping[str, bytes], status: int, sentences: list[str]) -> None:
    with service(replies) as (recorder, line), pytest.raises(NotSent) as caught:
        submit(line, Arguments(), JO, message())
    assert caught.value.status == status
    assert len(caught.value.sentences) == len(sentences)
    for sentence, expected in zip(caught.value.sentences, sentences, strict=True):
        assert expected in sentence
    if "." not in replies:
        assert recorder.messages == []


def test_addresses_beyond_ascii_need_the_service_to_take_them() -> None:
    handover = Handover("jo@x.example", ("jö@y.example",), b"")
    with service({"EHLO": b"250 x\r\n"}) as (_, line), pytest.raises(NotSent, match="takes only ASCII") as caught:
        submit(line, Arguments(), handover, message())
    assert caught.value.status == os.EX_UNAVAILABLE


def test_what_the_service_says_before_it_hangs_up_is_told() -> None:
    """It stops listening in the middle of a large message: its words count, not the broken connection."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b"552 5.3.4 too large\r\n")
    theirs.shutdown(socket.SHUT_RD)
    line = SmtpConnection(ours, is_verbose=False)
    with theirs, pytest.raises(NotSent, match=r"552 5\.3\.4 too large"):
        line.send_data(b"x" * 65536 for _ in range(100))
    line.close()


def test_the_talk_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with recorder_server() as recorder, socket.create_connection((LOOPBACK, recorder.port)) as connection:
        line = SmtpConnection(connection, is_verbose=True)
        submit(line, Arguments(), JO, message(b"private\r\n"))
        line.close()
    shown = capsys.readouterr().err
    assert ">>> RCPT TO:<ann@y.example>\n<<< 250 2.1.5 Recipient ok\n" in shown
    assert "private" not in shown


@each_row(
    ("reply", "status"),
    [
        ("550 5.1.0 x", os.EX_NOUSER),
        ("550 5.1.1 x", os.EX_NOUSER),
        ("556 5.1.10 x", os.EX_NOUSER),
        ("550 5.1.2 x", os.EX_NOHOST),
        ("501 5.1.3 x", os.EX_DATAERR),
        ("553 5.1.7 x", os.EX_DATAERR),
        ("552 5.2.2 x", os.EX_DATAERR),
        ("550 5.2.1 x", os.EX_UNAVAILABLE),
        ("552 5.3.4 x", os.EX_DATAERR),
        ("554 5.4.6 x", os.EX_DATAERR),
        ("501 5.5.4 x", os.EX_PROTOCOL),
        ("550 5.6.0 x", os.EX_DATAERR),
        ("550 5.7.1 x", os.EX_NOPERM),
        ("550 5.7.8 x", os.EX_NOPERM),
        ("530 x", os.EX_NOPERM),
        ("535 x", os.EX_NOPERM),
        ("550 x", os.EX_UNAVAILABLE),
        ("552 x", os.EX_DATAERR),
        ("554 x", os.EX_DATAERR),
        ("450 4.1.1 x", os.EX_TEMPFAIL),
        ("421 x", os.EX_TEMPFAIL),
        ("250 x", os.EX_TEMPFAIL),
    ],
)
def test_the_exit_status_of_a_reply(reply: str, status: int) -> None:
    assert exit_status(Reply.of_upstream(int(reply[:3]), reply[4:])) == status


@given(
    text=st.text(alphabet=".\r\na", max_size=60).map(str.encode),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_what_is_sent_is_read_back_by_the_listener(text: bytes, cuts: list[int]) -> None:
    """Wherever the content is cut, the service finds its end where it is, and every dot."""
    content = text.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    borders = [0, *sorted(cuts), len(content)]
    chunks = [content[start:end] for start, end in pairwise(borders)]
    reader = DotReader()
    assert reader.feed(b"".join(stuffed(chunks)) + b".\r\nQUIT\r\n") == content
    assert (reader.has_ended, reader.rest) == (True, b"QUIT\r\n")
