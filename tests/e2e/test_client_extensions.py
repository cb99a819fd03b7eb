"""Extensions of SMTP as real clients use them: delivery reports asked for, and commands sent without waiting."""

import re
from collections.abc import Iterator

import pytest

from tests.peers.clients import Letter, msmtp, swaks
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process

SENDER = "support@acmejets.example"
CONTENT = b"From: support@acmejets.example\nSubject: hello\n\nhello\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    ehlo = b"250-recorder.test\r\n250-8BITMIME\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n"
    with recorder_server({"EHLO": ehlo}) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def relay(upstream: Recorder) -> Iterator[Relay]:
    with relay_process(one_channel(open_server(upstream.port))) as relay:
        yield relay


@pytest.mark.needs("msmtp")
def test_the_reports_that_msmtp_asks_for_are_asked_for_upstream(relay: Relay, upstream: Recorder) -> None:
    letter = Letter(SENDER, ("dsn@customer.example",), CONTENT)
    done = msmtp(relay.endpoint, letter, options=["--dsn-notify=failure,success,delay", "--dsn-return=headers"])
    assert done.status == 0, done.text + relay.last_words
    commands = [command for conversation in upstream.conversations for command in conversation.commands]
    (recipient,) = [command for command in commands if command.startswith("RCPT TO:<dsn@customer.example>")]
    (notify,) = re.findall(r"NOTIFY=(\S+)", recipient)
    assert set(notify.split(",")) == {"SUCCESS", "FAILURE", "DELAY"}
    before = commands[commands.index(recipient) - 1]
    assert before.startswith(f"MAIL FROM:<{SENDER}>")
    assert "RET=HDRS" in before.split()


@pytest.mark.needs("swaks")
def test_swaks_sends_its_commands_without_waiting(relay: Relay, upstream: Recorder) -> None:
    count = len(upstream.messages)
    letter = Letter(SENDER, ("one@customer.example", "two@customer.example"), CONTENT)
    done = swaks(relay.endpoint, letter, options=["--pipeline"])
    assert done.status == 0, done.text + relay.last_words
    # Its transcript: "->" is what it sends, "<-" what it hears.
    assert re.search(r"-> MAIL FROM.*\n\s*-> RCPT TO.*\n\s*-> RCPT TO.*\n\s*-> DATA\n", done.out), done.out
    assert len(upstream.messages) == count + 1
    assert upstream.messages[-1].endswith(b"\r\n\r\nhello\r\n")
