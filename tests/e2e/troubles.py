"""What happens to a cluster by chance: nodes that are killed, or stopped for a while; a PostgreSQL that ends at once.

What is to happen is planned from a seed before it begins; each waits for messages under way, which it is to meet.
Whoever was killed starts again, as systemd does it.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tests.peers.cluster import Cluster, Node
from tests.peers.postgres import Postgres
from tests.peers.relay import Relay

_LOOK = 0.05
_BETWEEN = (0.5, 3.0)
_REST = 4.0  # until the same one is in trouble again: it has to be there first
_CALM = 3.0  # before the first: the clients are to use all connections
_PATIENCE = 15.0  # until some client has a message under way there
_RESTART = 0.5  # systemd's RestartSec, as short as the day is


class Kind(StrEnum):
    """What happens."""

    KILLED = "killed"
    HELD_UP = "held up"  # SIGSTOP, for less than a lease of its messages
    STOPPED = "stopped"  # SIGSTOP, for longer than that: others take over what it has under way
    FORGOTTEN = "forgotten"  # SIGSTOP, for longer than the lease of its connections
    DATABASE = "database"


# How often each happens, and for how many seconds.
_DECK = {
    Kind.KILLED: (5, (0.2, 2.0)),
    Kind.HELD_UP: (3, (0.3, 2.5)),
    Kind.STOPPED: (2, (5.0, 7.0)),
    Kind.FORGOTTEN: (1, (16.0, 17.0)),
    Kind.DATABASE: (4, (0.2, 3.0)),
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One of them. `node` is "" for PostgreSQL; `messages` were under way there when it began.

    Times are those of `time.monotonic`; in a plan they are seconds from its start.
    """

    kind: Kind
    node: str
    begin: float
    end: float
    messages: int = 0

    def __str__(self) -> str:
        who = f"{self.kind} {self.node}".strip()
        return f"{self.begin:.1f} {who} for {self.end - self.begin:.1f}, {self.messages} under way"


def plan(seed: int, nodes: Sequence[str]) -> list[Trouble]:
    """Return what happens, by the time that it begins: at most all nodes but one, and the database, at once."""
    chance = random.Random(seed)
    deck = [kind for kind, (count, _) in _DECK.items() for _ in range(count)]
    chance.shuffle(deck)
    free_at = dict.fromkeys(["", *nodes], 0.0)
    now, found = _CALM, []
    for kind in deck:
        now += chance.uniform(*_BETWEEN)
        who = [""] if kind is Kind.DATABASE else list(nodes)
        now = max(now, min(free_at[one] for one in who))
        if kind is not Kind.DATABASE:  # one of them is always there
            now = max(now, sorted(free_at[one] for one in nodes)[1])
        name = chance.choice([one for one in who if free_at[one] <= now])
        trouble = Trouble(kind, name, now, now + chance.uniform(*_DECK[kind][1]))
        free_at[name] = trouble.end + _REST
        found.append(trouble)
    return found


@dataclass(slots=True)
class Troubles:
    """Lets them happen. `told` are those that did, with their real times. `under_way` counts messages at a node."""

    cluster: Cluster
    postgres: Postgres
    launch: Callable[[Relay], None]
    under_way: Callable[[str], int]
    told: list[Trouble] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)  # of nodes that ended by themselves
    _down: dict[str, float] = field(default_factory=dict)  # when a node may start again

    def play(self, troubles: Sequence[Trouble]) -> None:
        """Go through them in time, and until all are over and every node is started.

        One that waits for messages delays all that come later, so that no two meet that are not planned to.
        """
        start = time.monotonic()
        to_begin, to_end = list(troubles), list[Trouble]()
        while to_begin or to_end or self._down:
            now = time.monotonic()
            if to_begin and (begun := self._begun(to_begin[0], now - start - to_begin[0].begin)):
                start = begun.begin - to_begin.pop(0).begin
                to_end.append(begun)
            for trouble in [one for one in to_end if now >= one.end]:
                to_end.remove(trouble)
                self._end(trouble)
                self.told.append(replace(trouble, end=time.monotonic()))
            self._restart(now)
            time.sleep(_LOOK)

    def watch(self) -> None:
        """Start again whoever has ended meanwhile."""
        self._restart(time.monotonic())

    def _begun(self, planned: Trouble, late: float) -> Trouble | None:
        """Let one happen that is late by so many seconds; return it with its real times, None where it waits."""
        if late < 0:
            return None
        messages = self.under_way(planned.node)
        if not messages and late < _PATIENCE:
            return None
        self._begin(planned)
        begun = time.monotonic()
        return replace(planned, begin=begun, end=begun + planned.end - planned.begin, messages=messages)

    def _begin(self, trouble: Trouble) -> None:
        match trouble.kind:
            case Kind.DATABASE:
                self.postgres.stop()
            case Kind.KILLED:
                self._down[trouble.node] = float("inf")
                self._signal(trouble.node, signal.SIGKILL)
            case _:
                self._signal(trouble.node, signal.SIGSTOP)

    def _end(self, trouble: Trouble) -> None:
        match trouble.kind:
            case Kind.DATABASE:
                self.postgres.start()
            case Kind.KILLED:
                self._down[trouble.node] = 0.0
            case _:
                self._signal(trouble.node, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a node: it has a session of its own. It may have just ended by itself."""
        process = self.cluster.node(name).relay.process
        assert process is not None
        if process.poll() is None:
            os.killpg(process.pid, number)

    def _restart(self, now: float) -> None:
        for node in self.cluster.nodes:
            process = node.relay.process
            assert process is not None
            status = process.poll()
            if status is None:
                continue
            if node.name not in self._down:
                self._note_end(node, status)
                self._down[node.name] = now + _RESTART
            elif now >= self._down[node.name]:
                del self._down[node.name]
                self.launch(node.relay)

    def _note_end(self, node: Node, status: int) -> None:
        """A node ends by itself where it is started while the database is away."""
        self.ends.append(f"{node.name} ended with {status}: {node.relay.log.splitlines()[-1]}")
