"""The walk of a message in docs/architecture.md names each file that it enters, in each mode, and no other."""

import re
from pathlib import Path

import pytest

from tests.peers.fixtures import StartRelay
from tests.peers.profiled import Calls, Counting
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

PAGE = Path(__file__).parents[2] / "docs/architecture.md"
MESSAGE = (
    b"Date: Wed, 2 Dec 2026 10:00:00 +0000\r\nMessage-ID: <1@customer.example>\r\n"
    b"From: support@acmejets.example\r\nSubject: Hello\r\n\r\nHello\r\n"
)
MESSAGES = 300
MOST_FILES = 40
# Entered so often a second, whatever comes: more often where a run takes longer.
BY_THE_CLOCK = {
    "system/event_loop.py",
    "store/db/database.py",
    "store/db/writer.py",  # the history, a batch each half second
    "store/db/health.py",
    "delivery/queue_runner.py",
}
_ROW = re.compile(r"^\| `([\w/.]+\.py)` \| ([adq, ]*) \|", re.MULTILINE)
_LETTERS = {"auto": "a", "direct": "d", "queued": "q"}


def walk(mode: str) -> set[str]:
    """The files that the table of the walk names for a mode."""
    return {file for file, modes in _ROW.findall(PAGE.read_text()) if _LETTERS[mode] in modes}


def counted(relay: Relay, recorder: Recorder, record: Path) -> Calls:
    """Count the calls of messages over a connection that is kept, to a server whose connection is open."""

    def arrived(number: int) -> None:
        wait_until(lambda: len(recorder.messages) >= number, "the messages at the server")
        wait_until(lambda: not relay.ask("queue", "list"), "an empty queue")

    with relay.connect() as client:

        def submit(first: int, end: int) -> None:
            for number in range(first, end):
                reply = client.submit("support@acmejets.example", f"to{number % 4}@customer.example", MESSAGE)
                assert reply.startswith("250 ")
                # In mode queued the client would be faster than the server, and what finds no free connection waits.
                wait_until(lambda: len(recorder.messages) > number, "the message at the server")  # noqa: B023

        submit(0, 4)
        arrived(4)
        counting = Counting(relay, record)
        counting.begin()
        submit(4, 4 + MESSAGES)
        arrived(4 + MESSAGES)
        return counting.end()


@pytest.mark.parametrize("mode", _LETTERS)
def test_a_message_enters_the_files_of_the_walk(
    mode: str, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    recorder.replies["EHLO"] = b"250-recorder.test\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n"
    relay = start_relay(
        one_channel(open_server(recorder.port)), {"delivery": {"mode": mode}, "log": {"level": "info"}}, starts=False
    )
    record = tmp_path / "calls"
    relay.fork("tests.peers.profiled:install", str(record))
    wait_until(relay.greets, "the relay's greeting")
    calls = counted(relay, recorder, record)
    entered = calls.entered(MESSAGES * 9 // 10) - (BY_THE_CLOCK - walk(mode))
    assert sorted(entered) == sorted(walk(mode))
    if mode == "auto":
        assert len(entered) <= MOST_FILES
