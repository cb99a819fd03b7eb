"""A store with 100,000 waiting messages, and what a start with them takes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from relay.store.queue.messages import NewMessage
from tests.bench.bound import Bound
from tests.bench.size import start
from tests.e2e.kills import settings
from tests.e2e.ledger import Ledger
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import wait_until
from tests.unit.store.store_kit import CONTENT, new_message, open_queue

WAITING = 100_000
_AT_ONCE = 1000
_STARTS = 3
_MORE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Start:
    """How many seconds of processor time a start took up to the greeting, and how many octets were held at most."""

    seconds: float
    memory: int


def fill(relay: Relay, due: datetime) -> None:
    """Store the messages, which are all due at one moment, while no relay runs."""

    async def add() -> None:
        async with open_queue(relay.state_dir / "relay.db", "the test") as queue:
            for batch in _batches(due):
                await queue.add(*batch)

    asyncio.run(add())


def _batches(due: datetime) -> Iterator[list[NewMessage]]:
    for first in range(0, WAITING, _AT_ONCE):
        yield [
            NewMessage(message=new_message(f"w{number:08}", next_attempt=due), content=CONTENT)
            for number in range(first, first + _AT_ONCE)
        ]


def best_start(relay: Relay, recorder: Recorder) -> Start:
    """Start a relay some times; the least says most, as whatever else the machine does makes it more."""
    starts = [one_start(relay, recorder) for _ in range(_STARTS)]
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


@contextmanager
def _stopped_relay(recorder: Recorder) -> Iterator[Relay]:
    """A relay that has its store, and does not run."""
    with relay_process(one_channel(open_server(recorder.port)), settings("queued"), starts=False) as relay:
        relay.start()
        relay.stop()
        yield relay


def bounds() -> Iterator[Bound]:
    """Yield what a start takes more with all that waits than with nothing."""
    with recorder_server() as recorder, _stopped_relay(recorder) as relay:
        empty = best_start(relay, recorder)
        fill(relay, datetime.now(UTC) + timedelta(hours=1))

        def more() -> float:
            return one_start(relay, recorder).seconds - empty.seconds

        yield Bound(f"a start with {WAITING:,} waiting messages, more than with none", _MORE_SECONDS, more)
