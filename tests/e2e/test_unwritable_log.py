"""The real process with a log that cannot be written: every message is answered 250 and sent once."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.recorder import REPLIES, Recorder, recorder_server
from tests.peers.relay import RELAY, Relay, open_server
from tests.peers.system import private_folder, stop, wait_until

pytestmark = pytest.mark.slow

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


@contextmanager
def _relay(folder: Path, recorder: Recorder, kind: str, **settings: Any) -> Iterator[tuple[Relay, Path]]:
    """A relay with a log of that kind, and the FIFO that it may be. Whoever opens the FIFO closes it."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    directory = {"default_server": "up", "servers": {"up": open_server(recorder.port)}}
    directory |= {"channels": {"support": {"address": "support@acmejets.example"}}}
    relay = Relay(folder, settings, directory)
    relay.process = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$@" {_LOGS[kind]}', str(fifo), str(RELAY), *relay.serving],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(relay.greets, "the greeting", 30)
        if kind == "reader gone":
            os.close(first)
        yield relay, fifo
    finally:
        status = stop(relay.process, 20)
        if kind != "reader gone":
            os.close(first)
    assert status == 0


def _open(fifo: Path) -> int:
    return os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)


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
    with recorder_server() as recorder, _relay(folder, recorder, kind) as (relay, fifo):
        _send(relay, range(_MESSAGES))
        sent = b"".join(one.received for one in recorder.conversations)
        assert [sent.count(b"Subject: %d\r\n" % number) for number in range(_MESSAGES)] == [1] * _MESSAGES
        if kind != "reader hangs":  # so few lines wait for it
            wait_until(lambda: relay.ask("status")["log"]["dropped"] >= _MESSAGES, "the count", 10)
            assert relay.counters()["relay_log_lines_dropped_total"] >= _MESSAGES
            assert "the log lacks" in relay.command("status").out
        if kind in {"reader gone", "reader hangs"}:  # and another comes
            reader = _open(fifo)
            if kind == "reader gone":
                _send(relay, range(1))
            found = _read(reader, b'"delivered"')
            os.close(reader)
            assert found.startswith(b"{")
            assert (b'"event": "dropped"' in found) is (kind == "reader gone")


def _dropped(relay: Relay) -> int:
    return int(relay.ask("status")["log"]["dropped"])


def _fail(relay: Relay, recorder: Recorder, recipients: int = 1) -> None:
    """Hand over a message that the server refuses: of that the log has a line, with all recipients."""
    recorder.replies["MAIL"] = b"550 5.7.1 Not from you\r\n"
    names = b"".join(b"RCPT TO:<%s%d@%s.example>\r\n" % (b"u" * 50, n, b"d" * 50) for n in range(recipients))
    with relay.connect() as client:
        assert client.say("EHLO raw.test")[:3] == "250"
        client.send(b"MAIL FROM:<support@acmejets.example>\r\n" + names + b"DATA\r\n")
        assert {client.reply()[:3] for _ in range(recipients + 1)} == {"250"}
        assert client.reply()[:3] == "354"
        client.send(b"Subject: no\r\n\r\nno\r\n.\r\n")
        assert client.reply()[:3] == "550"
    recorder.replies["MAIL"] = REPLIES["MAIL"]


def test_a_reader_that_hangs_for_long_is_told_how_much_it_missed(folder: Path) -> None:
    with (
        recorder_server() as recorder,
        _relay(folder, recorder, "reader hangs", log={"format": "json", "level": "info"}) as (relay, fifo),
    ):
        while not _dropped(relay):
            for _ in range(50):
                _fail(relay, recorder, recipients=95)
        before = _dropped(relay)
        _send(relay, range(_MESSAGES))
        assert len(recorder.messages) == _MESSAGES
        dropped = _dropped(relay)
        assert dropped > before
        assert relay.counters()["relay_log_lines_dropped_total"] == dropped
        reader = _open(fifo)
        _read(reader, b'"lines": %d,' % dropped)
        _send(relay, range(1))
        assert b'"event": "dropped"' not in _read(reader, b'"delivered"'), "it is said once"
        os.close(reader)


def test_all_processes_of_a_relay_count_what_they_drop_and_say_it(folder: Path) -> None:
    settings = {"workers": 2, "log": {"format": "json", "level": "warning"}}
    with recorder_server() as recorder, _relay(folder, recorder, "reader gone", **settings) as (relay, fifo):
        wait_until(lambda: len(relay.ask("status")["workers"]) == 2, "both workers")
        _kill_second(relay)
        wait_until(lambda: _dropped(relay) == 1, "what the supervisor said of that")
        for _ in range(12):
            _fail(relay, recorder)
        wait_until(lambda: _dropped(relay) == 13, "what the workers said")
        assert relay.counters()["relay_log_lines_dropped_total"] == 13
        reader, told = _open(fifo), b""
        try:
            while sum(_said(told)) < 12:  # whichever worker has the client
                _fail(relay, recorder)
                told += _read(reader, b'"failed"')
            _kill_second(relay)
            told += _read(reader, b"takes its place")
            wait_until(lambda: len(relay.ask("status")["workers"]) == 2, "both workers")
        finally:
            os.close(reader)
        assert sum(_said(told)) == 13
        assert _dropped(relay) == 13, "also those of the worker that has ended"


def _said(told: bytes) -> list[int]:
    """How many lines were dropped, of each line that says so."""
    lines = [json.loads(line) for line in told.splitlines()]
    return [int(line["lines"]) for line in lines if line["event"] == "dropped"]


def _kill_second(relay: Relay) -> None:
    """Kill the second worker, and wait until another has its place."""
    (pid,) = (one["pid"] for one in relay.ask("status")["workers"] if one["index"] == 1)
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: [one for one in relay.ask("status")["workers"] if one["index"] == 1 and one["pid"] != pid], "the next"
    )
