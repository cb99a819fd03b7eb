"""Fifty large messages at once in little memory, and an event loop that nobody has to wait for."""

from collections.abc import Iterator

import pytest

from tests.e2e.large_load import (
    DOTTED,
    ENCODED,
    LONGEST_ROUND,
    MIB,
    MODES,
    files,
    longest_round,
    send,
    taking_everything,
)
from tests.e2e.ledger import control
from tests.peers.relay import relay_process
from tests.peers.system import wait_until

pytestmark = [pytest.mark.needs("smtp-sink"), pytest.mark.timeout(600)]

CLIENTS = 50
ATTEMPTS = 3


@pytest.fixture(scope="module")
def sink() -> Iterator[int]:
    with taking_everything() as port:
        yield port


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "mebibytes", [pytest.param(4, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.long)]
)
def test_fifty_messages_need_much_less_memory_than_they_have(sink: int, mode: str, mebibytes: int) -> None:
    with relay_process(*files(sink, mode)) as relay:
        send(relay, 1, 2, ENCODED)  # what the first message makes stays
        before = relay.memory()
        assert send(relay, CLIENTS, mebibytes, DOTTED) == ["250"] * CLIENTS, relay.last_words
        wait_until(lambda: not any(control(relay).status()["queue"].values()), "the end of the queue", 300)
        assert relay.peak_memory() - before < 150 * MIB < CLIENTS * mebibytes * MIB


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_no_round_of_the_loop_is_long_under_large_messages(sink: int, mode: str) -> None:
    """What the relay does in a round it does each time. Smaller messages are a bound of tests/bench."""
    rounds: list[float] = []
    while len(rounds) < ATTEMPTS and not any(longest < LONGEST_ROUND for longest in rounds):
        rounds.append(longest_round(sink, mode, 10))
    assert 0 < min(rounds) < LONGEST_ROUND, rounds
