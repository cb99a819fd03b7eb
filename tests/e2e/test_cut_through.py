"""A large message goes on to its server while its client still sends it, and is nobody's until all of it is there."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.in_parts import END, HEADER, MIB, PART, SENDER, YOU
from tests.peers.raw import RawClient
from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import wait_until

_ATTEMPTS = 5


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recorder_server() as server:
        yield server


@pytest.fixture(scope="module", params=["direct", "auto"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def running(recorder: Recorder, mode: str) -> Iterator[Relay]:
    settings = {"delivery": {"mode": mode}, "limits": {"memory_per_message": "256KiB", "message_size": "4MiB"}}
    with relay_process(one_channel(open_server(recorder.port)), settings) as relay:
        yield relay


@pytest.fixture
def relay(running: Relay, recorder: Recorder) -> Relay:
    """A relay that has one connection to its server, and has sent one message: a head start opens none."""
    recorder.cut()
    warm_up(running, recorder)
    return running


def warm_up(relay: Relay, recorder: Recorder) -> None:
    """Send a small message, and forget all before it."""
    with relay.connect() as client:
        assert client.submit(SENDER, YOU, HEADER + b"\r\nsmall\r\n").startswith("250 ")
    assert recorder.messages
    del recorder.messages[:-1], recorder.conversations[:-1]


def arrived(recorder: Recorder) -> int:
    """How many octets have come at the recorder, from whatever connection."""
    return sum(len(turn) for conversation in list(recorder.conversations) for turn in list(conversation.turns))


def begin(client: RawClient) -> None:
    """Send a large message but its end."""
    assert [reply[:3] for reply in client.envelope(SENDER, YOU)] == ["250", "250"]
    assert client.say("DATA")[:3] == "354"
    client.send(HEADER + b"\r\n" + PART)


def ahead(relay: Relay, recorder: Recorder) -> RawClient:
    """Return a client of whose message all but the end is sent, and more than half is at the server.

    Who is held up by a busy machine is too slow for a head start; it leaves, without a connection to the server, and
    comes again.
    """
    for _ in range(_ATTEMPTS):
        client = relay.connect()
        begin(client)
        with suppress(TimeoutError):
            wait_until(lambda: arrived(recorder) > MIB, "the content at the server")
            return client
        client.close()
    raise TimeoutError(f"no head start in {_ATTEMPTS} attempts")


def test_content_is_there_before_the_end_of_the_message(relay: Relay, recorder: Recorder) -> None:
    with ahead(relay, recorder) as client:
        assert len(recorder.messages) == 1
        client.send(b"\xff and " + END)
        assert client.reply() == "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"
    assert len(recorder.messages) == 2
    assert recorder.messages[-1].partition(b"\r\n\r\n")[2] == PART + b"\xff and the end\r\n"
    assert recorder.messages[-1].startswith(b"Received: ")
    (conversation,) = recorder.conversations
    envelope = [line for line in conversation.commands if line[:4] in {"MAIL", "RCPT", "DATA"}]
    # What only the end tells is not said before it.
    assert envelope[-3:] == [f"MAIL FROM:<{SENDER}> BODY=8BITMIME", f"RCPT TO:<{YOU}>", "DATA"]


def test_a_client_that_leaves_takes_its_message_along(relay: Relay, recorder: Recorder) -> None:
    ahead(relay, recorder).close()
    with relay.connect() as client:
        assert client.submit(SENDER, YOU, HEADER + b"\r\nafter it\r\n").startswith("250 ")
    assert [message.endswith((b"small\r\n", b"after it\r\n")) for message in recorder.messages] == [True, True]
    # What was begun is ended by closing: the next message has a connection of its own.
    assert len(recorder.conversations) == 2


@pytest.mark.parametrize(
    ("end", "code"),
    [(b"a bare\rCR\r\n.\r\n", "554"), (b"a \0\r\n.\r\n", "554"), (PART + PART + END, "552")],
    ids=["CR", "NUL", "size"],
)
def test_what_is_wrong_at_the_end_is_not_sent(relay: Relay, recorder: Recorder, end: bytes, code: str) -> None:
    with ahead(relay, recorder) as client:
        client.send(end)
        assert client.reply()[:3] == code
        assert client.submit(SENDER, YOU, HEADER + b"\r\nafter it\r\n").startswith("250 ")
    assert len(recorder.messages) == 2


def test_a_server_that_refuses_on_the_way_gets_the_message_as_ever(relay: Relay, recorder: Recorder, mode: str) -> None:
    recorder.replies["RCPT"] = b"451 4.3.0 Not now\r\n"
    with relay.connect() as client:
        begin(client)
        client.send(END)
        reply = client.reply()
    recorder.replies["RCPT"] = REPLIES["RCPT"]
    assert len(recorder.messages) == 1
    if mode == "direct":
        assert reply.startswith("451 4.3.0 ")
        return
    assert " queued as " in reply
    relay.command("queue", "retry", "--all")
    wait_until(lambda: len(recorder.messages) == 2, "the message")
    assert recorder.messages[-1].partition(b"\r\n\r\n")[2] == PART + b"the end\r\n"


@pytest.mark.slow
def test_patience_that_ends_at_the_final_dot_leaves_one_message() -> None:
    with recorder_server() as recorder, relay_process(*files(recorder, patience="1s")) as relay:
        warm_up(relay, recorder)
        recorder.hold(".")
        with ahead(relay, recorder) as client:
            client.send(END)
            assert " queued as " in client.reply()
        recorder.release(".")
        wait_until(lambda: not any(relay.ask("status")["queue"].values()), "its delivery")
        assert len(recorder.messages) == 2


@pytest.mark.slow
def test_a_connection_that_is_lost_on_the_way_loses_nothing() -> None:
    with recorder_server() as recorder, relay_process(*files(recorder)) as relay:
        warm_up(relay, recorder)
        with ahead(relay, recorder) as client:
            recorder.cut()
            client.send(END)
            # Another connection takes it; its recipient has it once.
            assert client.reply() == "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"
        assert len(recorder.messages) == 2
        assert recorder.messages[-1].partition(b"\r\n\r\n")[2] == PART + b"the end\r\n"


@pytest.mark.slow
def test_a_server_that_is_gone_on_the_way_leaves_the_message_in_the_queue() -> None:
    with ExitStack() as server:
        recorder = server.enter_context(recorder_server())
        port = recorder.port
        with relay_process(*files(recorder)) as relay:
            warm_up(relay, recorder)
            with ahead(relay, recorder) as client:
                server.close()
                client.send(END)
                assert " queued as " in client.reply()
            with recorder_server(port=port) as back:
                relay.command("queue", "retry", "--all")
                wait_until(lambda: back.messages, "the message")
                assert back.messages[0].partition(b"\r\n\r\n")[2] == PART + b"the end\r\n"
        assert len(recorder.messages) == 1


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing() -> None:
    with recorder_server() as recorder, relay_process(*files(recorder)) as relay:
        warm_up(relay, recorder)
        with ahead(relay, recorder):
            assert relay.process is not None
            relay.process.kill()
            relay.process.wait()
        relay.start()
        assert not any(relay.ask("status")["queue"].values())
        with relay.connect() as client:
            assert client.submit(SENDER, YOU, HEADER + b"\r\nafter it\r\n").startswith("250 ")
        assert [message.rpartition(b"\r\n\r\n")[2] for message in recorder.messages] == [b"small\r\n", b"after it\r\n"]


def files(recorder: Recorder, **delivery: str) -> tuple[dict[str, object], dict[str, object]]:
    """The directory and the settings of a relay in mode auto."""
    return one_channel(open_server(recorder.port)), {"delivery": {"mode": "auto", **delivery}}
