"""What a message costs in a cluster: one, two and three nodes on one PostgreSQL, HAProxy before them.

The nodes of a test machine share its cores with each other, with PostgreSQL, HAProxy, the source and the upstream. So
their throughput together says little; the processor time of each for a message is what sizing goes by.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from urllib.request import urlopen

from tests.bench.contenders import Contender, one_server
from tests.bench.letter import DOMAIN
from tests.bench.loads import AUTO, QUEUED, Load, Upstream
from tests.bench.rounds import send_all
from tests.bench.upstreams import Certificate, running_upstream
from tests.bench.usage import cpu_seconds
from tests.peers.cluster import Cluster, cluster_of
from tests.peers.postgres import Postgres, postgres_server
from tests.peers.system import LOOPBACK, private_folder

MODES = (AUTO, QUEUED)
_FROM_HERE = "127.0.0.0/8"  # the source needs no login


@dataclass(frozen=True, slots=True)
class Share:
    """What one run took: messages a second, and milliseconds of processor time for a message, by whom."""

    mode: str
    nodes: int
    rate: float
    relay: float
    postgres: float
    haproxy: float


def with_nodes(counts: Sequence[int], load: Load, certificate: Certificate, tell: Callable[[str], None]) -> list[Share]:
    """Send the load, in each mode, through so many nodes. Raises BenchError where a message is lost or doubled."""
    with postgres_server("fsync=on") as postgres:
        found = [share for count in counts for share in _with(count, load, certificate, postgres, tell)]
    return sorted(found, key=lambda one: MODES.index(one.mode))


def _with(
    count: int, load: Load, certificate: Certificate, postgres: Postgres, tell: Callable[[str], None]
) -> list[Share]:
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder("bench-nodes"))
        upstream = stack.enter_context(running_upstream(Upstream(), certificate, folder))
        channels = {mode: {"address": f"{mode}@{DOMAIN}", "override": True, "mode": mode} for mode in MODES}
        tell(f"nodes: {count} of them start")
        cluster = stack.enter_context(
            cluster_of(
                {**one_server(upstream.port), "channels": channels},
                postgres.url(postgres.new_database()),
                {"log": {"format": "json", "level": "info"}},
                workers=(1,) * count,
                office=_FROM_HERE,
            )
        )
        for node in cluster.nodes:  # HAProxy asks for the pages, and they take a second to load
            with urlopen(f"http://{LOOPBACK}:{node.ports.pages}/healthz", timeout=30):
                pass
        found = []
        for mode in MODES:
            log = cluster.nodes[0].relay.log_file
            by = Contender(f"{count} {mode}", cluster.haproxy.ports["submission"], 0, upstream, log, f"{mode}@{DOMAIN}")
            send_all(by, load)  # everything is warm, and every connection is open
            found += [_one(mode, by, load, cluster, postgres) for _ in range(load.rounds)]
            tell(f"nodes: {count}, {mode}: {median(one.rate for one in found if one.mode == mode):,.0f} messages/s")
        return found


def _one(mode: str, by: Contender, load: Load, cluster: Cluster, postgres: Postgres) -> Share:
    relays = [node.relay.process.pid for node in cluster.nodes if node.relay.process]
    roots = [relays, [postgres.pid], [cluster.haproxy.pid]]
    before = [cpu_seconds(*pids) for pids in roots]
    sent = send_all(by, load)
    costs = [(cpu_seconds(*pids) - then) / load.messages * 1000 for pids, then in zip(roots, before, strict=True)]
    return Share(mode, len(cluster.nodes), load.messages / sent.seconds, *costs)
