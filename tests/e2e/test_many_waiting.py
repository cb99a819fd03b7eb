"""A start with 100,000 waiting messages takes hardly longer than one with none, and works them off within bounds."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from relay.store.queue.messages import NewMessage
from tests.bench.size import start
from tests.e2e.kills import settings
from tests.e2e.ledger import Ledger, control
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import wait_until
from tests.unit.store.store_kit import CONTENT, new_message, open_queue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WAITING = 100_000
AT_ONCE = 1000
STARTS = 3
CONNECTIONS = 5
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Start:
    """How many seconds of processor time a start took up to the greeting, and how many octets were held at most."""

    seconds: float
    memory: int


def fill(relay: Relay, due: datetime) -> None:
    """Store the messages, which are all due at one moment, while no relay runs."""

    async def add() -> None:
        async with open_queue(relay.state_dir / "relay.db", "the test") as queue:
            for batch in batches(due):
                await queue.add(*batch)

    asyncio.run(add())


def batches(due: datetime) -> Iterator[list[NewMessage]]:
    for first in range(0, WAITING, AT_ONCE):
        yield [
            NewMessage(message=new_message(f"w{number:08}", next_attempt=due), content=CONTENT)
            for number in range(first, first + AT_ONCE)
        ]


def best_start(relay: Relay, recorder: Recorder) -> Start:
    """Start a relay some times; the least says most, as whatever else the machine does makes it more."""
    starts = [one_start(relay, recorder) for _ in range(STARTS)]
    return Start(min(one.seconds for one in starts), min(one.memory for one in starts))


def one_start(relay: Relay, recorder: Recorder) -> Start:
    """Start a relay, let it deliver a new message, which passes all that is not yet due, and stop it.

    The seconds are those of its processor time, because others use the machine.
    """
    _, seconds = start(relay)
    count = len(recorder.messages)
    assert Ledger().submit(relay, "hello").startswith("250 ")
    wait_until(lambda: len(recorder.messages) > count, "the new message")
    memory = relay.peak_memory()
    assert relay.stop() == 0
    return Start(seconds, memory)


def test_a_start_with_100_000_waiting_messages(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), settings("queued"), starts=False)
    relay.start()
    relay.stop()
    empty = best_start(relay, recorder)
    fill(relay, datetime.now(UTC) + timedelta(hours=1))
    full = best_start(relay, recorder)
    assert full.seconds < empty.seconds + 2, (empty, full)
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
