"""Reports as people see them: written by the real process, read in mutt, in s-nail and by Python's parser."""

import mailbox
import re
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.peers import readers
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import one_channel, open_server, relay_process
from tests.peers.system import wait_until

pytestmark = pytest.mark.slow

SENDER = "support@acmejets.example"
TITLE = "Ihr Flug nach Tromsø am Freitag: alles, was Sie noch wissen sollten"
MESSAGE = (
    f"From: Support <{SENDER}>\r\nTo: you@customer.example\r\nSubject: =?utf-8?q?{TITLE.replace(' ', '_')}?=\r\n"
    "Message-ID: <1@customer.example>\r\n\r\nhello\r\n"
).replace("ø", "=C3=B8")
WORDS = {
    "failed": "The email account that you tried to reach does not exist. Please try double-checking the address.",
    "delayed": "The mailbox is busy, please be patient",
}
ANSWERS = {
    "RCPT TO:<failed@customer.example>": f"550 5.1.1 {WORDS['failed']}\r\n".encode(),
    "RCPT TO:<delayed@customer.example>": f"450 4.2.1 {WORDS['delayed']}\r\n".encode(),
}
SUBJECTS = {"failed": "Your message could not be delivered", "delayed": "Your message is delayed"}
FIRST_WORDS = {
    "failed": "Your message could not be delivered to failed@customer.example.",
    "delayed": "Your message has not yet reached delayed@customer.example. You do not need to send it again:",
}
ADVICE = {
    "failed": "What you can do: Check the address for typing mistakes.",
    "delayed": "It is tried again until ",
}
KINDS = tuple(SUBJECTS)


@pytest.fixture(scope="module")
def reports() -> Iterator[Mapping[str, bytes]]:
    """One report of each kind, as it arrived at the upstream."""
    settings = {"delivery": {"mode": "queued", "retry": ["0.4s"], "warn_after": "0.5s"}}
    with (
        recorder_server(ANSWERS) as recorder,
        relay_process(one_channel(open_server(recorder.port)), settings) as relay,
        relay.connect() as client,
    ):
        for kind in KINDS:
            client.envelope(SENDER, f"{kind}@customer.example")
            client.say("DATA")
            assert client.say(MESSAGE + ".").startswith("250 ")
        yield wait_until(lambda: _found(recorder), "both reports")


def _found(recorder: Recorder) -> Mapping[str, bytes] | None:
    messages = [re.sub(rb"(?m)^\.", b"", raw) for raw in recorder.messages]  # as SMTP undoes its dots
    by_kind = {kind: raw for kind in KINDS for raw in messages if f"Subject: {SUBJECTS[kind]}".encode() in raw}
    return by_kind if len(by_kind) == len(KINDS) else None


@pytest.fixture
def box(reports: Mapping[str, bytes], request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A mailbox file with the report of the test's kind, as a mail server's delivery leaves it."""
    path = tmp_path / "box"
    file = mailbox.mbox(path)
    file.add(mailbox.mboxMessage(reports[request.getfixturevalue("kind")].replace(b"\r\n", b"\n")))
    file.close()
    return path


READERS = [
    pytest.param(readers.mutt, marks=pytest.mark.needs("mutt"), id="mutt"),
    pytest.param(readers.s_nail, marks=pytest.mark.needs("s-nail"), id="s-nail"),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_person_sees_first_what_happened_why_and_what_to_do(
    kind: str, reader: Callable[[Path], str], box: Path
) -> None:
    shown = reader(box)
    lines = shown.splitlines()
    assert f"From: Mail delivery <{SENDER}>" in lines
    assert f"Subject: {SUBJECTS[kind]}" in lines
    date = next(line for line in lines if line.startswith("Date: "))
    assert parsedate_to_datetime(date.removeprefix("Date: ")).tzinfo is not None

    start = next(number for number, line in enumerate(lines) if line.startswith(FIRST_WORDS[kind][:40]))
    last = next(number for number, line in enumerate(lines) if line.startswith("This message was written by"))
    text = lines[start : lines.index("", last)]
    assert max(map(len, text)) <= 72
    told = " ".join(" ".join(text).split())
    places = [told.find(words) for words in (FIRST_WORDS[kind], f"Subject: {TITLE}", WORDS[kind], ADVICE[kind])]
    assert sorted(places) == places
    assert -1 not in places


@pytest.mark.needs("mutt")
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_screen_holds_the_reason(kind: str, box: Path) -> None:
    """Without a key pressed: under the index line, with the lines that mutt puts around."""
    screen = readers.mutt(box).splitlines()[: readers.ROWS - 2]
    assert all(len(line) <= readers.COLUMNS for line in screen)
    seen = " ".join(" ".join(screen).split())
    assert FIRST_WORDS[kind] in seen
    assert WORDS[kind] in seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_finds_the_parts_of_a_report(kind: str, reports: Mapping[str, bytes]) -> None:
    report = message_from_bytes(reports[kind], policy=policy.default)
    assert isinstance(report, EmailMessage)
    assert (report.get_content_type(), report.get_param("report-type")) == ("multipart/report", "delivery-status")
    text, status, header = report.iter_parts()
    assert not [defect for part in report.walk() for defect in part.defects]
    assert text.get_content().startswith(FIRST_WORDS[kind][:40])
    about_message, about_recipient = status.iter_parts()
    assert about_message["Reporting-MTA"] == "dns; relay.test"
    assert about_recipient["Final-Recipient"] == f"rfc822; {kind}@customer.example"
    assert about_recipient["Action"] == kind
    assert about_recipient["Remote-MTA"] == "dns; 127.0.0.1"
    assert WORDS[kind] in about_recipient["Diagnostic-Code"]
    assert (about_recipient["Will-Retry-Until"] is not None) == (kind == "delayed")
    assert header.get_content_type() == "text/rfc822-headers"
    assert "Message-ID: <1@customer.example>" in header.get_content()
    assert report["In-Reply-To"] == "<1@customer.example>"
