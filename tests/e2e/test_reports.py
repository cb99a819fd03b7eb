"""Which reports a sender gets for which NOTIFY and outcome, judged by RFC 3461 sections 4, 5.2 and 6.

Every combination goes through the real process in both modes that store, to an upstream with DSN and to one without.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from itertools import product
from typing import Any

import pytest

from tests.peers.canaries import RIGHT
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.postfix import Postfix
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.sink import Sink
from tests.peers.system import wait_until

pytestmark = pytest.mark.slow

SENDER = "support@acmejets.example"
CONTENT = "Subject: hello\r\nMessage-ID: <1@customer.example>\r\n\r\nthe body\r\n"
WITH_DSN = {"EHLO": REPLIES["EHLO"].replace(b"250-8BITMIME", b"250-8BITMIME\r\n250-DSN")}
ANSWERS = {"refused": b"550 5.1.1 No such user\r\n", "delayed": b"450 4.2.1 Mailbox busy\r\n"}
ATTEMPTS = 4  # the first, one before it is late, the one that finds it late, and one that shows that this was settled


@dataclass(frozen=True)
class Case:
    """One message: what its sender asked, and what becomes of it. "" asks for nothing."""

    number: int
    outcome: str
    notify: str

    @property
    def recipient(self) -> str:
        return f"{self.outcome}.{self.number}@customer.example"

    @property
    def ret(self) -> str:
        return "FULL" if self.number % 2 else "HDRS"

    @property
    def said_of_message(self) -> str:
        return f"RET={self.ret} ENVID=case+2B{self.number}"

    @property
    def said_of_recipient(self) -> str:
        return f"{self.notify and f'NOTIFY={self.notify} '}ORCPT=rfc822;first+2B{self.number}@customer.example"

    def reports(self, *, has_dsn: bool) -> list[str]:
        """The actions that are reported, in their order."""
        wants = self.notify.split(",") if self.notify else ["FAILURE", "DELAY"]
        taken = ["relayed"] if "SUCCESS" in wants and not has_dsn else []
        failed = ["failed"] if "FAILURE" in wants else []
        late = ["delayed"] if "DELAY" in wants else []
        return {"delivered": taken, "refused": failed, "delayed": late + taken}[self.outcome]


NOTIFIES = ("", "NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE")
CASES = [Case(n, *pair) for n, pair in enumerate(product(("delivered", "refused", "delayed"), NOTIFIES))]


def submit(relay: Relay, case: Case) -> None:
    """Send a case's message; for somebody else too, so that its client is told nothing of the refusal."""
    with relay.connect() as client:
        client.say("EHLO raw.test")
        for line in (
            f"MAIL FROM:<{SENDER}> {case.said_of_message}",
            f"RCPT TO:<good.{case.number}@customer.example> NOTIFY=NEVER",
            f"RCPT TO:<{case.recipient}> {case.said_of_recipient}",
        ):
            assert client.say(line).startswith("250 "), line
        client.say("DATA")
        assert client.say(CONTENT + ".").startswith("250 ")


def rcpts(recorder: Recorder, recipient: str) -> list[str]:
    said = (command for talk in recorder.conversations for command in talk.commands)
    return [command for command in said if command.startswith(f"RCPT TO:<{recipient}>")]


def settings(mode: str) -> dict[str, Any]:
    return {"delivery": {"mode": mode, "retry": ["0.4s"], "warn_after": "0.5s", "give_up_after": "1h"}}


def reports_in(messages: list[bytes]) -> Iterator[Message]:
    found = (message_from_bytes(raw) for raw in messages)
    return (message for message in found if message.get_content_type() == "multipart/report")


def fields_of(report: Message) -> tuple[Message, Message]:
    """The fields about the message and those about its one recipient."""
    status = report.get_payload(1)
    assert isinstance(status, Message)
    assert status.get_content_type() == "message/delivery-status"
    about_message, about_recipient = (part for part in status.walk() if part is not status)
    return about_message, about_recipient


@pytest.mark.parametrize(
    ("mode", "has_dsn"),
    [
        ("auto", False),
        ("queued", True),
        pytest.param("auto", True, marks=pytest.mark.slow),
        pytest.param("queued", False, marks=pytest.mark.slow),
    ],
)
def test_notify_decides_which_reports_arrive(mode: str, has_dsn: bool, start_relay: StartRelay) -> None:
    with recorder_server(WITH_DSN if has_dsn else {}) as recorder:
        waiting = [f"RCPT TO:<{case.recipient}>" for case in CASES if case.outcome == "delayed"]
        for case in CASES:
            if case.outcome in ANSWERS:
                recorder.replies[f"RCPT TO:<{case.recipient}>"] = ANSWERS[case.outcome]
        relay = start_relay(one_channel(open_server(recorder.port)), settings(mode))
        for case in CASES:
            submit(relay, case)
        for case in CASES:
            if case.outcome == "delayed":
                wait_until(lambda: len(rcpts(recorder, case.recipient)) >= ATTEMPTS, case.recipient)  # noqa: B023
        for line in waiting:
            del recorder.replies[line]
        wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")

        arrived: dict[str, list[Message]] = {}
        for report in reports_in(recorder.messages):
            arrived.setdefault(str(fields_of(report)[0]["Original-Envelope-Id"]), []).append(report)
        for case in CASES:
            found = arrived.pop(f"case+{case.number}", [])
            actions = [str(fields_of(report)[1]["Action"]) for report in found]
            assert actions == case.reports(has_dsn=has_dsn), case
            for report in found:
                check_report(report, case)
            check_wire(recorder, case, has_dsn=has_dsn)
        assert not arrived


