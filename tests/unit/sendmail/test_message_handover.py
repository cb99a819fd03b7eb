"""Who sends, who receives, and the header block that goes to the service."""

import os
import pwd
from pathlib import Path

import pytest

from relay.config.machine import machine_name
from relay.sendmail.arguments import parse_arguments
from relay.sendmail.exit_status import NotSent
from relay.sendmail.message import Handover, Origin, prepare


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    mail_name = tmp_path / "mailname"
    mail_name.write_text("acme.example\n")
    return Origin(os.getuid(), mail_name)


def own_address() -> str:
    return f"{pwd.getpwuid(os.getuid()).pw_name}@acme.example"


def handed(header: str, words: list[str], origin: Origin) -> Handover:
    block = header.replace("\n", "\r\n").encode()
    return prepare(parse_arguments("sendmail", words), block, origin)


TO_ALL = "To: Jo <jo@x.example>,\n ann@x.example\nCc: Friends: bob@x.example;\nBcc: eve@x.example\n"


@pytest.mark.parametrize(
    ("header", "words", "recipients"),
    [
        (TO_ALL, ["dan@x.example"], ["dan@x.example"]),
        (TO_ALL, ["-t"], ["jo@x.example", "ann@x.example", "bob@x.example", "eve@x.example"]),
        (
            TO_ALL,
            ["-t", "dan@x.example", "jo@x.example"],
            ["dan@x.example", "jo@x.example", "ann@x.example", "bob@x.example", "eve@x.example"],
        ),
        (TO_ALL + "Resent-To: dan@x.example\nResent-Bcc: kim@x.example\n", ["-t"], ["dan@x.example", "kim@x.example"]),
        ("TO: a@x.example\nto: b@x.example\n", ["-t"], ["a@x.example", "b@x.example"]),
        ("", ["a@x.example,b@x.example", "Jo <c@x.example>"], ["a@x.example", "b@x.example", "c@x.example"]),
        ("", ["root"], ["root@acme.example"]),
        ("To: root\n", ["-t"], ["root@acme.example"]),
        ("To: jö@exämple.example\n", ["-t"], ["jö@exämple.example"]),
        ("To: =?utf-8?q?eve=40y.example=2C?= <jo@x.example>\n", ["-t"], ["jo@x.example"]),
    ],
)
def test_the_recipients(header: str, words: list[str], recipients: list[str], origin: Origin) -> None:
    assert list(handed(header, words, origin).recipients) == recipients


@pytest.mark.parametrize(
    ("header", "words", "sender"),
    [
        ("From: Jo <jo@x.example>\n", [], "jo@x.example"),
        ("From: Jo <jo@x.example>\n", ["-f", "ann@x.example"], "ann@x.example"),
        ("From: Jo <jo@x.example>\n", ["-f", "Ann <ann@x.example>"], "ann@x.example"),
        ("From: Jo <jo@x.example>\n", ["-f", "www-data"], "www-data@acme.example"),
        ("From: Jo <jo@x.example>\n", ["-f", ""], ""),
        ("From: Jo <jo@x.example>\n", ["-f<>"], ""),
        ("From: root (Cron Daemon)\n", [], "root@acme.example"),
        ("From: jo@x.example, ann@x.example\n", [], None),
        ("From: jo@x.example\nFrom: ann@x.example\n", [], None),
        ("From: <jo\n", [], None),
        ("From:\n", [], None),
        ("", [], None),
    ],
)
def test_the_sender(header: str, words: list[str], sender: str | None, origin: Origin) -> None:
    """None stands for the address of the user who runs this."""
    expected = own_address() if sender is None else sender
    assert handed(header, [*words, "you@y.example"], origin).sender == expected


