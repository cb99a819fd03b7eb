"""Large messages, several at a time: their bodies lie in files without names, and arrive octet for octet."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SENDER, YOU = "support@acmejets.example", "you@customer.example"
MIB = 1024 * 1024
CLIENTS = 6
LINE = 78
# As it stands on the wire: each line begins with a dot, wherever a piece of it is cut.
BODY = b"".join(b"..%074d\r\n" % number for number in range(24 * MIB // LINE))
HEADER = f"From: {SENDER}\r\nSubject: large\r\n".encode()


@pytest.fixture(params=["direct", "queued"])
def relay(request: pytest.FixtureRequest, recorder: Recorder) -> Iterator[Relay]:
    settings = {"delivery": {"mode": request.param}, "limits": {"memory_per_message": "256KiB"}}
    with relay_process(one_channel(open_server(recorder.port)), settings) as relay:
        with relay.connect() as client:  # what the first message makes stays
            assert client.submit(SENDER, YOU, HEADER + b"\r\n" + BODY[: LINE * 10_000]).startswith("250 ")
        wait_until(lambda: recorder.messages, "the first message")
        recorder.messages.clear()
        yield relay


def test_many_large_messages_at_once_need_little_memory(relay: Relay, recorder: Recorder) -> None:
    before = relay.memory()
    replies: list[str] = []

    def send() -> None:
        with RawClient(relay.endpoint, 110) as client:
            replies.append(client.submit(SENDER, YOU, HEADER + b"\r\n" + BODY)[:3])

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == ["250"] * CLIENTS, relay.last_words
    wait_until(lambda: len(recorder.messages) == CLIENTS, "the messages", 100)
    assert relay.peak_memory() - before < 60 * MIB
    for message in recorder.messages:
        assert message.partition(b"\r\n\r\n")[2] == BODY
    wait_until(lambda: not open_files(relay), "the end of the files")


def test_a_large_message_lies_where_nobody_else_can_open_it(recorder: Recorder) -> None:
    with relay_process(one_channel(open_server(recorder.port))) as relay, relay.connect() as client:
        assert [reply[:3] for reply in client.envelope(SENDER, YOU)] == ["250", "250"]
        assert client.say("DATA")[:3] == "354"
        client.send(HEADER + b"\r\n" + BODY[: LINE * 30_000])
        (name,) = wait_until(lambda: open_files(relay), "its file")
        assert name.startswith(str(relay.state_dir))
        assert not [path for path in relay.state_dir.iterdir() if "body" in path.name]
        client.close()
        wait_until(lambda: not open_files(relay), "the end of the file")


def open_files(relay: Relay) -> list[str]:
    """What the relay has open that has no name any more."""
    assert relay.process is not None
    found = []
    for entry in Path(f"/proc/{relay.process.pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:  # closed meanwhile
            continue
    return [name for name in found if name.endswith("(deleted)")]
