"""What a message takes in calls, and how many files of Relay it enters: figures that no machine and no load changes.

Each hop that is added shows here at once, long before it shows in processor time.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.contenders import directory, made_relay
from tests.bench.letter import sender
from tests.bench.loads import AUTO, KIB, QUEUED, Upstream
from tests.bench.upstreams import Certificate, running_upstream
from tests.peers.packages import program
from tests.peers.profiled import Counting
from tests.peers.system import LOOPBACK, private_folder, wait_until

MESSAGES = 4000
MOST = {AUTO: 314, QUEUED: 500}  # calls of a message of 2 KB in each mode


@dataclass(frozen=True, slots=True)
class Cost:
    """Calls of the loop's thread for each message in a mode, built-in functions too, and files of `relay/` entered."""

    mode: str
    calls: float
    files: int

    @property
    def is_kept(self) -> bool:
        """Whether it is not over its bound."""
        return self.calls <= MOST[self.mode]


def measure(messages: int, certificate: Certificate, tell: Callable[[str], None]) -> list[Cost]:
    """Count messages of 2 KB over 20 connections that are kept, in each mode."""
    return [_measure(mode, messages, certificate, tell) for mode in (AUTO, QUEUED)]


def _measure(mode: str, messages: int, certificate: Certificate, tell: Callable[[str], None]) -> Cost:
    with (
        private_folder("bench-calls") as folder,
        running_upstream(Upstream(), certificate, folder) as upstream,
        made_relay(directory(upstream), mode) as relay,
    ):
        relay.fork("tests.peers.profiled:install", str(folder / "calls"))
        wait_until(relay.greets, "the relay's greeting")

        def send(number: int) -> None:
            many = ["-d", "-s", "20", "-m", str(number), "-l", str(2 * KIB), "-M", "bench.test"]
            who = ["-f", sender(0), "-t", "customer@customer.example"]
            before = upstream.count()
            subprocess.run([program("smtp-source"), *many, *who, f"{LOOPBACK}:{relay.port}"], check=True)
            wait_until(lambda: upstream.count() >= before + number, "the messages", 180)

        send(max(messages // 10, 20))
        counting = Counting(relay, folder / "calls")
        counting.begin()
        send(messages)
        found = counting.end()
    cost = Cost(mode, found.total / messages, len(found.entered(messages // 2)))
    tell(f"calls, {mode}: {cost.calls:,.0f}")
    return cost
