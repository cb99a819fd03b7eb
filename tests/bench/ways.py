"""What a message costs by Microsoft Graph beside SMTP: the same relay, the same source, an upstream of each kind.

The Graph is the one of the tests (`tests.peers.graph`), in the process of the bench, and answers at once. So the rate
is that of both together on this machine, and what tells is the processor time of the relay.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from tests.bench.contenders import directory, running_relay
from tests.bench.letter import DOMAIN, recipient, sender
from tests.bench.loads import AUTO, CONNECTIONS, KIB, Upstream
from tests.bench.upstreams import Certificate, running_upstream
from tests.bench.usage import cpu_seconds
from tests.peers.graph import graph_server
from tests.peers.packages import program
from tests.peers.relay import Relay
from tests.peers.system import LOOPBACK, private_folder, wait_until

SMTP, GRAPH = "smtp", "graph"
MESSAGES = 2000
ROUNDS = 3
_TOKEN = "good-token"  # what the Graph of the tests takes


@dataclass(frozen=True, slots=True)
class Way:
    """What one run took: messages a second, and milliseconds of the relay's processor time for a message."""

    name: str
    rate: float
    cpu: float


def measure(messages: int, rounds: int, certificate: Certificate, tell: Callable[[str], None]) -> list[Way]:
    """Send messages of 2 KB over 20 connections that are kept, in mode auto, by each way."""
    found = []
    for name in (SMTP, GRAPH):
        with _way(name, certificate) as (relay, count):
            _send(relay, count, max(messages // 10, 20))  # everything is warm, and every connection is open
            found += [_one(name, relay, count, messages) for _ in range(rounds)]
            tell(f"graph: by {name} {found[-1].rate:,.0f} messages/s")
    return found


@contextmanager
def _way(name: str, certificate: Certificate) -> Iterator[tuple[Relay, Callable[[], int]]]:
    """A relay that sends by this way, and what counts the messages that came by it."""
    with ExitStack() as stack:
        if name == SMTP:
            folder = stack.enter_context(private_folder("bench-smtp"))
            upstream = stack.enter_context(running_upstream(Upstream(), certificate, folder))
            entries, count = directory(upstream), upstream.count
        else:
            folder = stack.enter_context(private_folder("bench-graph"))
            graph = stack.enter_context(graph_server(mailboxes={sender(0)}, at_once=CONNECTIONS))
            entries, count = _by_graph(graph.url, folder), lambda: len(graph.sent)
        yield stack.enter_context(running_relay(entries, AUTO)), count


def _by_graph(url: str, folder: Path) -> dict[str, Any]:
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(_TOKEN)
    # The token comes from a file, so that nobody is asked for one.
    oauth = {"provider": "custom", "client_id": "bench", "token_url": f"{url}/token", "flow": "client_credentials"}
    server = {
        "kind": "msgraph",
        "api_url": url,
        "auth": "oauth2",
        "username": f"mailer@{DOMAIN}",
        "oauth": oauth,
        "password_from": f"file:{token}",
        "max_connections": CONNECTIONS,
    }
    channel = {"address": sender(0), "override": True, "password_from": f"file:{token}"}
    return {"default_server": "graph", "servers": {"graph": server}, "channels": {"channel0": channel}}


def _one(name: str, relay: Relay, count: Callable[[], int], messages: int) -> Way:
    assert relay.process is not None
    before, start = cpu_seconds(relay.process.pid), monotonic()
    _send(relay, count, messages)
    seconds = monotonic() - start
    return Way(name, messages / seconds, (cpu_seconds(relay.process.pid) - before) / messages * 1000)


def _send(relay: Relay, count: Callable[[], int], number: int) -> None:
    many = ["-d", "-s", "20", "-m", str(number), "-l", str(2 * KIB), "-M", "bench.test"]
    who = ["-f", sender(0), "-t", recipient(0, "graph")]
    before = count()
    subprocess.run([program("smtp-source"), *many, *who, f"{LOOPBACK}:{relay.port}"], check=True)
    wait_until(lambda: count() >= before + number, "the messages", 180)
