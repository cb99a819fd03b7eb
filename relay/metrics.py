"""The counters behind the metrics: what a relay has done since it started, in the text format of Prometheus.

One `Metrics` belongs to one relay, and its event loop counts: it adds to numbers, without a lock. Each thing that can
happen has one function here, beside its event in `log.py`; what is counted at the moment of asking (queue, holds,
connections) is given to `text`. Labels are few and their values come from our own words and the directory, never from
what a client or server said.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import add
from types import MappingProxyType
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from relay import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From a server that answers at once to one that was away for the days that a message may wait.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 43200, 172800)
_LIMITS = (*(str(float(limit)) for limit in _SECONDS), "+Inf")
# Every class and subject of RFC 3463 that refuses, and the versions of TLS that we speak, as OpenSSL calls them.
_REPLIES = tuple(f"{kind}.{subject}" for kind in (4, 5) for subject in range(8))
_TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
_GAUGES: Mapping[str, str] = MappingProxyType(
    {
        "accounts_held": "Accounts and addresses that are held",
        "servers_unreached": "Servers that nobody gets through to",
        "servers_on_backup": "Servers that cannot be reached, and whose mail goes by their backup",
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
    "relay_servers_on_backup": max,
    "relay_connections_limit": max,
    "relay_loop_lag_seconds": max,
    "relay_settings_ok": min,
    "relay_directory_ok": min,
    "relay_store_ok": min,
    "relay_certificate_expires_seconds": min,
    "relay_webhook_oldest_seconds": max,
    "relay_free_bytes": min,
    "relay_free_floor_bytes": max,
    "process_start_time_seconds": min,
    "process_open_fds": max,  # each process has a limit of its own
    "process_max_fds": min,
}


class WebhookFigures(NamedTuple):
    """What a webhook is not told: events that wait, how long ago (seconds) the oldest happened, and events held."""

    waiting: int
    oldest_seconds: float
    kept_back: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What is true at the moment of asking. `queue` is the number of waiting messages by state, or {}: nobody knows.

    `oldest` is how long ago (seconds) the oldest of them came. `unreached`: servers that nobody gets through to, and
    `on_backup` those among them whose backup has taken over.
    `loop_lag`: the longest, in seconds, that the event loop was late within the last minute. `certificate_expires` is
    in seconds since 1970, None where there is none. `free`, `free_floor`: octets; below the floor no mail is taken.
    `webhooks` are by their numbers in relay.toml. `log_dropped`: lines of the log that this process could not write
    since it started.
    """

    queue: Mapping[str, int]
    oldest: Mapping[str, float] = field(default_factory=dict)
    accounts_held: int
    unreached: int = 0
    on_backup: int = 0
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
    webhooks: Mapping[str, WebhookFigures] = field(default_factory=dict)


class _Counter:
    """A counter: plain numbers by the values of its labels, in the order in which they came. The event loop counts."""

    __slots__ = ("_help", "_labels", "_name", "values")

    def __init__(self, name: str, help_: str, *labels: str) -> None:
        self._name, self._help, self._labels = f"relay_{name}", help_, labels
        self.values: dict[tuple[str, ...], int] = defaultdict(int)
        if not labels:
            self.values[()] = 0

    def facts(self) -> dict[str, Any]:
        """Return it as `Counts` have it."""
        name = f"{self._name}_total"
        samples = [
            [name, dict(zip(self._labels, map(str, key), strict=True)), float(value)]
            for key, value in self.values.items()
        ]
        return {"name": self._name, "help": self._help, "type": "counter", "samples": samples}


class _Seconds:
    """A histogram of times, with the buckets `_SECONDS`."""

    __slots__ = ("_help", "_name", "buckets", "total")

    def __init__(self, name: str, help_: str) -> None:
        self._name, self._help = f"relay_{name}", help_
        self.buckets = [0] * (len(_SECONDS) + 1)  # each for itself; the last one has what is longer than all
        self.total = 0.0

    def facts(self) -> dict[str, Any]:
        """Return it as `Counts` have it."""
        name = self._name
        counts = [float(count) for count in accumulate(self.buckets)]
        samples: list[Any] = [
            [f"{name}_bucket", {"le": limit}, count] for limit, count in zip(_LIMITS, counts, strict=True)
        ]
        samples += [[f"{name}_count", {}, counts[-1]], [f"{name}_sum", {}, self.total]]
        return {"name": name, "help": self._help, "type": "histogram", "samples": samples}


