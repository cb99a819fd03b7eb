"""SIGKILL at random moments under load: every message that had its 250 arrives, and only doubtful ones arrive twice.

The ledgers are the client's (who had a 250) and the upstream's (what arrived). A message may arrive twice only where
the kill fell between our final dot and the record of its answer; then the relay's history says that it was unknown.
"""

import random
import signal
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

ROUNDS = 12
CLIENTS = 4
SENDER = "support@acmejets.example"


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("mode", ["auto", "queued"])
def test_a_kill_at_any_moment_loses_nothing(mode: str, start_relay: StartRelay, recorder: Recorder) -> None:
    chance = random.Random(mode)
    delivery = {"mode": mode, "patience": "1s", "retry": ["1s"], "unknown_pause": "1s"}
    relay = start_relay(one_channel(open_server(recorder.port)), {"delivery": delivery}, starts=False)
    promised: list[str] = []
    for number in range(ROUNDS):
        relay.start()
        clients = [
            threading.Thread(target=submit_until_killed, args=(relay, promised, f"{number}.{client}"))
            for client in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        threading.Event().wait(chance.uniform(0.0, 0.5))
        relay.signal(signal.SIGKILL)
        for client in clients:
            client.join(20)
        relay.stop()
    relay.start()
    wait_until(lambda: is_empty_or_held(relay), "what is due to be sent", 120)
    # A message whose answer a kill took away twice waits for a person, who looks and lets it go on.
    for held in relay.ask("queue", "list"):
        assert held["reason"].startswith("unknown: "), held
        assert relay.command("queue", "release", held["id"]).status == 0
    wait_until(lambda: not relay.ask("queue", "list"), "an empty queue", 120)

    arrived = Counter(recipient for recipient in map(recipient_of, recorder.messages))
    assert len(promised) > ROUNDS, "the clients got somewhere"
    assert [recipient for recipient in promised if not arrived[recipient]] == []
    repeated = {recipient: count - 1 for recipient, count in arrived.items() if count > 1}
    assert {name: count for name, count in repeated.items() if count > times_unknown(relay, name)} == {}


def submit_until_killed(relay: Relay, promised: list[str], name: str) -> None:
    """Send one message after the other, and write down who had a 250."""
    with suppress(OSError, EOFError, RuntimeError), relay.connect() as client:
        for number in range(1000):
            recipient = f"r{name}.{number}@customer.example"
            if client.submit(SENDER, recipient, f"Subject: {recipient}\r\n\r\nhello\r\n".encode()).startswith("250 "):
                promised.append(recipient)


def recipient_of(message: bytes) -> str:
    return next(line[9:].decode() for line in message.split(b"\r\n") if line.startswith(b"Subject: "))


def is_empty_or_held(relay: Relay) -> bool:
    return all(entry["state"] == "held" for entry in relay.ask("queue", "list"))


def times_unknown(relay: Relay, recipient: str) -> int:
    """How often nobody knew, by the history, whether the message had arrived."""
    found: list[dict[str, Any]] = relay.ask("messages", "list", "--to", recipient)
    shown = [relay.ask("messages", "show", one["id"]) for one in found]
    return sum(attempt["meaning"] == "unknown" for one in shown for attempt in one["attempts"])
