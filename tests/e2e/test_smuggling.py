"""SMTP smuggling: what looks like the end of a message to some servers is content, and never reaches them as an end."""

from collections.abc import Iterator

import pytest

from tests.e2e.smuggled import ENDS, smuggling
from tests.peers.postfix import Postfix
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.sink import Sink

POSTFIX = "postfix@acmejets.example"
WIRE = "wire@acmejets.example"
pytestmark = pytest.mark.needs("postfix", "dovecot", "submission", "root")


@pytest.fixture(scope="module")
def wire() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def relay(postfix: Postfix, wire: Recorder) -> Iterator[Relay]:
    """One channel leaves through Postfix, one through the recorder."""
    directory = {
        "default_server": "postfix",
        "servers": {"postfix": open_server(postfix.port), "wire": open_server(wire.port)},
        "channels": {"postfix": {"address": POSTFIX}, "wire": {"address": WIRE, "server": "wire"}},
    }
    with relay_process(directory) as relay:
        yield relay


@pytest.mark.parametrize("tag", ENDS)
def test_postfix_gets_one_message_or_none(tag: str, relay: Relay, sink: Sink) -> None:
    outer = f"outer.{tag}@customer.example"
    with relay.connect() as client:
        reply = client.submit(POSTFIX, outer, smuggling(POSTFIX, ENDS[tag], tag))
        assert reply.startswith(("250 2.0.0", "554 5.6.0")), reply
        assert client.say("QUIT").startswith("221"), "one reply to the whole: nothing in it was a command"
    if reply.startswith("250"):
        assert b"inner\r\n" in sink.wait_for(outer).body
    assert not sink.to(f"inner.{tag}@customer.example")


@pytest.mark.parametrize("tag", ENDS)
def test_the_wire_carries_no_bare_cr_or_lf(tag: str, relay: Relay, wire: Recorder) -> None:
    count = len(wire.messages)
    with relay.connect() as client:
        reply = client.submit(WIRE, "you@customer.example", smuggling(WIRE, ENDS[tag], tag))
    sent = wire.messages[count:]
    assert len(sent) == (1 if reply.startswith("250") else 0)
    for message in sent:
        lines = message.split(b"\r\n")
        assert not [line for line in lines if b"\r" in line or b"\n" in line or b"\0" in line]
        assert not [line for line in lines if line.startswith(b".") and not line.startswith(b"..")]
    assert all(b"\n" not in bytes(talk.received).replace(b"\r\n", b"") for talk in wire.conversations)


def test_every_byte_of_an_honest_message_reaches_postfix(relay: Relay, sink: Sink) -> None:
    body = b"..one dot\r\n..\r\n\r\n" + "schön\r\n".encode() + b"x" * 900 + b"\r\n"
    with relay.connect() as client:
        assert client.submit(POSTFIX, "honest@customer.example", b"Subject: x\r\n\r\n" + body).startswith("250 ")
    assert sink.wait_for("honest@customer.example").body == body.replace(b"..", b".")
