"""Bounds of time, which no test asserts: `make bench LOADS=bounds`, or `python -m tests.bench.bounds`.

Pages and lists with ten thousand agents, what strangers send to make the relay work, what is read at once, and large
messages by many at once.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from relay.mail.content import ContentReader
from tests.bench import crowd, report, waiting
from tests.bench.bound import Bound, Measured, measured
from tests.bench.watching import watched
from tests.dialogs.listener.measured_listener import measured_listener
from tests.e2e import large_load
from tests.hostile.hard_messages import HARD, Hard, submit
from tests.hostile.house import house
from tests.hostile.web_requests import BODIES, HEADS, KNOWN, PATIENCE, target_of, target_relay
from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient
from tests.peers.recorder import recorder_server
from tests.peers.relay import Relay
from tests.unit.mail.mail_kit import SIXTEEN_MEBIBYTES

AGENTS = 10_000
_STEP_SECONDS = 0.020
_HARD_SECONDS = 6.0
_READ_SECONDS = 1.0


def bounds(agents: int) -> Iterator[Bound]:
    """Yield everything that is measured; what each needs runs until the next is asked for."""
    yield from _reading()
    yield from _receiving()
    yield from _hard_messages()
    yield from _large_messages()
    yield from _requests()
    yield from crowd.bounds(agents)
    yield from waiting.bounds()


def _reading() -> Iterator[Bound]:
    def read(chunk: bytes) -> float:
        begun = time.process_time()
        reader = ContentReader()
        reader.feed(b"\r\n" if b"\r" in chunk else b"\n")
        for _ in range(256):
            reader.feed(chunk)
        reader.finish()
        return time.process_time() - begun

    for what, chunk in SIXTEEN_MEBIBYTES.items():
        yield Bound(f"reading 16 MiB of {what}", _READ_SECONDS, partial(read, chunk))


def _receiving() -> Iterator[Bound]:
    def receive(lines: bytes) -> float:
        with measured_listener() as listener, RawClient(Endpoint(port=listener.port)) as client:
            client.envelope(large_load.SENDER, large_load.YOU)
            client.say("DATA")
            before = listener.cpu_seconds
            client.send(large_load.HEADER)
            for _ in range(16):
                client.send(lines)
            client.send(b".\r\n")
            assert client.reply().startswith("250 ")
            return listener.cpu_seconds - before

    for what, lines in {"encoded lines": large_load.ENCODED, "lines with dots": large_load.DOTTED}.items():
        yield Bound(f"a listener that takes 16 MiB of {what}", _READ_SECONDS, partial(receive, lines))


def _large_messages() -> Iterator[Bound]:
    with large_load.taking_everything() as port:
        for mode in large_load.MODES:
            longest = partial(large_load.longest_round, port, mode, 2)
            yield Bound(f"the longest round under messages of 2 MiB, {mode}", large_load.LONGEST_ROUND, longest)


def _hard_messages() -> Iterator[Bound]:
    def seconds(relay: Relay, hard: Hard) -> float:
        before = relay.cpu_seconds
        asyncio.run(submit(relay.port, hard))
        return relay.cpu_seconds - before

    with recorder_server() as wire, house(wire.port) as relay:
        for what, hard in HARD.items():
            yield Bound(f"a message of {what}", _HARD_SECONDS, partial(seconds, relay, hard))


def _requests() -> Iterator[Bound]:
    with target_relay() as (relay, port):
        it = watched(relay)
        target = target_of(relay, port)
        for name, make in {**HEADS, **BODIES}.items():
            ask = partial(target.ask, make(target))
            yield Bound(f"the longest step of {name}", _STEP_SECONDS, partial(it.longest_step, ask, 0.03))
        for name, (_, make) in KNOWN.items():
            ask = partial(target.ask, make(target), PATIENCE)
            yield Bound(f"the longest step of {name}", _STEP_SECONDS, partial(it.longest_step, ask, 0.03))


def measure(agents: int, tell: Callable[[str], None]) -> list[Measured]:
    """Measure all of them."""
    found = []
    for bound in bounds(agents):
        tell(f"bounds: {bound.what}")
        found.append(measured(bound))
    return found


def main(arguments: Sequence[str]) -> int:
    """Print the table. Returns 1 where a bound was broken thrice in a row."""
    agents = int(arguments[0]) if arguments else AGENTS
    found = measure(agents, lambda text: print(text, file=sys.stderr, flush=True))
    print(report.of_bounds(found))
    return 0 if all(one.is_kept for one in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
