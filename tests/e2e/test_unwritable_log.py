"""The real process with a log that cannot be written: every message is answered 250 and sent once."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.recorder import recorder_server
from tests.peers.relay import RELAY, Relay, open_server
from tests.peers.system import private_folder, stop, wait_until

_MESSAGES = 200
# How a shell sets up stdout and stderr; `$0` is a FIFO.
_LOGS = {
    "reader gone": '>"$0" 2>"$0"',
    "full disk": ">/dev/full 2>/dev/full",
    "closed": ">&- 2>&-",
    "reader hangs": '>"$0" 2>"$0"',
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with private_folder("relay") as found:
        yield found


def _send(relay: Relay, numbers: range) -> None:
    with relay.connect() as client:
        replies = [
            client.submit("support@acmejets.example", "you@customer.example", b"Subject: %d\r\n\r\nhello\r\n" % number)
            for number in numbers
        ]
    assert [reply[:4] for reply in replies] == ["250 "] * len(numbers)


def _read(fifo: int, until: bytes) -> bytes:
    found = b""

    def has_come() -> bool:
        nonlocal found
        try:
            found += os.read(fifo, 65536)
        except BlockingIOError:
            return False
        return until in found

    wait_until(has_come, f"{until!r} in the log", 15)
    return found


@pytest.mark.parametrize("kind", _LOGS)
def test_each_message_is_answered_and_sent_once(kind: str, folder: Path) -> None:
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with recorder_server() as recorder:
        directory = {"default_server": "up", "servers": {"up": open_server(recorder.port)}}
        directory |= {"channels": {"support": {"address": "support@acmejets.example"}}}
        relay = Relay(folder, {}, directory)
        relay.process = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$@" {_LOGS[kind]}', str(fifo), str(RELAY), *relay.serving],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until(relay.greets, "the greeting", 30)
            if kind == "reader gone":
                os.close(reader)
            _send(relay, range(_MESSAGES))
            sent = b"".join(one.received for one in recorder.conversations)
            assert [sent.count(b"Subject: %d\r\n" % number) for number in range(_MESSAGES)] == [1] * _MESSAGES
            if kind != "reader hangs":  # so few lines wait for it
                wait_until(lambda: relay.ask("status")["log"]["dropped"] >= _MESSAGES, "the count", 10)
                assert relay.counters()["relay_log_lines_dropped_total"] >= _MESSAGES
                assert "the log lacks" in relay.command("status").out
            if kind == "reader hangs":
                found = _read(reader, b'"delivered"')
                assert found.startswith(b"{")
            elif kind == "reader gone":  # and another comes
                reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
                _send(relay, range(1))
                assert b'"event": "dropped"' in _read(reader, b'"delivered"')
        finally:
            status = stop(relay.process, 20)
            os.close(reader)
        assert status == 0