@pytest.mark.parametrize(
    ("header", "words", "expected"),
    [
        ("From: jo@x.example\nX: 1\n", [], "From: jo@x.example\nX: 1\n"),
        ("X: 1\n", ["-f", "jo@x.example"], "X: 1\nFrom: jo@x.example\n"),
        ("", ["-f", "jo@x.example", "-F", "Jo Doe"], "From: Jo Doe <jo@x.example>\n"),
        ("", ["-f", "jo@x.example", "-F", "Jo \r\nBcc: x"], 'From: "Jo Bcc: x" <jo@x.example>\n'),
        ("", ["-f", "jo@x.example", "-F", "Jö"], "From: =?utf-8?b?SsO2?= <jo@x.example>\n"),
        ("From: a@x.example\n", ["-F", "Jo"], "From: a@x.example\n"),
        (
            "From: a@x.example\nBcc: b@x.example,\n c@x.example\nX: 1\nRESENT-BCC: d@x.example\n",
            [],
            "From: a@x.example\nX: 1\n",
        ),
        ("From: root (Cron Daemon)\nTo: root\n", [], "From: root@acme.example (Cron Daemon)\nTo: root@acme.example\n"),
        ("From: a@x.example\nTo: Jo <jo>, k\n", [], "From: a@x.example\nTo: Jo <jo@acme.example>, k@acme.example\n"),
        ("From: a@x.example\nTo: <jo\nX-To: jo\n", [], "From: a@x.example\nTo: <jo\nX-To: jo\n"),
        ("From: a@x.example\nTo: you@y.example,\n\tjo@x.example\n", [], None),
    ],
)
def test_the_header(header: str, words: list[str], expected: str | None, origin: Origin) -> None:
    """None: not one octet differs."""
    made = handed(header, [*words, "you@y.example"], origin).header.decode().replace("\r\n", "\n")
    assert made == (header if expected is None else expected)


def test_a_message_of_nobody_is_from_the_user(origin: Origin) -> None:
    assert handed("", ["-f", "", "jo@x.example"], origin).header == f"From: {own_address()}\r\n".encode()


@pytest.mark.parametrize(
    ("header", "words", "status", "sentence"),
    [
        ("", [], os.EX_USAGE, "name a recipient, or give -t"),
        ("Subject: x\n", ["-t"], os.EX_USAGE, "the header names no recipient"),
        ("To: undisclosed-recipients:;\n", ["-t"], os.EX_USAGE, "the header names no recipient"),
        ("To: jo jane\n", ["-t"], os.EX_DATAERR, "To: 'jo jane' is no mailbox"),
        ("", ["jo jane"], os.EX_DATAERR, "'jo jane': 'jo jane' is no mailbox"),
        ("", ["jo@x.example\r\nDATA"], os.EX_DATAERR, "it holds control characters"),
        ("", ["-f", "jo@x.example>\nRSET", "jo"], os.EX_DATAERR, "-f: it holds control characters"),
        ("", ["-f", "a@x.example,b@x.example", "jo"], os.EX_USAGE, "-f wants one address"),
        ("Subject : x\n", ["jo"], os.EX_DATAERR, "line 1 of the header block is no header field: Subject : x"),
    ],
)
def test_what_is_refused(header: str, words: list[str], status: int, sentence: str, origin: Origin) -> None:
    with pytest.raises(NotSent) as caught:
        handed(header, words, origin)
    assert caught.value.status == status
    assert sentence in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "-x\n", "a b\n", "\udcff\n"])
def test_the_machine_is_asked_where_mailname_says_nothing(text: str | None, tmp_path: Path) -> None:
    mail_name = tmp_path / "mailname"
    if text is not None:
        mail_name.write_bytes(text.encode("utf-8", "surrogateescape"))
    domain = Origin(0, mail_name).domain
    assert domain == ("a" if text == "a b\n" else machine_name())


def test_a_user_without_a_name_has_an_address(tmp_path: Path) -> None:
    unknown = max(entry.pw_uid for entry in pwd.getpwall()) - 1
    known = {entry.pw_uid for entry in pwd.getpwall()}
    while unknown in known:
        unknown -= 1
    assert Origin(unknown, tmp_path / "none").address.startswith(f"uid{unknown}@")
