"""The counters behind the metrics: what a relay has done since it started, in the text format of Prometheus.

One `Metrics` belongs to one relay. Each thing that can happen has one function here, beside its event in `log.py`;
what is counted at the moment of asking (queue, holds, connections) is given to `text`. Labels are few and their values
come from our own words and the directory, never from what a client or server said.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import add
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from relay import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From a server that answers at once to one that was away for the days that a message may wait.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 43200, 172800)
# Every class and subject of RFC 3463 that refuses, and the versions of TLS that we speak, as OpenSSL calls them.
_REPLIES = tuple(f"{kind}.{subject}" for kind in (4, 5) for subject in range(8))
_TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
_GAUGES: Mapping[str, str] = MappingProxyType(
    {
        "accounts_held": "Accounts and addresses that are held",
        "servers_unreached": "Servers that nobody gets through to",
        "connections": "Clients that are connected",
        "connections_limit": "How many clients may be connected at once",
        "loop_lag_seconds": "The longest that the event loop was late within the last minute",
        "settings_ok": "Whether relay.toml was good when it was read last; 0: the settings before it are in effect",
        "directory_ok": "Whether directory.toml is good; 0: the directory before it is in effect",
        "store_ok": "Whether the store takes what is written; 0: relay status says why not",
        "certificate_expires_seconds": "When the certificate of the listeners expires, in seconds since 1970",
        "free_bytes": "Room on the disk of the state folder",
        "free_floor_bytes": "The room below which no new mail is accepted",
    }
)


Counts = list[dict[str, Any]]
"""The metrics of one process: of each its name, help, type and samples (name, labels, value)."""
# How the values of several processes are one, where that is no sum.
_TOGETHER: Mapping[str, Callable[[float, float], float]] = {
    "relay_build_info": max,
    "relay_servers_unreached": max,  # each process knows of those that it has tried
    "relay_connections_limit": max,
    "relay_loop_lag_seconds": max,
    "relay_settings_ok": min,
    "relay_directory_ok": min,
    "relay_store_ok": min,
    "relay_certificate_expires_seconds": min,
    "relay_free_bytes": min,
    "relay_free_floor_bytes": max,
    "process_start_time_seconds": min,
    "process_open_fds": max,  # each process has a limit of its own
    "process_max_fds": min,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What is true at the moment of asking. `queue` is the number of waiting messages by state, or {}: nobody knows.

    `oldest` is how long ago (seconds) the oldest of them came. `unreached`: servers that nobody gets through to.
    `loop_lag`: the longest, in seconds, that the event loop was late within the last minute. `certificate_expires` is
    in seconds since 1970, None where there is none. `free`, `free_floor`: octets; below the floor no mail is taken.
    `log_dropped`: lines of the log that this process could not write since it started.
    """

    queue: Mapping[str, int]
    oldest: Mapping[str, float] = field(default_factory=dict)
    accounts_held: int
    unreached: int = 0
    connections: int
    connections_limit: int = 0
    loop_lag: float = 0.0
    settings_ok: bool = True
    directory_ok: bool = True
    store_ok: bool = True
    certificate_expires: float | None = None
    free: int = 0
    free_floor: int = 0
    log_dropped: int = 0


