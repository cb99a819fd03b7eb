"""Servers in trouble: what the client is told, and what the server in trouble gets to see.

One relay has a server and a channel of the same name for every kind of trouble.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.peers.canaries import RIGHT, WRONG
from tests.peers.dovecot import Dovecot
from tests.peers.fixtures import Certificates
from tests.peers.postfix import smtp_sink
from tests.peers.proxy import Harm, Proxy, proxy_server
from tests.peers.recorder import HANG_UP, REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.sink import Sink
from tests.peers.system import free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs("dovecot", "submission", "smtp-sink")]

MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
LIMIT = 16 * 1024**2
METHODS = ("plain", "cram-md5", "auto")
# smtp-sink's options, and how the answer to the client begins.
SINKS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "hangs-up-at-dot": (("-q", "."), "451 4."),
    "soft-at-dot": (("-r", "."), "451 4."),
    "hard-at-dot": (("-f", "."), "5"),
    "hard-at-rcpt": (("-f", "RCPT"), "5"),
    "soft-at-mail": (("-r", "MAIL"), "451 4."),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """The relay, and the peers whose side of the story the tests ask for."""

    relay: Relay
    recorder: Recorder
    stripping: Proxy

    def submit(self, name: str, recipient: str = "you@customer.example") -> str:
        """Send a message as a channel; return the last reply."""
        with self.relay.connect() as client:
            return client.submit(f"{name}@acmejets.example", recipient, MESSAGE)


@pytest.fixture(scope="module")
def trouble(dovecot: Dovecot, certificates: Certificates) -> Iterator[Trouble]:
    with ExitStack() as stack:
        recorder = stack.enter_context(recorder_server())
        losing = stack.enter_context(proxy_server(recorder.port, upload=Harm(cut_at=b"\r\n.\r\n")))
        closing = stack.enter_context(proxy_server(recorder.port, upload=Harm(cut_before=b"RSET")))
        stripping = stack.enter_context(proxy_server(dovecot.starttls_port, download=Harm(strips_starttls=True)))

        def login(name: str, port: int, **keys: Any) -> dict[str, Any]:
            user = f"{name}@upstream.example"
            dovecot.add_users({user: RIGHT})
            trusted = {"ca_file": str(certificates.ca_file), "auth": "plain"}
            return {"host": dovecot.host, "port": port, "username": user, **trusted, **keys}

        servers = {
            **{f"wrong-{method}": login(f"wrong-{method}", dovecot.starttls_port, auth=method) for method in METHODS},
            "stranger": login("stranger", dovecot.starttls_port, ca_file=""),
            "stripped": login("stripped", stripping.port),
            "nowhere": open_server(free_port()),
            "loses-the-answer": open_server(losing.port),
            "closes-when-idle": open_server(closing.port),
            "refuses": open_server(recorder.port),
            "hangs-up": open_server(recorder.port, max_messages_per_connection=1),
            **{name: open_server(stack.enter_context(smtp_sink(*options))) for name, (options, _) in SINKS.items()},
        }
        channels = {name: {"address": f"{name}@acmejets.example", "server": name} for name in servers}
        directory = {"default_server": "refuses", "servers": servers, "channels": channels}
        relay = stack.enter_context(relay_process(directory, {"limits": {"message_size": LIMIT}}))
        for name in ("stranger", "stripped"):
            relay.set_password("server", name, RIGHT)
        yield Trouble(relay, recorder, stripping)


@pytest.fixture
def recorder(trouble: Trouble) -> Iterator[Recorder]:
    """The recorder, which answers as a test tells it until that test's end."""
    yield trouble.recorder
    trouble.recorder.replies.update(REPLIES)


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_password_is_tried_once_and_the_right_one_is_used_at_once(
    method: str, trouble: Trouble, dovecot: Dovecot, sink: Sink
) -> None:
    name = f"wrong-{method}"
    user = f"{name}@upstream.example"
    recipient = f"{name}@customer.example"
    trouble.relay.set_password("server", name, WRONG)
    assert trouble.submit(name, recipient).startswith("451 4.7.")
    wait_until(lambda: dovecot.failed_logins(user) == 1, "one failed login")
    assert not sink.to(recipient)

    trouble.relay.set_password("server", name, RIGHT)
    assert trouble.submit(name, recipient).startswith("250 ")
    assert sink.wait_for(recipient).login == user
    assert dovecot.failed_logins(user) == 1