def check_report(report: Message, case: Case) -> None:
    """Its addresses, whom it is about, and how much of the message it brings back."""
    assert (report["To"], report["From"]) == (SENDER, f"Mail delivery <{SENDER}>")
    assert report["Auto-Submitted"] == "auto-replied"
    fields = fields_of(report)[1]
    assert fields["Original-Recipient"] == f"rfc822; first+{case.number}@customer.example"
    assert fields["Final-Recipient"] == f"rfc822; {case.recipient}"
    expected = {"failed": "5.1.1", "delayed": "4.2.1", "relayed": "2.0.0"}[fields["Action"]]
    assert fields["Status"] == expected
    original = report.get_payload(2)
    assert isinstance(original, Message)
    is_whole = case.ret == "FULL" and fields["Action"] == "failed"  # RET speaks of failures only (section 4.3)
    assert original.get_content_type() == ("message/rfc822" if is_whole else "text/rfc822-headers")
    assert ("the body" in str(original)) == is_whole


def check_wire(recorder: Recorder, case: Case, *, has_dsn: bool) -> None:
    """What the upstream was told about reports: what was given and nothing else, or nothing at all."""
    about = f" {case.said_of_recipient}" if has_dsn else ""
    assert set(rcpts(recorder, case.recipient)) == {f"RCPT TO:<{case.recipient}>{about}"}
    never = " NOTIFY=NEVER" if has_dsn else ""
    assert rcpts(recorder, f"good.{case.number}@customer.example") == [
        f"RCPT TO:<good.{case.number}@customer.example>{never}"
    ]
    for talk in recorder.conversations:
        for mail, rcpt in zip(talk.commands, talk.commands[1:], strict=False):
            if rcpt.startswith(f"RCPT TO:<{case.recipient}>") and mail.startswith("MAIL "):
                assert mail == f"MAIL FROM:<{SENDER}>" + (f" {case.said_of_message}" if has_dsn else "")
            if mail.startswith("MAIL FROM:<>"):
                assert (mail, rcpt) == ("MAIL FROM:<>", f"RCPT TO:<{SENDER}>")


@pytest.mark.needs("postfix", "dovecot", "submission", "root")
def test_a_server_with_dsn_gets_it_all_and_confirms_itself(
    start_relay: StartRelay, postfix: Postfix, sink: Sink
) -> None:
    """Postfix, whose next server has no DSN, writes the report; ours would be a second one."""
    sender = "asks.postfix@acmejets.example"
    directory = one_channel(open_server(postfix.port)) | {"channels": {"asks": {"address": sender, "override": True}}}
    relay = start_relay(directory, settings("auto"))
    confirmed(relay, sender)
    report = message_from_bytes(sink.wait_for(sender).content)
    assert "MAILER-DAEMON" in str(report["From"])
    about_message, about_recipient = fields_of(report)
    assert about_message["Original-Envelope-Id"] == "QQ+31"
    assert about_recipient["Original-Recipient"] == "rfc822;first+x@customer.example"
    wait_until(lambda: relay.ask("messages", "list"), "the history")
    assert len(relay.ask("messages", "list")) == 1, "the message, and no report of ours"


@pytest.mark.needs("dovecot", "submission")
def test_a_server_without_dsn_leaves_the_confirmation_to_us(
    start_relay: StartRelay, dovecot: Dovecot, certificates: Certificates, sink: Sink
) -> None:
    sender = "asks.dovecot@acmejets.example"
    dovecot.add_users({sender: RIGHT})
    server = {"host": dovecot.host, "port": dovecot.starttls_port, "ca_file": str(certificates.ca_file)}
    directory = {
        "default_server": "d",
        "servers": {"d": server},
        "channels": {"asks": {"address": sender, "override": True}},
    }
    relay = start_relay(directory, settings("auto"))
    relay.set_password("channel", "asks", RIGHT)
    confirmed(relay, sender)
    arrived = sink.wait_for(sender)
    assert (arrived.sender, arrived.login) == ("", sender)
    about_message, about_recipient = fields_of(message_from_bytes(arrived.content))
    assert about_message["Original-Envelope-Id"] == "QQ+31"
    assert about_recipient["Action"] == "relayed"


def confirmed(relay: Relay, sender: str) -> None:
    """Send a message that asks for a confirmation."""
    with relay.connect() as client:
        client.say("EHLO raw.test")
        client.say(f"MAIL FROM:<{sender}> RET=HDRS ENVID=QQ+2B31")
        client.say("RCPT TO:<you@customer.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Bx@customer.example")
        client.say("DATA")
        assert client.say(CONTENT + ".").startswith("250 2.0.0 Ok: delivered via ")
