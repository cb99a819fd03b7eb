"""The service as a process: it ends in order, starts again after a kill, and is alone in its folder."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.peers.fixtures import StartRelay
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.short_windows import short_windows
from tests.peers.system import answers, wait_until

SENDER = "support@acmejets.example"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"


def submit(relay: Relay) -> str:
    with relay.connect() as client:
        return client.submit(SENDER, "you@customer.example", MESSAGE)


def test_sigterm_lets_a_message_in_flight_finish(start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.hold(".")
    relay = start_relay(one_channel(open_server(recorder.port)))
    with relay.connect() as idle, relay.connect() as client:
        client.envelope(SENDER, "you@customer.example")
        client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        recorder.wait_for(".")
        relay.signal(signal.SIGTERM)
        assert idle.reply().startswith("421 4.3.2")
        wait_until(lambda: not answers(relay.port), "the port closed")
        recorder.release(".")
        assert client.reply().startswith("250 2.0.0 Ok: delivered via acmejets")
    assert relay.process is not None
    assert relay.process.wait(10) == 0
    assert len(recorder.messages) == 1
    assert not relay.control_socket.exists()


@dataclass(frozen=True)
class Stop:
    """A relay is told to end while a server is silent at this step; `said`: what the client hears, `left`: what waits.

    `answers_quit`: whether it answers QUIT, or is silent there, too.
    """

    mode: str
    step: str
    said: str
    left: tuple[str, ...]
    patience: str = "90s"
    answers_quit: bool = True

    def __str__(self) -> str:
        return f"{self.mode}, silent at {self.step}, patience {self.patience}, QUIT {self.answers_quit}"


QUEUED, UNKNOWN = "250 2.0.0 Ok: queued as ", ("unknown",)
STOPS = (
    Stop("queued", "MAIL", QUEUED, ("queued",), answers_quit=False),
    Stop("queued", ".", QUEUED, UNKNOWN, answers_quit=False),
    Stop("direct", ".", "451 4.4.2 ", (), answers_quit=False),
    # However patient it is.
    Stop("auto", "MAIL", QUEUED, ("queued",)),
    Stop("auto", ".", QUEUED, UNKNOWN),
    Stop("direct", "MAIL", "421 4.3.2 ", ()),
    Stop("direct", ".", "451 4.4.2 ", ()),
    # The client's patience ends meanwhile, and it has its 250, too: the last that begins, and the first that stops.
    Stop("auto", "DATA", QUEUED, ("queued",), patience="{meanwhile}", answers_quit=False),
)


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("within", [5.0, pytest.param(30.0, marks=pytest.mark.long)])
def test_sigterm_ends_in_time_and_leaves_no_client_without_an_answer_whatever_a_server_does(
    within: float, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had its 250 is on disk. Each stop is that of a relay of its own, and all are under way at once."""
    monkeypatch.setattr("tests.peers.recorder._PATIENCE", 200.0)
    monkeypatch.setattr("tests.peers.raw._TIMEOUT", 60.0)
    with ExitStack() as stack:
        recorders = [stack.enter_context(recorder_server()) for _ in STOPS]
        relays = [
            start_to_stop(start_relay, stop, recorder, within) for stop, recorder in zip(STOPS, recorders, strict=True)
        ]
        clients = [
            stack.enter_context(sent_up_to(stop, relay, recorder))
            for stop, relay, recorder in zip(STOPS, relays, recorders, strict=True)
        ]
        for relay in reversed(relays):
            relay.signal(signal.SIGTERM)
        for stop, client in zip(STOPS, clients, strict=True):
            assert client.reply().startswith(stop.said), str(stop)
        for stop, relay in zip(STOPS, relays, strict=True):
            assert relay.process is not None
            # The recorder would be silent for longer, and a busy machine adds to what the relay takes.
            assert relay.process.wait(within + 30) == 0, str(stop)
        for stop, relay, recorder in zip(STOPS, relays, recorders, strict=True):
            check_left(stop, relay, recorder)


def held_at(stop: Stop) -> tuple[str, ...]:
    return (stop.step,) if stop.answers_quit else (stop.step, "QUIT")


def start_to_stop(start_relay: StartRelay, stop: Stop, recorder: Recorder, within: float) -> Relay:
    """Start a relay that ends within so many seconds, at a server that will be silent."""
    for step in held_at(stop):
        recorder.hold(step)
    patience = stop.patience.format(meanwhile=f"{int(within * 1000 / 5)}ms")
    keys = {"delivery": {"mode": stop.mode, "patience": patience, "retry": ["1s"]}}
    relay = start_relay(one_channel(open_server(recorder.port)), keys, starts=False)
    relay.windows = short_windows(stop=0 if within == 30 else within)
    relay.start()
    return relay


@contextmanager
def sent_up_to(stop: Stop, relay: Relay, recorder: Recorder) -> Iterator[RawClient]:
    """A client that has sent a message, which the server has up to the step at which it is silent."""
    with relay.connect() as client:
        client.envelope(SENDER, "you@customer.example")
        client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        recorder.wait_for(stop.step)
        yield client


def check_left(stop: Stop, relay: Relay, recorder: Recorder) -> None:
    """What is left is there after the next start, and where nobody can have it, it is sent by itself."""
    before = recorder.replies[stop.step]
    recorder.replies[stop.step] = b"450 4.2.0 busy\r\n"  # so that what waits is seen to wait
    for step in held_at(stop):
        recorder.release(step)
    relay.start()
    wait_until(lambda: tuple(entry["state"] for entry in relay.ask("queue", "list")) == stop.left, f"{stop}: the rest")
    recorder.replies[stop.step] = before
    if stop.left == ("queued",):
        wait_until(lambda: len(recorder.messages) == 1, f"{stop}: the message")


@pytest.mark.slow
def test_a_kill_does_not_keep_the_next_start_from_working_and_a_folder_has_one_relay(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)))
    assert relay.ask("status")["running"] is True
    relay.signal(signal.SIGKILL)
    relay.stop()
    status = relay.command("status")
    assert status.status == 1
    assert "Traceback" not in status.text
    relay.start()
    assert relay.ask("status")["running"] is True
    again = relay.command("serve")
    assert again.status == 1
    assert "another relay" in again.text
    assert submit(relay).startswith("250 ")


def test_the_relay_does_not_start_on_a_port_that_is_taken(start_relay: StartRelay, recorder: Recorder) -> None:
    address = f"127.0.0.1:{recorder.port}"
    relay = start_relay(one_channel(open_server(recorder.port)), {"listener": [{"address": address}]}, starts=False)
    done = relay.command("serve")
    assert done.status == 1
    assert address in done.text
    assert "Traceback" not in done.text
