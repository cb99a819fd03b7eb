"""How soon a relay starts and answers, and how large it is (issue: start and size), with ten thousand agents.

Processor time and not the clock, wherever other processes of the machine would be measured too; and the least of
several runs, because they can only add to it. Where they share our cores, the same work takes a third more of it, and
the bounds leave room for that. `make bench LOADS=size` has the figures with the clock.
"""

from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest

from tests.bench.letter import DOMAIN
from tests.bench.size import (
    AGENTS,
    command,
    entries,
    idle,
    latencies_of_change,
    made,
    start,
    turns_of_change,
    turns_of_stored_changes,
)
from tests.peers.relay import Relay
from tests.peers.system import free_port

pytestmark = pytest.mark.timeout(300)
_RUNS = 3
# MiB. docs/performance.md says what is in them.
_RESIDENT = 80
_AGENTS_TAKE = 8
_BUSY = 1.35


def starts(directory: dict[str, Any], runs: int = _RUNS) -> tuple[float, float]:
    """Return the least processor time to the greeting in seconds, and the MiB that are resident then, at rest."""
    with made(directory) as (relay, _):
        start(relay)  # makes the store
        relay.stop()
        used = []
        for number in range(runs):
            used.append(start(relay)[1])
            if number == runs - 1:
                resident, _ = idle(relay)
            relay.stop()
    return min(used), resident


@pytest.mark.slow
def test_it_is_small_with_ten_thousand_agents() -> None:
    """One start, not the least of several: enough to see when a start or the memory of it is of another kind."""
    used, resident = starts(entries(AGENTS), runs=1)
    assert used < 4.0
    assert resident < _RESIDENT


@pytest.mark.long
def test_it_starts_in_a_second_and_stays_small() -> None:
    used, small = starts(entries(0))
    assert used < 1.0 * _BUSY
    with_agents, resident = starts(entries(AGENTS))
    assert with_agents < 2.5, "another process reads the directory meanwhile; both count here"
    assert resident < _RESIDENT
    assert resident - small < _AGENTS_TAKE


@pytest.mark.long
def test_a_changed_directory_of_ten_thousand_holds_up_no_message() -> None:
    found = [turns_of_change(AGENTS) for _ in range(_RUNS)]
    assert min(one.most() for one in found) < 0.02
    # A thread that reads it in this process has most of the turns, three milliseconds each.
    assert min(one.most(0.9) for one in found) < 0.002
    assert min(one.used for one in found) < 0.5, "the reading itself is done elsewhere"


@pytest.mark.long
def test_one_of_100_000_agents_in_the_database_changes_and_holds_up_no_message() -> None:
    found = [one for both in turns_of_stored_changes(100_000) for one in both]
    assert median(one.most() for one in found) < 0.02
    assert median(one.used for one in found) < 0.2, "reading all of them takes a second"


@pytest.mark.long
def test_messages_go_on_and_memory_stays_while_ten_thousand_agents_change() -> None:
    port = free_port()
    directory = entries(AGENTS, port)
    with made(directory) as (relay, _):
        relay.start()
        for _ in range(_RUNS):
            assert latencies_of_change(relay, port, directory).within
        resident, _ = idle(relay)
    assert resident < _RESIDENT + 20, "no directory of before stays"


@pytest.fixture(scope="module")
def large() -> Iterator[Relay]:
    with made(entries(AGENTS)) as (relay, _):
        relay.start()
        yield relay


@pytest.mark.long
@pytest.mark.parametrize("words", ["status", "server list", "agent show agent7", "queue list", f"route desk@{DOMAIN}"])
def test_commands_answer_soon_over_the_control_socket(large: Relay, words: str) -> None:
    assert min(command(large, words)[1] for _ in range(_RUNS)) < 0.4 * _BUSY


@pytest.mark.long
@pytest.mark.parametrize("words", ["queue list", "messages list", "account list", "secrets list", "check"])
def test_commands_that_open_the_store_answer_within_a_second(words: str) -> None:
    with made(entries(10)) as (relay, _):
        assert min(command(relay, words)[1] for _ in range(_RUNS)) < 1.0 * _BUSY
