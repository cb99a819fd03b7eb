"""SIGKILL at random moments under load: every message that had its 250 arrives, and only doubtful ones arrive twice.

A message may arrive twice only where the kill fell between our final dot and the record of its answer; then the relay's
history says that it was unknown.
"""

import random
import signal
import threading

import pytest

from tests.e2e.kills import check, settings, submit_by_four
from tests.e2e.ledger import Ledger
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server

ROUNDS = 100


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("mode", ["auto", "queued"])
def test_a_kill_at_any_moment_loses_nothing(mode: str, start_relay: StartRelay, recorder: Recorder) -> None:
    chance = random.Random(mode)
    relay = start_relay(one_channel(open_server(recorder.port)), settings(mode), starts=False)
    ledger = Ledger()
    for number in range(ROUNDS):
        relay.start()
        killer = threading.Timer(chance.uniform(0.0, 0.5), relay.signal, (signal.SIGKILL,))
        killer.start()
        submit_by_four(ledger, relay, str(number))
        killer.join()
        relay.stop()
    relay.start()
    check(ledger, relay, recorder, is_doubtful=True)
    assert len(ledger.promised) > ROUNDS, "the clients got somewhere"