class Metrics:
    """The counters of one relay. To count is to add to a number; what a list says is made when it is asked for."""

    def __init__(self) -> None:
        self._submissions = _Counter(
            "submissions",
            "Messages that clients handed over, by what they were told and the server of their route",
            "outcome",
            "server",
        )
        self._messages = _Counter("messages", "Messages that are over, by how they ended", "outcome", "server")
        self._seconds = _Seconds(
            "delivery_seconds", "Time from the end of a message's data to the server's yes for its last recipient"
        )
        self._attempts = _Counter("attempts", "Attempts to hand a message over, by what the answer meant", "meaning")
        self._paced = _Counter("paced", "Messages that the limits of their account let leave only later", "server")
        self._history_lost = _Counter(
            "history_lost", "Messages that are over and not in the history: the store was away for too long"
        )
        self._log_dropped = _Counter(
            "log_lines_dropped",
            "Lines of the log that could not be written: its reader hangs or is gone, or its disk is full",
        )
        self._log_dropped_counted = 0
        self._holds = _Counter("holds", "Holds that were put on an account or one of its addresses", "meaning")
        self._overtaken = _Counter(
            "overtaken",
            "Messages that another took over while they were under way here; sent: the server may have them from both",
            "sent",
        )
        self._connections = _Counter("connections_opened", "Clients that connected")
        self._logins_refused = _Counter("logins_refused", "Logins at Relay that were refused")
        self._refusals = _Counter(
            "refusals", "Replies that refused a client, by class and subject of their enhanced code (RFC 3463)", "reply"
        )
        self._tls = _Counter("tls", "Connections of clients that TLS protects, by its version", "version")
        self._upstream_tls = _Counter(
            "upstream_tls",
            "Messages that a server took, by the version of TLS on the way there (none: it was plain)",
            "version",
        )
        self._tls_failures = _Counter("tls_failures", "Handshakes of clients that failed")
        self._webhook_requests = _Counter(
            "webhook_events",
            "Events that webhooks took, did not take, or were not told in three days",
            "webhook",
            "outcome",
        )
        self._alerts = _Counter(
            "alerts", "Messages about troubles, by whether they could be told: told or failed", "outcome"
        )
        self._alerts.values |= {("told",): 0, ("failed",): 0}
        self._make_gauges()

    def _make_gauges(self) -> None:
        """Make what is set when it is asked for."""
        registry = self._registry = CollectorRegistry()
        self._queue = Gauge("relay_queue_messages", "Messages that wait, by state", ("state",), registry=registry)
        self._oldest = Gauge(
            "relay_queue_oldest_seconds",
            "How long ago the oldest message that waits came, by state; 0 where none waits",
            ("state",),
            registry=registry,
        )
        self._webhooks = {
            name: Gauge(f"relay_webhook_{name}", help_, ("webhook",), registry=registry)
            for name, help_ in (
                ("waiting", "Events that a webhook is not told yet"),
                ("oldest_seconds", "How long ago the oldest of them happened; 0 where none waits"),
                ("kept_back", "Events that a webhook did not take for three days"),
            )
        }
        self._gauges = {name: Gauge(f"relay_{name}", help_, registry=registry) for name, help_ in _GAUGES.items()}
        build = Gauge("relay_build_info", "Which relay this is; always 1", ("version",), registry=registry)
        build.labels(__version__).set(1)
        ProcessCollector(registry=registry)

    def begin(self, outcomes: Iterable[str], meanings: Iterable[str], servers: Iterable[str]) -> None:
        """Let every series exist from the start, with 0: a first increase from nothing is none for Prometheus."""
        servers, meanings = list(servers), list(meanings)
        series: tuple[tuple[_Counter, Iterable[tuple[str, ...]]], ...] = (
            (self._submissions, [(str(outcome), server) for server in servers for outcome in outcomes]),
            (self._messages, [(outcome, server) for server in servers for outcome in ("delivered", "failed")]),
            (self._paced, [(server,) for server in servers]),
            (self._attempts, [(str(meaning),) for meaning in (*meanings, "accepted")]),
            (self._holds, [(str(meaning),) for meaning in meanings]),
            (self._overtaken, [("yes",), ("no",)]),
            (self._refusals, [(reply,) for reply in _REPLIES]),
            (self._tls, [(version,) for version in _TLS_VERSIONS]),
            (self._upstream_tls, [(version,) for version in ("none", *_TLS_VERSIONS)]),
        )
        for counter, keys in series:
            for key in keys:
                counter.values[key] += 0

    def submitted(self, outcome: str, server: str) -> None:
        """A client has its reply to a message; `outcome` is a `relay.delivery.events.Ending`."""
        self._submissions.values[outcome, server] += 1

    def delivered(self, server: str, seconds: float) -> None:
        """A server has the message for every recipient that it was still owed to, so long after it came."""
        self._messages.values["delivered", server] += 1
        self._seconds.buckets[bisect_left(_SECONDS, seconds)] += 1
        self._seconds.total += seconds

    def failed(self, server: str) -> None:
        """A message is over, and somebody did not get it."""
        self._messages.values["failed", server] += 1

    def attempted(self, meaning: str) -> None:
        """An attempt ended; `meaning` is a word of DESIGN section 5, "" where the server took the message."""
        self._attempts.values[(meaning or "accepted",)] += 1

    @property
    def messages(self) -> int:
        """How many messages clients handed over, and how many are over."""
        return sum(self._submissions.values.values()) + sum(self._messages.values.values())

    def paced(self, server: str) -> None:
        """A message could not leave while its client waited, because its account had used up a limit of ours."""
        self._paced.values[(server,)] += 1

    def history_lost(self, count: int) -> None:
        """So many messages are over, and the history will lack them."""
        self._history_lost.values[()] += count

    def held(self, meaning: str) -> None:
        """An account, or one of its addresses, is held from now on."""
        self._holds.values[(meaning,)] += 1

    def overtaken(self, *, is_sent: bool) -> None:
        """Another node took over a message that was under way here; `is_sent`: a server may have it from us."""
        self._overtaken.values[("yes" if is_sent else "no",)] += 1

    def connected(self) -> None:
        """A client connected."""
        self._connections.values[()] += 1

    def login_refused(self) -> None:
        """A client gave a wrong name or password, or too many of them."""
        self._logins_refused.values[()] += 1

    def refused(self, enhanced: str) -> None:
        """A client was refused with this enhanced code ("5.7.1")."""
        self._refusals.values[(enhanced.rpartition(".")[0],)] += 1

    def protected(self, version: str) -> None:
        """A client's connection is under TLS; `version` is OpenSSL's name ("TLSv1.3")."""
        self._tls.values[(version,)] += 1

    def tls_failed(self) -> None:
        """A client's handshake failed."""
        self._tls_failures.values[()] += 1

    def protected_upstream(self, version: str) -> None:
        """A server took a message by a connection under TLS; `version` "" where it was plain."""
        self._upstream_tls.values[(version or "none",)] += 1

    def alerted(self, *, is_told: bool) -> None:
        """Somebody was told of troubles, or could not be."""
        self._alerts.values[("told" if is_told else "failed",)] += 1

    def begin_webhook(self, webhook: str) -> None:
        """Let the series of a webhook, by its number in relay.toml, be there from the start."""
        for outcome in ("told", "failed", "held"):
            self._webhook_requests.values[webhook, outcome] += 0

    def webhook_told(self, webhook: str, events: int) -> None:
        """A webhook, the one with this number in relay.toml, took events."""
        self._webhook_requests.values[webhook, "told"] += events

    def webhook_failed(self, webhook: str) -> None:
        """A webhook did not take an event, which is tried again or held."""
        self._webhook_requests.values[webhook, "failed"] += 1

    def webhook_held(self, webhook: str, events: int) -> None:
        """Events are tried no more."""
        self._webhook_requests.values[webhook, "held"] += events

    def text(self, now: Now, others: Sequence[Counts] = ()) -> str:
        """Return everything as CONTENT_TYPE says, with what `counts` of the relay's other processes is added."""
        return generate_latest(_Added([self.counts(now), *others])).decode()

    def counts(self, now: Now) -> Counts:
        """Return everything as JSON values, for another process to add."""
        self._set(now)
        return [
            *(each.facts() for each in vars(self).values() if isinstance(each, _Counter | _Seconds)),
            *map(_facts, self._registry.collect()),
        ]

    def _set(self, now: Now) -> None:
        self._log_dropped.values[()] += max(now.log_dropped - self._log_dropped_counted, 0)
        self._log_dropped_counted = now.log_dropped
        for gauge in (self._queue, self._oldest):  # what nobody can count is no number of a moment ago
            gauge.clear()
        for state, count in now.queue.items():
            self._queue.labels(state).set(count)
            self._oldest.labels(state).set(now.oldest.get(state, 0.0))
        for gauge in self._webhooks.values():
            gauge.clear()
        for number, figures in now.webhooks.items():
            for name, figure in figures._asdict().items():
                self._webhooks[name].labels(number).set(figure)
        values = {
            "accounts_held": now.accounts_held,
            "servers_unreached": now.unreached,
            "servers_on_backup": now.on_backup,
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


def of_ended(processes: Sequence[Counts]) -> Counts:
    """Return what still counts of processes that have ended, as that of one: a counter never falls."""
    return [_facts(metric) for metric in _Added(processes).collect() if metric.type in {"counter", "histogram"}]


def _facts(metric: Metric) -> dict[str, Any]:
    """Return a metric as `Counts` have it."""
    samples = [[sample.name, dict(sample.labels), sample.value] for sample in metric.samples]
    return {"name": metric.name, "help": metric.documentation, "type": metric.type, "samples": samples}


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
