"""A server that says one 550 too many in a pipelined group: it fails no message, in any mode."""

import threading
from collections.abc import Iterator

import pytest

from tests.e2e.in_parts import END, HEADER, PART
from tests.peers.raw import RawClient
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.system import wait_until

pytestmark = pytest.mark.slow

PIPELINING = {"EHLO": b"250-recorder.test\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n"}
SURPLUS = b"550 5.1.1 No such user\r\n"
YOU = ("one@customer.example", "two@customer.example")
# Where it is said. Behind MAIL and RCPT the answer to DATA is a 250, behind DATA it is the 354.
PLACES = {
    "before MAIL": {"MAIL": SURPLUS + REPLIES["MAIL"]},
    "behind MAIL": {"MAIL": REPLIES["MAIL"] + SURPLUS},
    "behind the last RCPT": {f"RCPT TO:<{YOU[1]}>": REPLIES["RCPT"] + SURPLUS},
    "behind DATA": {"DATA": REPLIES["DATA"] + SURPLUS},
}
STORING = ("auto", "queued")


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with recorder_server(PIPELINING) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def relay(server: Recorder) -> Iterator[Relay]:
    channels = {mode: {"address": f"{mode}@acmejets.example", "mode": mode} for mode in (*STORING, "direct")}
    servers = {"acmejets": open_server(server.port)}
    directory = {"default_server": "acmejets", "servers": servers, "channels": channels}
    settings = {"delivery": {"mode": "auto", "retry": ["1h"]}, "limits": {"memory_per_message": "256KiB"}}
    with relay_process(directory, settings) as relay:
        yield relay


@pytest.fixture(autouse=True)
def _afresh(server: Recorder, relay: Relay) -> Iterator[None]:
    """The server is in step, holds nothing against anybody, and has a connection that is idle."""
    behave(server)
    server.cut()
    with relay.connect() as client:
        assert client.submit("direct@acmejets.example", YOU[0], HEADER + b"\r\nsmall\r\n").startswith("250 ")
    del server.messages[:], server.conversations[:-1]
    yield
    behave(server)


def behave(server: Recorder, **replies: bytes) -> None:
    server.replies.clear()
    server.replies.update({**REPLIES, **PIPELINING, **replies})


def send(client: RawClient, mode: str, content: bytes = HEADER + b"\r\nhello\r\n") -> str:
    """Hand over a message for two recipients, and return the reply."""
    assert [reply[:3] for reply in client.envelope(f"{mode}@acmejets.example", *YOU)] == ["250"] * 3
    assert client.say("DATA")[:3] == "354"
    client.send(content + b".\r\n")
    return client.reply()


def attempts(server: Recorder) -> int:
    """How often a message was begun, from what has come, whether it was answered yet or not."""
    turns = (turn for conversation in list(server.conversations) for turn in list(conversation.turns))
    return sum(turn.count(b"MAIL FROM:") for turn in turns)


def waiting(relay: Relay) -> list[str]:
    """The states of all recipients of what waits."""
    (message,) = relay.ask("queue", "list")
    return [one["state"] for one in message["recipients"]]


def goes_out_at_last(relay: Relay, server: Recorder, body: bytes) -> None:
    """The message in the queue is tried again, and its recipients have it once; nobody has a report."""
    assert server.messages == []
    assert waiting(relay) == ["queued", "queued"]
    behave(server)
    relay.command("queue", "retry", "--all")
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
    (message,) = server.messages
    assert message.partition(b"\r\n\r\n")[2] == body
    named = [line for line in server.conversations[-1].commands if line.startswith("RCPT")]
    assert named[-2:] == [f"RCPT TO:<{name}>" for name in YOU]


@pytest.mark.parametrize("mode", STORING)
@pytest.mark.parametrize("place", PLACES)
def test_what_may_wait_is_tried_again(place: str, mode: str, relay: Relay, server: Recorder) -> None:
    behave(server, **PLACES[place])
    with relay.connect() as client:
        assert " queued as " in send(client, mode)
    wait_until(lambda: attempts(server) >= 2, "the attempt")
    wait_until(lambda: waiting(relay) == ["queued", "queued"], "the end of the attempt")
    goes_out_at_last(relay, server, b"hello\r\n")


@pytest.mark.parametrize("place", PLACES)
def test_who_hands_over_directly_is_told_to_come_again(place: str, relay: Relay, server: Recorder) -> None:
    behave(server, **PLACES[place])
    with relay.connect() as client:
        assert send(client, "direct").startswith("451 ")
        assert server.messages == []
        behave(server)
        assert send(client, "direct").startswith("250 ")
    assert len(server.messages) == 1
    assert relay.ask("queue", "list") == []


@pytest.mark.parametrize(("mode", "step"), [("direct", "RCPT"), ("auto", "DATA")])
def test_a_refusal_whose_own_answer_is_still_to_come_is_not_believed(
    mode: str, step: str, relay: Relay, server: Recorder
) -> None:
    """It stands at the end of what was asked, and nothing has proven yet that it is the answer to that."""
    before = "MAIL" if step == "RCPT" else "RCPT"
    behave(server, **{before: REPLIES[before] + SURPLUS})
    server.hold(step)
    replies: list[str] = []
    with relay.connect() as client:
        assert [reply[:3] for reply in client.envelope(f"{mode}@acmejets.example", YOU[0])] == ["250"] * 2
        assert client.say("DATA")[:3] == "354"
        client.send(HEADER + b"\r\nhello\r\n.\r\n")
        waiter = threading.Thread(target=lambda: replies.append(client.reply()))
        waiter.start()
        server.wait_for(step)
        wait_until(lambda: replies or server.conversations[-1].turns[-1].startswith(b"EHLO"), "what follows the 550")
        server.release(step)
        waiter.join()
    assert replies[0].startswith("451 " if mode == "direct" else "250 ")
    if mode == "auto":
        behave(server)
        relay.command("queue", "retry", "--all")
        wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
        assert len(server.messages) == 1


@pytest.mark.parametrize("mode", ["auto", "direct"])
@pytest.mark.parametrize("place", ["behind MAIL", "behind DATA"])
def test_a_message_that_goes_ahead_of_its_end(place: str, mode: str, relay: Relay, server: Recorder) -> None:
    """What is wrong with a head start concerns nobody; then the whole message meets the same."""
    behave(server, **PLACES[place])
    with relay.connect() as client:
        assert [reply[:3] for reply in client.envelope(f"{mode}@acmejets.example", *YOU)] == ["250"] * 3
        assert client.say("DATA")[:3] == "354"
        client.send(HEADER + b"\r\n" + PART)
        wait_until(lambda: attempts(server) >= 2, "the head start")
        client.send(END)
        reply = client.reply()
    if mode == "direct":
        assert reply.startswith("451 ")
        assert server.messages == []
        assert relay.ask("queue", "list") == []
    else:
        assert " queued as " in reply
        goes_out_at_last(relay, server, PART + b"the end\r\n")
