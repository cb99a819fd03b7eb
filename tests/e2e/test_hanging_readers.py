"""Who asks for much and reads nothing of it: a list, the history, a message, the metrics. Mail goes on."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.system import wait_until

MODES = ("direct", "auto", "queued")
YOU = "you@customer.example"
# More than the store has readers, and each has more to say than the kernel takes for it.
READERS = 6
LINES = 3 * 1024 * 1024 // 78
LARGE = b"Subject: large\r\n\r\n" + b"".join(b"%076d\r\n" % number for number in range(LINES))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recorder_server() as server:
        yield server


@pytest.fixture
def relay(recorder: Recorder) -> Iterator[Relay]:
    channels = {mode: {"address": f"{mode}@acmejets.example", "mode": mode} for mode in MODES}
    servers = {"acmejets": open_server(recorder.port)}
    directory = {"default_server": "acmejets", "servers": servers, "channels": channels}
    settings: dict[str, Any] = {"delivery": {"retry": ["1h"]}, "log": {"format": "json", "level": "info"}}
    with relay_process(directory, settings) as relay:
        yield relay


def ask_for(relay: Relay, operation: str, **params: Any) -> socket.socket:
    """Ask for a stream, and let it come without reading more than its first octets."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(str(relay.control_socket))
    body = json.dumps(params).encode()
    head = f"POST /do/{operation} HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert connection.recv(13) == b"HTTP/1.1 200 "
    return connection


def test_mail_goes_on_while_many_readers_hang(relay: Relay, recorder: Recorder) -> None:
    recorder.replies["MAIL"] = b"451 4.3.0 Not now\r\n"
    with relay.connect() as client:
        assert " queued as " in client.submit("queued@acmejets.example", YOU, LARGE)
    wait_until(lambda: recorder.conversations, "the attempt")
    wait_until(lambda: [one["state"] for one in relay.ask("queue", "list")] == ["queued"], "its end")
    (message,) = relay.ask("queue", "list")
    recorder.replies["MAIL"] = REPLIES["MAIL"]
    with ExitStack() as stack:
        for _ in range(READERS):
            stack.enter_context(ask_for(relay, "queue.export", id=message["id"]))
            stack.enter_context(ask_for(relay, "messages.list"))
            stack.enter_context(ask_for(relay, "queue.list"))
        with relay.connect() as client:
            for mode in MODES * 5:
                reply = client.submit(f"{mode}@acmejets.example", YOU, b"Subject: hello\r\n\r\nhello\r\n")
                assert reply.startswith("250 ")
        wait_until(lambda: len(recorder.messages) == 15, "what was stored")
        wait_until(lambda: len(relay.ask("messages", "list")) == 16, "the history")
        relay.command("queue", "retry", "--all")  # what they read is sent, and goes from the queue
        wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")
    assert recorder.messages[-1].endswith(LARGE[-78:])
