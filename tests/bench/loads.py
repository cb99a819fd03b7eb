"""What is sent and what must be reached: every load, goal and size of the growth tables, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

KIB = 1024
MIB = 1024**2
# Who takes part, in the order of a round. "none" is the source at the upstream itself: what both ends can do.
# "lean" is the least that a message costs in Python (`tests.bench.lean`), "two" is mode auto with two workers.
NONE, POSTFIX, FLOOR, LEAN, AUTO, QUEUED, TWO = "none", "postfix", "floor", "lean", "auto", "queued", "two"
RELAYS = (NONE, POSTFIX, FLOOR, LEAN, AUTO, QUEUED, TWO)
# How many connections each relay opens to its upstream at most: Postfix's default for a destination.
CONNECTIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where a relay hands mail on. Loads with the same upstream share their relays.

    `accounts`: how many senders log in there, each with its own account by PLAIN; 0: nobody does, and smtp-sink is the
    upstream. `latency`: seconds that a round trip takes.
    """

    accounts: int = 0
    is_tls: bool = False
    latency: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load. `size`: octets of a message's body. `kept`: a session keeps its connection, else one for each message.

    `senders`: our generator sends from so many senders in turn; 0: smtp-source sends from one. `settle`: seconds after
    a run in which what a relay does behind its messages (Relay's history half a second later) still counts.
    """

    name: str
    text: str
    size: int
    messages: int
    rounds: int = 5
    sessions: int = 20
    kept: bool = True
    senders: int = 0
    upstream: Upstream = Upstream()
    relays: tuple[str, ...] = (NONE, POSTFIX, FLOOR, AUTO, QUEUED)
    settle: float = 0.8


class Measure(StrEnum):
    """What of a run is compared."""

    RATE = "throughput"
    CPU = "CPU per message"
    TRIPS = "round trips per message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One line of what must be reached: `relay` under `load`, divided by `against` under `against_load`.

    Round trips are divided by nothing. `bound` is the least ratio for throughput, the most for all else.
    """

    load: str
    relay: str
    measure: Measure
    bound: float
    against: str = POSTFIX
    against_load: str = ""

    @property
    def is_least(self) -> bool:
        """Whether more is better."""
        return self.measure is Measure.RATE

    @property
    def other_load(self) -> str:
        """The load that the other side is measured under."""
        return self.against_load or self.load


_AWAY = Upstream(latency=0.03)
_COMPANY = Upstream(accounts=1000)
_SAFE = Upstream(accounts=1, is_tls=True)
_SAFE_AWAY = Upstream(accounts=1, is_tls=True, latency=0.03)
_SAFE_COMPANY = Upstream(accounts=1000, is_tls=True)
# Whom a load takes long with, and does not tell about, is not in it.
_FOUR = (NONE, POSTFIX, FLOOR, AUTO)
_THREE = (NONE, POSTFIX, AUTO)

# Those of "must reach", and the check that every message arrives as it should.
_MUST = (
    Load(name="2k-kept", text="2 KB, kept, 20 sessions", size=2 * KIB, messages=2000, relays=RELAYS),
    Load(
        name="2k-each",
        text="2 KB, connection per message",
        size=2 * KIB,
        messages=1500,
        kept=False,
        relays=(*_FOUR, LEAN, TWO),
    ),
    Load(name="50k-kept", text="50 KB, kept", size=50 * KIB, messages=800, relays=(*_FOUR, LEAN)),
    Load(name="10m-kept", text="10 MB, kept", size=10 * MIB, messages=40, rounds=3, relays=_THREE),
    Load(
        name="2k-latency",
        text="2 KB, kept, 1 session, 30 ms upstream",
        size=2 * KIB,
        messages=60,
        rounds=3,
        sessions=1,
        upstream=_AWAY,
        relays=(POSTFIX, AUTO),
    ),
    Load(
        name="one-sender",
        text="2 KB, kept, 1 of 1,000 senders with a login",
        size=2 * KIB,
        messages=2000,
        rounds=3,
        senders=1,
        upstream=_COMPANY,
        relays=(NONE, AUTO),
    ),
    Load(
        name="1000-senders",
        text="2 KB, kept, 1,000 senders with a login each",
        size=2 * KIB,
        messages=2000,
        rounds=3,
        senders=1000,
        upstream=_COMPANY,
        relays=_THREE,
    ),
    Load(
        name="check",
        text="check: 50 KB, each message looked at",
        size=50 * KIB,
        messages=200,
        rounds=1,
        senders=50,
        upstream=_COMPANY,
    ),
)
_OTHERS = (
    Load(name="2k-kept-1", text="2 KB, kept, 1 session", size=2 * KIB, messages=500, sessions=1),
    Load(name="2k-kept-200", text="2 KB, kept, 200 sessions", size=2 * KIB, messages=3000, sessions=200),
    Load(
        name="2k-each-1",
        text="2 KB, connection per message, 1 session",
        size=2 * KIB,
        messages=400,
        sessions=1,
        kept=False,
    ),
    Load(
        name="2k-each-200",
        text="2 KB, connection per message, 200 sessions",
        size=2 * KIB,
        messages=2000,
        sessions=200,
        kept=False,
    ),
    Load(name="50k-each", text="50 KB, connection per message", size=50 * KIB, messages=600, kept=False),
    Load(name="1m-kept", text="1 MB, kept", size=MIB, messages=200, rounds=3),
    Load(name="1m-each", text="1 MB, connection per message", size=MIB, messages=200, rounds=3, kept=False),
    Load(
        name="10m-each",
        text="10 MB, connection per message",
        size=10 * MIB,
        messages=40,
        rounds=3,
        kept=False,
        relays=_THREE,
    ),
    Load(
        name="2k-latency-20",
        text="2 KB, kept, 20 sessions, 30 ms upstream",
        size=2 * KIB,
        messages=600,
        rounds=3,
        upstream=_AWAY,
        relays=(POSTFIX, FLOOR, AUTO, QUEUED),
    ),
    Load(
        name="2k-each-latency",
        text="2 KB, connection per message, 30 ms upstream",
        size=2 * KIB,
        messages=600,
        rounds=3,
        kept=False,
        upstream=_AWAY,
        relays=(POSTFIX, FLOOR, AUTO, QUEUED),
    ),
    Load(name="2k-tls", text="2 KB, kept, PLAIN over TLS", size=2 * KIB, messages=1500, rounds=3, upstream=_SAFE),
    Load(
        name="2k-each-tls",
        text="2 KB, connection per message, PLAIN over TLS",
        size=2 * KIB,
        messages=1000,
        rounds=3,
        kept=False,
        upstream=_SAFE,
    ),
    Load(name="50k-tls", text="50 KB, kept, PLAIN over TLS", size=50 * KIB, messages=600, rounds=3, upstream=_SAFE),
    Load(
        name="2k-tls-latency",
        text="2 KB, kept, 20 sessions, PLAIN over TLS, 30 ms upstream",
        size=2 * KIB,
        messages=600,
        rounds=3,
        upstream=_SAFE_AWAY,
        relays=(POSTFIX, FLOOR, AUTO, QUEUED),
    ),
    Load(
        name="1000-senders-tls",
        text="2 KB, kept, 1,000 senders with PLAIN over TLS each",
        size=2 * KIB,
        messages=2000,
        rounds=3,
        senders=1000,
        upstream=_SAFE_COMPANY,
        relays=_THREE,
    ),
    Load(
        name="1000-senders-each",
        text="2 KB, connection per message, 1,000 senders with a login each",
        size=2 * KIB,
        messages=2000,
        rounds=3,
        kept=False,
        senders=1000,
        upstream=_COMPANY,
        relays=_THREE,
    ),
)
LOADS: Mapping[str, Load] = {load.name: load for load in (*_MUST, *_OTHERS)}

# The table "Must reach", line by line.
GOALS: Sequence[Goal] = (
    Goal(load="2k-kept", relay=AUTO, measure=Measure.RATE, bound=8),
    Goal(load="2k-kept", relay=AUTO, measure=Measure.CPU, bound=1 / 9),
    Goal(load="2k-each", relay=AUTO, measure=Measure.RATE, bound=4),
    Goal(load="2k-each", relay=AUTO, measure=Measure.CPU, bound=1 / 6),
    Goal(load="2k-kept", relay=QUEUED, measure=Measure.RATE, bound=3),
    Goal(load="2k-kept", relay=QUEUED, measure=Measure.CPU, bound=1 / 4),
    Goal(load="50k-kept", relay=AUTO, measure=Measure.RATE, bound=3),
    Goal(load="10m-kept", relay=AUTO, measure=Measure.RATE, bound=1),
    Goal(load="10m-kept", relay=AUTO, measure=Measure.CPU, bound=1 / 2),
    Goal(load="2k-kept", relay=AUTO, measure=Measure.CPU, bound=1.7, against=LEAN),
    Goal(load="2k-each", relay=AUTO, measure=Measure.CPU, bound=1.8, against=LEAN),
    Goal(load="50k-kept", relay=AUTO, measure=Measure.CPU, bound=1.6, against=LEAN),
    Goal(load="2k-latency", relay=AUTO, measure=Measure.TRIPS, bound=2.2, against=""),
    Goal(load="1000-senders", relay=AUTO, measure=Measure.RATE, bound=0.7, against=AUTO, against_load="one-sender"),
)

# The growth tables: each size beside the first may differ by so much.
WAITING = (10, 1000, 100_000)
PROFILES = (10, 1000, 10_000)
FLAT = 0.2
GROWTH = Load(name="growth", text="2 KB, kept, 20 sessions", size=2 * KIB, messages=1000, rounds=3)

# One table for so many nodes of a cluster, in each mode.
NODES = (1, 2, 3)
CLUSTER = Load(name="nodes", text="2 KB, kept, 20 sessions", size=2 * KIB, messages=1500, rounds=3)

# What waits while the upstream is away, and leaves when it is back.
BACKLOG = Load(
    name="backlog",
    text="Backlog: 2 KB that waited for the upstream",
    size=2 * KIB,
    messages=2000,
    rounds=3,
    relays=(POSTFIX, QUEUED),
)

GROUPS: Mapping[str, Sequence[str]] = {
    "must": [load.name for load in _MUST],
    "all": list(LOADS),
}


def small(load: Load) -> Load:
    """Return a load of the same kind that shows only that everything works."""
    upstream = replace(load.upstream, accounts=min(load.upstream.accounts, 5))
    most = 20 if load.size < MIB else 3
    return replace(
        load,
        messages=min(load.messages, most),
        rounds=1,
        sessions=min(load.sessions, 3),
        senders=min(load.senders, 5),
        settle=0.05,
        upstream=upstream,
    )