class Metrics:
    """The counters of one relay. Those that every message asks for are remembered by their labels."""

    def __init__(self) -> None:
        registry = self._registry = _Registry()
        submissions = Counter(
            "relay_submissions",
            "Messages that clients handed over, by what they were told and the server of their route",
            ("outcome", "server"),
            registry=registry,
        )
        messages = Counter(
            "relay_messages", "Messages that are over, by how they ended", ("outcome", "server"), registry=registry
        )
        self._seconds = Histogram(
            "relay_delivery_seconds",
            "Time from the end of a message's data to the server's yes for its last recipient",
            registry=registry,
            buckets=_SECONDS,
        )
        attempts = Counter(
            "relay_attempts",
            "Attempts to hand a message over, by what the answer meant",
            ("meaning",),
            registry=registry,
        )
        self._submissions, self._messages = cache(submissions.labels), cache(messages.labels)
        self._attempts = cache(attempts.labels)
        self._paced = Counter(
            "relay_paced",
            "Messages that the limits of their account let leave only later",
            ("server",),
            registry=registry,
        )
        self._history_lost = Counter(
            "relay_history_lost",
            "Messages that are over and not in the history: the store was away for too long",
            registry=registry,
        )
        self._log_dropped = Counter(
            "relay_log_lines_dropped",
            "Lines of the log that could not be written: its reader hangs or is gone, or its disk is full",
            registry=registry,
        )
        self._log_dropped_counted = 0
        self._holds = Counter(
            "relay_holds", "Holds that were put on an account or one of its addresses", ("meaning",), registry=registry
        )
        self._overtaken = Counter(
            "relay_overtaken",
            "Messages that another took over while they were under way here; sent: the server may have them from both",
            ("sent",),
            registry=registry,
        )
        self._connections = Counter("relay_connections_opened", "Clients that connected", registry=registry)
        self._logins_refused = Counter("relay_logins_refused", "Logins at Relay that were refused", registry=registry)
        self._refusals = Counter(
            "relay_refusals",
            "Replies that refused a client, by class and subject of their enhanced code (RFC 3463)",
            ("reply",),
            registry=registry,
        )
        tls = Counter(
            "relay_tls", "Connections of clients that TLS protects, by its version", ("version",), registry=registry
        )
        upstream_tls = Counter(
            "relay_upstream_tls",
            "Messages that a server took, by the version of TLS on the way there (none: it was plain)",
            ("version",),
            registry=registry,
        )
        self._tls, self._upstream_tls = cache(tls.labels), cache(upstream_tls.labels)
        self._tls_failures = Counter("relay_tls_failures", "Handshakes of clients that failed", registry=registry)
        self._queue = Gauge("relay_queue_messages", "Messages that wait, by state", ("state",), registry=registry)
        self._oldest = Gauge(
            "relay_queue_oldest_seconds",
            "How long ago the oldest message that waits came, by state; 0 where none waits",
            ("state",),
            registry=registry,
        )
        self._gauges = {name: Gauge(f"relay_{name}", help_, registry=registry) for name, help_ in _GAUGES.items()}
        build = Gauge("relay_build_info", "Which relay this is; always 1", ("version",), registry=registry)
        build.labels(__version__).set(1)
        ProcessCollector(registry=registry)

    def begin(self, outcomes: Iterable[str], meanings: Iterable[str], servers: Iterable[str]) -> None:
        """Let every series exist from the start, with 0: a first increase from nothing is none for Prometheus."""
        servers = list(servers)
        for server in servers:
            for outcome in outcomes:
                self._submissions(outcome, server)
            for outcome in ("delivered", "failed"):
                self._messages(outcome, server)
            self._paced.labels(server)
        for meaning in meanings:
            self._attempts(meaning)
            self._holds.labels(meaning)
        self._attempts("accepted")
        for sent in ("yes", "no"):
            self._overtaken.labels(sent)
        for reply in _REPLIES:
            self._refusals.labels(reply)
        for version in _TLS_VERSIONS:
            self._tls(version)
        for version in ("none", *_TLS_VERSIONS):
            self._upstream_tls(version)

    def submitted(self, outcome: str, server: str) -> None:
        """A client has its reply to a message; `outcome` is a `relay.delivery.events.Ending`."""
        self._submissions(outcome, server).inc()

    def delivered(self, server: str, seconds: float) -> None:
        """A server has the message for every recipient that it was still owed to, so long after it came."""
        self._messages("delivered", server).inc()
        self._seconds.observe(seconds)

    def failed(self, server: str) -> None:
        """A message is over, and somebody did not get it."""
        self._messages("failed", server).inc()

    def attempted(self, meaning: str) -> None:
        """An attempt ended; `meaning` is a word of DESIGN section 5, "" where the server took the message."""
        self._attempts(meaning or "accepted").inc()

    def paced(self, server: str) -> None:
        """A message could not leave while its client waited, because its account had used up a limit of ours."""
        self._paced.labels(server).inc()

    def history_lost(self, count: int) -> None:
        """So many messages are over, and the history will lack them."""
        self._history_lost.inc(count)

    def held(self, meaning: str) -> None:
        """An account, or one of its addresses, is held from now on."""
        self._holds.labels(meaning).inc()

    def overtaken(self, *, is_sent: bool) -> None:
        """Another node took over a message that was under way here; `is_sent`: a server may have it from us."""
        self._overtaken.labels("yes" if is_sent else "no").inc()

    def connected(self) -> None:
        """A client connected."""
        self._connections.inc()

    def login_refused(self) -> None:
        """A client gave a wrong name or password, or too many of them."""
        self._logins_refused.inc()

    def refused(self, enhanced: str) -> None:
        """A client was refused with this enhanced code ("5.7.1")."""
        self._refusals.labels(enhanced.rpartition(".")[0]).inc()

    def protected(self, version: str) -> None:
        """A client's connection is under TLS; `version` is OpenSSL's name ("TLSv1.3")."""
        self._tls(version).inc()

    def tls_failed(self) -> None:
        """A client's handshake failed."""
        self._tls_failures.inc()

    def protected_upstream(self, version: str) -> None:
        """A server took a message by a connection under TLS; `version` "" where it was plain."""
        self._upstream_tls(version or "none").inc()

    def text(self, now: Now, others: Sequence[Counts] = ()) -> str:
        """Return everything as CONTENT_TYPE says, with what `counts` of the relay's other processes is added."""
        return generate_latest(_Added([self.counts(now), *others])).decode()

    def counts(self, now: Now) -> Counts:
        """Return everything as JSON values, for another process to add."""
        self._set(now)
        return [
            {
                "name": metric.name,
                "help": metric.documentation,
                "type": metric.type,
                "samples": [[sample.name, dict(sample.labels), sample.value] for sample in metric.samples],
            }
            for metric in self._registry.collect()
        ]

    def _set(self, now: Now) -> None:
        self._log_dropped.inc(max(now.log_dropped - self._log_dropped_counted, 0))
        self._log_dropped_counted = now.log_dropped
        for gauge in (self._queue, self._oldest):  # what nobody can count is no number of a moment ago
            gauge.clear()
        for state, count in now.queue.items():
            self._queue.labels(state).set(count)
            self._oldest.labels(state).set(now.oldest.get(state, 0.0))
        values = {
            "accounts_held": now.accounts_held,
            "servers_unreached": now.unreached,
            "connections": now.connections,
            "connections_limit": now.connections_limit,
            "loop_lag_seconds": now.loop_lag,
            "settings_ok": now.settings_ok,
            "directory_ok": now.directory_ok,
            "store_ok": now.store_ok,
            "certificate_expires_seconds": now.certificate_expires or math.inf,
            "free_bytes": now.free,
            "free_floor_bytes": now.free_floor,
        }
        for name, value in values.items():
            self._gauges[name].set(value)


class _Added(CollectorRegistry):
    """The metrics of several processes as those of one."""

    def __init__(self, processes: Sequence[Counts]) -> None:
        super().__init__()
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once."""
        found: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for each in (metric for process in self._processes for metric in process):
            name = each["name"]
            found.setdefault(name, Metric(name, each["help"], each["type"]))
            together: Callable[[float, float], float] = _TOGETHER.get(name, add)
            seen = values.setdefault(name, {})
            for sample, labels, value in each["samples"]:
                key = (sample, tuple(labels.items()))
                seen[key] = together(seen[key], value) if key in seen else value
        for name, metric in found.items():
            for (sample, labels), value in values[name].items():
                metric.samples.append(Sample(sample, dict(labels), value))
            yield metric


class _Registry(CollectorRegistry):
    """A registry without the `_created` series: they double every list, and nobody draws them."""

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with its counts alone."""
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
