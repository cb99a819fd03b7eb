"""The real process with a log that cannot be written: every message is answered 250 and sent once."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.peers.recorder import recorder_server
from tests.peers.relay import RELAY, Relay, open_server
from tests.peers.system import private_folder, stop, wait_until

_MESSAGES = 200
# How a shell sets up stdout and stderr; `$1` is a pipe that a test reads, or does not.
_LOGS = {
    "reader gone": 'exec "$@" >&3 2>&3',
    "full disk": 'exec "$@" >/dev/full 2>/dev/full',
    "closed": 'exec "$@" >&- 2>&-',
    "reader hangs": 'exec "$@" >&3 2>&3',
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with private_folder("relay") as found:
        yield found


@pytest.mark.parametrize("kind", _LOGS)
def test_each_message_is_answered_and_sent_once(kind: str, folder: Path) -> None:
    reader, writer = os.pipe()
    with recorder_server() as recorder:
        directory = {"default_server": "up", "servers": {"up": open_server(recorder.port)}}
        directory |= {"channels": {"support": {"address": "support@acmejets.example"}}}
        relay = Relay(folder, {}, directory)
        relay.process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec 3>&{writer} {writer}>&-; {_LOGS[kind]}", "sh", str(RELAY), *relay.serving],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(writer,),
        )
        os.close(writer)
        try:
            if kind == "reader gone":
                os.close(reader)
            wait_until(relay.greets, "the greeting", 30)
            replies = []
            with relay.connect() as client:
                for number in range(_MESSAGES):
                    content = b"Subject: %d\r\n\r\nhello\r\n" % number
                    replies.append(client.submit("support@acmejets.example", "you@customer.example", content)[:4])
            assert replies == ["250 "] * _MESSAGES
            sent = b"".join(one.received for one in recorder.conversations)
            assert [sent.count(b"Subject: %d\r\n" % number) for number in range(_MESSAGES)] == [1] * _MESSAGES
            if kind != "reader hangs":  # of a few lines it drops none yet, they wait
                wait_until(lambda: relay.ask("status")["log"]["dropped"] >= _MESSAGES, "the count", 10)
                assert relay.counters()["relay_log_lines_dropped_total"] >= _MESSAGES
        finally:
            assert stop(relay.process, 20) == 0
            with suppress(OSError):
                os.close(reader)
