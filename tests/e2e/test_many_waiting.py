"""A start with 100,000 waiting messages takes little memory, and works them off within bounds.

How long it takes is a bound of the bench (`tests/bench/waiting.py`).
"""

from datetime import UTC, datetime, timedelta

import pytest

from tests.bench.waiting import best_start, fill
from tests.e2e.kills import settings
from tests.e2e.ledger import control
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONNECTIONS = 5
MIB = 1024**2


def test_a_start_with_100_000_waiting_messages(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), settings("queued"), starts=False)
    relay.start()
    relay.stop()
    empty = best_start(relay, recorder)
    fill(relay, datetime.now(UTC) + timedelta(hours=1))
    full = best_start(relay, recorder)
    assert full.memory < empty.memory + 50 * MIB, (empty, full)


def test_100_000_due_messages_are_worked_off_within_bounds(start_relay: StartRelay, recorder: Recorder) -> None:
    server = open_server(recorder.port, max_connections=CONNECTIONS)
    relay = start_relay(one_channel(server), settings("queued"), starts=False)
    for _ in range(2):  # the first start makes the database, which takes more memory
        relay.start()
        before = relay.memory()
        relay.stop()
    fill(relay, datetime.now(UTC) - timedelta(hours=1))
    recorder.hold("MAIL")
    relay.start()
    recorder.wait_for("MAIL")
    assert states(relay)["sending"] <= CONNECTIONS
    recorder.release("MAIL")
    wait_until(lambda: len(recorder.messages) > 1000, "a thousand messages", 120)
    # As many as there are connections, and as many that were claimed in one go for when these are free.
    assert states(relay)["sending"] < 2 * CONNECTIONS
    assert max(one["connections"] for one in control(relay).run("account.list", {})) <= CONNECTIONS
    peak = relay.peak_memory()
    assert peak < before + 50 * MIB, (before, peak)
    messages = list(recorder.messages)
    assert len(set(messages)) == len(messages)


def states(relay: Relay) -> dict[str, int]:
    return dict(control(relay).status()["queue"])
