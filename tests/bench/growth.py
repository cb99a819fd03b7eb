"""Whether Relay stays as fast as it is: with ever more messages that wait, and with ever more profiles."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from relay.store.queue.messages import NewMessage
from tests.bench.contenders import Contender, made_relay, of_relay, one_server, running_relay
from tests.bench.letter import DOMAIN, sender
from tests.bench.loads import AUTO, QUEUED, Load, Upstream
from tests.bench.rounds import Run, measure
from tests.bench.upstreams import Certificate, Running, running_upstream
from tests.peers.relay import Relay
from tests.peers.system import private_folder
from tests.unit.store.store_kit import CONTENT, new_message, open_queue

MODES = (AUTO, QUEUED)
_AT_ONCE = 1000
# None is tried while the bench runs. What would wait for longer than the longest pause of `retry` is due at once.
_LATER = timedelta(hours=3)


def with_waiting(sizes: Sequence[int], load: Load, certificate: Certificate, tell: Callable[[str], None]) -> list[Run]:
    """Send the load through relays in which so many messages wait already, for a channel of each mode."""
    with ExitStack() as stack:
        pairs = []
        for size in sizes:
            upstream = _upstream(stack, certificate)
            relay = stack.enter_context(made_relay(_two_channels(upstream), AUTO))
            tell(f"growth: {size:,} messages are put into a queue")
            fill(relay, size)
            relay.start()
            pairs += [(load, of_relay(f"{size} {mode}", relay, upstream, f"{mode}@{DOMAIN}")) for mode in MODES]
        return measure(pairs, tell)


def with_profiles(sizes: Sequence[int], load: Load, certificate: Certificate, tell: Callable[[str], None]) -> list[Run]:
    """Send the load through relays that have so many agents, from all of them in turn."""
    with ExitStack() as stack:
        pairs: list[tuple[Load, Contender]] = []
        for size in sizes:
            upstream = _upstream(stack, certificate)
            tell(f"growth: a relay starts with {size:,} agents")
            relay = stack.enter_context(running_relay(_agents(upstream, size), AUTO))
            pairs.append((replace(load, senders=size), of_relay(f"{size} {AUTO}", relay, upstream)))
        return measure(pairs, tell)


def _upstream(stack: ExitStack, certificate: Certificate) -> Running:
    folder = stack.enter_context(private_folder("bench-growth"))
    return stack.enter_context(running_upstream(Upstream(), certificate, folder))


def _two_channels(upstream: Running) -> dict[str, Any]:
    channels = {mode: {"address": f"{mode}@{DOMAIN}", "override": True, "mode": mode} for mode in MODES}
    return {**one_server(upstream.port), "channels": channels}


def _agents(upstream: Running, size: int) -> dict[str, Any]:
    """They send by the server's one account: what grows is the directory, and not the number of connections."""
    return {**one_server(upstream.port), "agents": {f"agent{n}": {"address": sender(n)} for n in range(size)}}


def fill(relay: Relay, size: int) -> None:
    """Store messages of both channels, none of them due, while the relay does not run."""

    async def add() -> None:
        async with open_queue(Path(relay.state_dir) / "relay.db", "the bench") as queue:
            for batch in _batches(size):
                await queue.add(*batch)

    asyncio.run(add())


def _batches(size: int) -> Iterator[list[NewMessage]]:
    due = datetime.now(UTC) + _LATER
    for start in range(0, size, _AT_ONCE):
        yield [
            NewMessage(
                message=new_message(f"w{number:08}", profile=MODES[number % len(MODES)], next_attempt=due),
                content=CONTENT,
            )
            for number in range(start, min(start + _AT_ONCE, size))
        ]