def test_a_certificate_of_a_stranger_gets_no_password(trouble: Trouble, dovecot: Dovecot) -> None:
    assert trouble.submit("stranger").startswith("451 4.")
    assert not dovecot.logins("stranger@upstream.example")


def test_a_server_without_starttls_gets_no_password(trouble: Trouble, dovecot: Dovecot) -> None:
    assert trouble.submit("stripped").startswith("451 4.")
    assert trouble.stripping.connections >= 1
    assert not dovecot.logins("stripped@upstream.example")


def test_a_server_that_is_not_there(trouble: Trouble) -> None:
    for _ in range(2):
        assert trouble.submit("nowhere").startswith("451 4.")


def test_a_refused_recipient_ends_the_message_before_its_data(trouble: Trouble, recorder: Recorder) -> None:
    recorder.replies["RCPT"] = b"550 5.1.1 No such user here\r\n"
    count = len(recorder.messages)
    assert trouble.submit("refuses") == "550 5.1.1 No such user here"
    assert len(recorder.messages) == count
    assert "DATA" not in recorder.conversations[-1].commands


@pytest.mark.parametrize("name", SINKS)
def test_what_smtp_sink_does_wrong(name: str, trouble: Trouble) -> None:
    assert trouble.submit(name).startswith(SINKS[name][1])


def test_an_answer_that_is_lost_is_temporary(trouble: Trouble, recorder: Recorder) -> None:
    count = len(recorder.messages)
    assert trouble.submit("loses-the-answer").startswith("451 4.")
    # The proxy cuts the line to the relay when it has passed on the final dot, which the recorder may read after that.
    wait_until(lambda: len(recorder.messages) > count, "the message at the recorder")
    assert len(recorder.messages) == count + 1, "sent once: whether it arrived is not known"


@pytest.mark.parametrize("step", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."])
def test_a_server_that_hangs_up(step: str, trouble: Trouble, recorder: Recorder) -> None:
    recorder.replies[step] = HANG_UP
    count = len(recorder.messages)
    assert trouble.submit("hangs-up").startswith("451 4.")
    assert len(recorder.messages) - count == (1 if step == "." else 0)


def test_a_pooled_connection_that_the_server_closed_is_replaced(trouble: Trouble, recorder: Recorder) -> None:
    count = len(recorder.messages)
    for _ in range(3):
        assert trouble.submit("closes-when-idle").startswith("250 ")
    assert len(recorder.messages) == count + 3


def test_a_message_larger_than_the_limit(trouble: Trouble, recorder: Recorder) -> None:
    count = len(recorder.messages)
    line = b"x" * 998 + b"\r\n"
    sender = "refuses@acmejets.example"
    with trouble.relay.connect() as client:
        assert f"SIZE {LIMIT}" in client.say("EHLO raw.test")
        assert client.say(f"MAIL FROM:<{sender}> SIZE={LIMIT + 1}").startswith("552 5.3.4")
        large = b"Subject: large\r\n\r\n" + line * (LIMIT // len(line) + 1)
        assert client.submit(sender, "you@customer.example", large).startswith("552 5.3.4")
        assert client.submit(sender, "you@customer.example", MESSAGE).startswith("250 ")
    assert len(recorder.messages) == count + 1


def test_a_message_of_many_megabytes_passes_unchanged(trouble: Trouble, recorder: Recorder) -> None:
    body = b"".join(b"line %d of a message\r\n" % number for number in range(400_000))
    message = b"Subject: large\r\n\r\n" + body
    with trouble.relay.connect() as client:
        assert client.submit("refuses@acmejets.example", "you@customer.example", message).startswith("250 ")
    assert recorder.messages[-1].partition(b"\r\n\r\n")[2] == body


def test_a_message_of_empty_lines_takes_little_memory(trouble: Trouble, recorder: Recorder) -> None:
    message = b"Subject: empty\r\n\r\n" + b"\r\n" * ((LIMIT - 1024) // 2)
    memory = trouble.relay.memory()
    with trouble.relay.connect() as client:
        assert client.submit("refuses@acmejets.example", "you@customer.example", message).startswith("250 ")
    assert trouble.relay.peak_memory() - memory < 3 * len(message)
