"""Relays that are killed at a named point or at any moment, and what must hold afterwards."""

import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tests.e2e.ledger import Ledger, repeated, settle_all, times_unknown, told
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until

# In `queued` a message goes on from memory when it is stored, in `in line` the dispatcher takes it from the store when
# it may go. In `gone` the client's patience ends before the upstream has said anything, and the delivery goes on alone.
MODES: Mapping[str, Mapping[str, str]] = {
    "queued": {"mode": "queued"},
    "in line": {"mode": "queued"},
    "auto": {"mode": "auto", "patience": "30s"},
    "gone": {"mode": "auto", "patience": "1ms"},
}


def settings(mode: str, **log: str) -> dict[str, Any]:
    """Settings for relay.toml with one of MODES and short pauses; `log` adds to the keys of its table."""
    delivery = {"retry": ["200ms"], "unknown_pause": "300ms", "probe": ["1h"], **MODES[mode]}
    return {"delivery": delivery, "log": {"format": "json", "level": "debug", **log}}


def directory(mode: str, port: int) -> dict[str, Any]:
    """A channel whose server is on this port; mail of an account with a pace is taken from the store."""
    return one_channel(open_server(port, **({"messages_per_minute": 60_000} if mode == "in line" else {})))


def start_to_die(relay: Relay, point: str, count: int = 1) -> None:
    """Start a relay that kills itself at a point; it may do so before it greets anybody."""
    relay.fork("tests.e2e.killed_relay:install", point, str(count))
    with suppress(RuntimeError):  # it has ended
        wait_until(relay.greets, f"a greeting, or the end at {point!r}", 20)


def wait_for_kill(relay: Relay) -> None:
    """Wait until a relay has been killed. AssertionError where it ended otherwise, TimeoutExpired where it lives."""
    assert relay.process is not None
    assert relay.process.wait(30) == -signal.SIGKILL, relay.last_words


def submit_by_four(ledger: Ledger, relay: Relay, prefix: str) -> None:
    """Let four clients send as much as they can, until the relay is killed."""
    clients = [
        threading.Thread(target=ledger.submit_until_killed, args=(relay, f"{prefix}.{client}")) for client in range(4)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)


def check(ledger: Ledger, relay: Relay, recorder: Recorder, *, is_doubtful: bool) -> None:
    """What was promised is there, and nothing is there twice but what nobody could know of."""
    settle_all(relay)
    assert ledger.missing(recorder) == []
    twice = repeated(recorder)
    assert is_doubtful or not twice, twice
    unexplained = {name: count for name, count in twice.items() if count > times_unknown(relay, name)}
    assert not unexplained, {name: told(relay, name) for name in unexplained}
