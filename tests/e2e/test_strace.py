"""What the kernel sees of the whole service: the sync stands before every 250 that promises, and nowhere else."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.kills import directory, settings
from tests.e2e.ledger import REFUSED, Ledger, control
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.strace import Call, read_calls, strace
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs("strace")

NAME = "the-traced-message"
ENVELOPE = f"RCPT TO:<{NAME}@customer.example>".encode()


@dataclass(frozen=True, slots=True)
class Trace:
    """The calls of a relay that has ended. The message NAME came last."""

    calls: list[Call]
    reply: str

    @property
    def answer(self) -> int:
        """Where the reply to the message left for its client."""
        return max(i for i, call in enumerate(self.calls) if call.is_sent and call.data.startswith(self.reply.encode()))

    @property
    def greeting(self) -> int:
        """Where its client was greeted."""
        client = self.calls[self.answer].file
        return next(i for i, call in enumerate(self.calls) if call.file == client)

    def sent(self, what: bytes, start: int = 0) -> int:
        """Where some bytes left by a connection."""
        return next(i for i in range(start, len(self.calls)) if self.calls[i].is_sent and what in self.calls[i].data)

    def stored(self, what: bytes, start: int) -> int:
        """Where some bytes were written to the WAL."""
        return next(i for i in range(start, len(self.calls)) if self.calls[i].is_wal and what in self.calls[i].data)

    def is_safe(self, start: int, end: int) -> bool:
        """Whether between the two a transaction was written to its last frame, and the WAL synced after that."""
        commit = next((i for i in range(start, end) if self.calls[i].is_commit), end)
        return any(call.is_sync and call.is_wal for call in self.calls[commit:end])

    def syncs(self, start: int, end: int) -> list[Call]:
        """What was synced between the two, of whatever file."""
        return [call for call in self.calls[start:end] if call.is_sync]


def traced(relay: Relay, log: Path, *others: str, upstream: Recorder | None = None) -> Trace:
    """Submit the message to a relay that has its first one behind it, and return what the kernel saw.

    `upstream` answers to DATA only when the client has its reply.
    """
    relay.start(*strace(log))
    assert relay.process is not None
    ledger = Ledger()
    ledger.submit(relay, "warm-up")
    wait_until(lambda: is_over(relay, 1), "the first message's end")
    if upstream is not None:
        upstream.hold("DATA")
    reply = ledger.submit(relay, NAME, *others)
    if upstream is not None:
        upstream.release("DATA")
    wait_until(lambda: is_over(relay, 3 if others else 2), "the end of this one and of its report")
    assert relay.stop() == 0
    return Trace(read_calls(log, relay.process.pid), reply)


def is_over(relay: Relay, count: int) -> bool:
    """Whether so many messages came, and none waits."""
    came = list(control(relay).stream("messages.list", {}))
    return len(came) == count and not list(control(relay).stream("queue.list", {}))


@pytest.mark.parametrize("mode", ["queued", "gone"])
def test_what_is_promised_is_synced_before_the_250(
    mode: str, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), settings(mode), starts=False)
    trace = traced(relay, tmp_path / "trace", upstream=recorder)
    assert trace.reply.startswith("250 2.0.0 Ok: queued as ")
    assert trace.is_safe(trace.stored(f"Subject: {NAME}".encode(), trace.greeting), trace.answer)


@pytest.mark.parametrize("mode", ["queued", "in line"])
def test_an_attempt_is_synced_before_it_begins_and_before_its_final_dot(
    mode: str, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay = start_relay(directory(mode, recorder.port), settings(mode), starts=False)
    trace = traced(relay, tmp_path / "trace")
    recipient = trace.sent(ENVELOPE)
    stored = trace.stored(f"Subject: {NAME}".encode(), trace.greeting)
    is_with_it = mode == "queued"  # it goes on at once, so its attempt is stored with it
    first_sync = next(i for i in range(stored, recipient) if trace.calls[i].is_sync)
    begun = trace.stored(b"resolve", trace.greeting if is_with_it else first_sync)
    assert trace.is_safe(begun, recipient), "the attempt, in its first phase"
    content = trace.sent(f"Subject: {NAME}".encode(), recipient)
    dot = next(i for i in range(content, len(trace.calls)) if trace.calls[i].data == b".\r\n")
    assert trace.calls[dot].file == trace.calls[content].file
    assert trace.is_safe(content, dot)


def test_a_delivery_that_goes_on_alone_is_synced_before_its_final_dot(
    start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), settings("gone"), starts=False)
    trace = traced(relay, tmp_path / "trace", upstream=recorder)
    content = trace.sent(f"Subject: {NAME}".encode(), trace.sent(ENVELOPE))
    dot = next(i for i in range(content, len(trace.calls)) if trace.calls[i].data == b".\r\n")
    stored = trace.stored(f"Subject: {NAME}".encode(), trace.greeting)
    first = next(i for i in range(stored, dot) if trace.calls[i].is_sync)
    assert trace.is_safe(stored, first + 1), "the message"
    assert trace.is_safe(first + 1, dot), "and then its final dot"


def test_what_a_partial_refusal_owes_is_synced_before_the_250(
    start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    recorder.replies[f"RCPT TO:<{REFUSED}>"] = b"550 5.1.1 No such user here\r\n"
    relay = start_relay(one_channel(open_server(recorder.port)), settings("auto"), starts=False)
    trace = traced(relay, tmp_path / "trace", REFUSED)
    assert trace.reply.startswith("250 2.0.0 Ok: queued as ")
    assert trace.is_safe(trace.stored(b"multipart/report", trace.greeting), trace.answer)


def test_the_healthy_way_syncs_nothing(start_relay: StartRelay, recorder: Recorder, tmp_path: Path) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), settings("auto"), starts=False)
    trace = traced(relay, tmp_path / "trace")
    assert trace.reply == "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"
    assert trace.greeting < trace.sent(ENVELOPE) < trace.answer
    assert trace.syncs(trace.greeting, trace.answer) == []
    assert trace.syncs(trace.answer, len(trace.calls)), "the history is written behind"
