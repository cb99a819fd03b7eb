"""The service as a process: it ends in order, starts again after a kill, and is alone in its folder."""

import signal

import pytest

from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import answers, wait_until

SENDER = "support@acmejets.example"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
# It ends within 30 seconds, and a busy machine adds to them. The recorder would be silent for 100.
_STOPPED = 30 + 10


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


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "step"), [("queued", "MAIL"), ("queued", "."), ("auto", "DATA"), ("direct", ".")])
def test_sigterm_ends_within_30_seconds_whatever_a_server_does(
    mode: str, step: str, start_relay: StartRelay, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had its 250 is on disk; in mode auto the client's patience ends meanwhile, and it has its 250, too."""
    monkeypatch.setattr("tests.peers.recorder._PATIENCE", 100.0)
    for silent in (step, "QUIT"):
        recorder.hold(silent)
    relay = start_relay(one_channel(open_server(recorder.port)), {"delivery": {"mode": mode}})
    with relay.connect() as client:
        client.envelope(SENDER, "you@customer.example")
        client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        recorder.wait_for(step)
        relay.signal(signal.SIGTERM)
        if mode != "direct":
            assert client.reply().startswith("250 2.0.0 Ok: queued as ")
    assert relay.process is not None
    assert relay.process.wait(_STOPPED) == 0
    recorder.release(step)
    recorder.release("QUIT")
    relay.start()
    if step == ".":
        expected = {"direct": [], "queued": ["unknown"]}[mode]
        assert [entry["state"] for entry in relay.ask("queue", "list")] == expected
    else:
        wait_until(lambda: len(recorder.messages) == 1, "the message")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "step", "said", "states"),
    [
        ("auto", "MAIL", "250 2.0.0 Ok: queued as ", ["queued"]),
        ("auto", ".", "250 2.0.0 Ok: queued as ", ["unknown"]),
        ("direct", "MAIL", "421 4.3.2 ", []),
        ("direct", ".", "451 4.4.2 ", []),
    ],
)
def test_sigterm_leaves_no_client_without_an_answer_however_patient_it_is(
    mode: str,
    step: str,
    said: str,
    states: list[str],
    start_relay: StartRelay,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.peers.recorder._PATIENCE", 100.0)
    monkeypatch.setattr("tests.peers.raw._TIMEOUT", 60.0)
    recorder.hold(step)
    relay = start_relay(one_channel(open_server(recorder.port)), {"delivery": {"mode": mode, "patience": "90s"}})
    with relay.connect() as client:
        client.envelope(SENDER, "you@customer.example")
        client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        recorder.wait_for(step)
        relay.signal(signal.SIGTERM)
        assert client.reply().startswith(said)
    assert relay.process is not None
    assert relay.process.wait(_STOPPED) == 0
    recorder.replies[step] = b"450 4.2.0 busy\r\n"  # so that what waits is seen to wait
    recorder.release(step)
    relay.start()
    wait_until(lambda: [entry["state"] for entry in relay.ask("queue", "list")] == states, "what is left")


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
