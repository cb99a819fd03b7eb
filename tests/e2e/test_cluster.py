"""Three nodes on one PostgreSQL behind HAProxy, on a bad day: nodes are killed and stopped, the database ends at once.

Every 250 is kept, nothing arrives twice but in the window that docs/cluster.md names, and providers never see more
connections or messages than they allow. The directory is in the database, and what is changed in it meanwhile takes
effect everywhere. RELAY_CLUSTER_SEED plays a day again.

Leases are short here (tests/peers/short_windows.py), and so is the provider's patience with silent connections: all in
the same proportion as in earnest, where a lease of connections is longer than any provider waits.
"""

import os
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import pytest

from relay.control.refused import Refused
from relay.control.transport.client import NoRelay
from tests.e2e.changes import Change, Changes
from tests.e2e.ledger import control, sees_store, times_unknown
from tests.e2e.senders import Answer, Pace, Senders
from tests.e2e.troubles import Kind, Trouble, Troubles, plan
from tests.peers.canaries import RIGHT
from tests.peers.cluster import NEEDS, Cluster, cluster_of
from tests.peers.postgres import Postgres, postgres_server
from tests.peers.provider import Provider, Taken, provider_server
from tests.peers.relay import Relay, open_server
from tests.peers.short_windows import short_windows
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs(*NEEDS)
SEED = int(os.environ.get("RELAY_CLUSTER_SEED") or time.time())
# Seconds: the leases of messages and of connections, and how long a provider lets a connection be silent.
LEASE, SHARES, IDLE = 4, 15, 5.0
# "paced" counts messages, "open" only connections.
PER_MINUTE, CONNECTIONS = 120, {"paced": 3, "open": 4}
# A message that a provider reads some seconds after it was written, on a busy machine, counts into a later minute.
LATE = 8
# So long it takes to answer a final dot: a kill is to come in between now and then.
ANSWER = 0.05
PACES = (
    Pace("support@acmejets.example", 5, 0.3),
    Pace("sales@acmejets.example", 5, 0.15),
    Pace("desk@acmejets.example", 4, 0.15),
    Pace("amy@acmejets.example", 1, 0.2),
    Pace("zoe@acmejets.example", 1, 0.2),
)
AMY, ZOE = "agent add amy", "agent remove zoe"
CHANGES = (
    Change(8.0, (*AMY.split(), "--address", "amy@acmejets.example", "--server", "open"), "there is an agent"),
    Change(18.0, tuple(ZOE.split()), "there is no agent"),
    Change(28.0, ("channel", "set", "desk", "mode=auto")),
)
# Every node has a change within 2 seconds, and so long after it was in trouble. The machine is busy.
IN_EFFECT = 2.0 + 3.0
SETTINGS: dict[str, Any] = {
    "directory": "database",
    "delivery": {
        "mode": "auto",
        "patience": "2s",
        "retry": ["300ms", "600ms", "1s"],
        "probe": ["1s"],
        "unknown_pause": "1s",
        "connect_timeout": "2s",
        "reply_timeout": "4s",
    },
    "log": {"format": "json", "level": "info"},
}
# Between a provider's final dot and our record of its answer, on a machine that is busy with all of this.
WINDOW = float(LEASE)
# How much of a minute is worked off after the troubles.
SETTLE = 100.0


def launch(relay: Relay) -> None:
    relay.windows = short_windows(lease=LEASE, shares=SHARES)
    relay.fork()


@pytest.fixture
def providers() -> Iterator[dict[str, Provider]]:
    paced = Provider(
        connections=CONNECTIONS["paced"], per_minute=PER_MINUTE + LATE, idle_seconds=IDLE, answer_seconds=ANSWER
    )
    other = Provider(connections=CONNECTIONS["open"], idle_seconds=IDLE, answer_seconds=ANSWER)
    with provider_server(paced), provider_server(other):
        yield {"paced": paced, "open": other}


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """One of our own. That it is ended at once costs nothing that the kernel has, so it need not wait for the disk."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def cluster(postgres: Postgres, providers: dict[str, Provider]) -> Iterator[Cluster]:
    servers = {
        name: open_server(
            provider.port,
            auth="plain",
            username=f"{name}@acmejets.example",
            address=f"{name}@acmejets.example",
            allow_plaintext_password=True,
            max_connections=CONNECTIONS[name],
            messages_per_minute=PER_MINUTE if provider.per_minute else 0,
        )
        for name, provider in providers.items()
    }
    channels = {
        "support": {"address": "support@acmejets.example", "server": "paced"},
        "sales": {"address": "sales@acmejets.example", "server": "open"},
        "desk": {"address": "desk@acmejets.example", "server": "open", "mode": "queued"},
    }
    agents = {"zoe": {"address": "zoe@acmejets.example", "server": "open", "mode": "direct"}}
    directory = {"default_server": "paced", "servers": servers, "channels": channels, "agents": agents}
    store = postgres.url(postgres.new_database())
    passwords = dict.fromkeys(servers, RIGHT)
    with cluster_of(directory, store, SETTINGS, workers=(1, 1, 2), passwords=passwords, launch=launch) as cluster:
        yield cluster


def arrivals_of(providers: dict[str, Provider]) -> dict[str, list[Taken]]:
    """What arrived, by name, in the order of the final dots."""
    found: dict[str, list[Taken]] = {}
    for taken in sorted((one for provider in providers.values() for one in provider.taken), key=lambda one: one.ended):
        for recipient in taken.recipients:
            found.setdefault(recipient.partition("@")[0], []).append(taken)
    return found


def most_in_a_minute(provider: Provider) -> int:
    """How many messages it took in any minute at most."""
    moments = sorted(taken.at for taken in provider.taken)
    return max(bisect_left(moments, at + 60) - index for index, at in enumerate(moments))


def is_in_window(taken: Taken, troubles: Sequence[Trouble]) -> bool:
    """Whether nobody could write down that it arrived: then its node, or the database, was in trouble."""
    return any(
        one.begin <= taken.ended + WINDOW and taken.ended <= one.end + WINDOW
        for one in troubles
        if one.kind is Kind.DATABASE or taken.hello == f"{one.node}.relay.test"
    )


def is_excused(answer: Answer, troubles: Sequence[Trouble]) -> bool:
    """Whether the node that gave an answer need not have known what had changed: it or the database was in trouble."""
    return any(
        one.begin <= answer.began <= one.end + IN_EFFECT
        for one in troubles
        if one.kind is Kind.DATABASE or answer.host == f"{one.node}.relay.test"
    )


def is_whole(cluster: Cluster, troubles: Troubles) -> bool:
    """Whether every node is there again, and sees the database."""
    troubles.watch()
    with suppress(RuntimeError, OSError, NoRelay):  # one has just ended, and starts again
        return all(node.relay.greets() and sees_store(node.relay) for node in cluster.nodes)
    return False


def settle(cluster: Cluster, troubles: Troubles) -> None:
    """Wait until nothing waits any more. What is unknown twice waits for a person, who lets it go on here."""

    def is_settled() -> bool:
        troubles.watch()
        relay = cluster.nodes[0].relay
        with suppress(OSError, NoRelay, Refused):
            status = control(relay).status()
            if status["queue"]["held"] and not status["accounts_held"]:
                for entry in list(control(relay).stream("queue.list", {"state": "held"})):
                    if entry["reason"].startswith("unknown: "):
                        control(relay).run("queue.release", {"id": entry["id"]})
            return not any(status["queue"].values())
        return False

    wait_until(is_settled, "the end of the queue", SETTLE)


def story(senders: Senders, troubles: Troubles, changes: Changes) -> str:
    """Return how the day went, and how it can be had again."""
    told = "; ".join(map(str, sorted(troubles.told, key=attrgetter("begin"))))
    head = f"RELAY_CLUSTER_SEED={SEED}: {len(senders.promised)} promised, {dict(senders.outcomes)}"
    start = min((one.begin for one in troubles.told), default=0.0)
    seconds = Counter(int(at - start) for at in senders.promised.values())
    pace = " ".join(str(seconds[second]) for second in range(max(seconds, default=0) + 1))
    each = f"a 250 in each second from the first trouble: {pace}"
    made = "; ".join(f"{at:.1f} {name}" for name, at in changes.made.items())
    refused = (f"refused: {words.strip()}" for words in changes.refusals)
    return "\n".join((head, each, told, made, *refused, *troubles.ends, ""))


@contextmanager
def telling(senders: Senders, troubles: Troubles, changes: Changes) -> Iterator[None]:
    """Tell the story, and with a failure above all."""
    try:
        yield
    except BaseException as error:
        error.add_note(story(senders, troubles, changes))
        raise
    sys.stdout.write(story(senders, troubles, changes))


def test_the_plan_of_a_day_has_everything_and_leaves_one_node_alone() -> None:
    nodes = ("node1", "node2", "node3")
    for seed in range(50):
        day = plan(seed, nodes)
        assert day == plan(seed, nodes)
        assert {one.kind for one in day} == set(Kind)
        for at in (one.begin for one in day):
            assert len([one for one in day if one.node and one.begin <= at < one.end]) < len(nodes)


def test_what_is_in_the_window() -> None:
    """What arrived when its own node was in trouble, or just before, and whatever arrived when the database was."""
    killed = Trouble(Kind.KILLED, "node1", 10.0, 12.0)
    taken = partial(Taken, 0.0, "paced", ("c1n1@customer.example",))
    assert is_in_window(taken(9.5, "node1.relay.test"), [killed])
    assert not is_in_window(taken(9.5, "node2.relay.test"), [killed])
    assert not is_in_window(taken(10.0 - WINDOW - 0.1, "node1.relay.test"), [killed])
    assert not is_in_window(taken(12.0 + WINDOW + 0.1, "node1.relay.test"), [killed])
    assert is_in_window(taken(11.0, "node2.relay.test"), [killed, replace(killed, kind=Kind.DATABASE, node="")])


def test_who_need_not_know_what_has_changed() -> None:
    """Who is in trouble, or was a moment ago, and everybody when the database is."""
    stopped = Trouble(Kind.STOPPED, "node1", 10.0, 16.0)
    answer = Answer(12.0, "zoe@acmejets.example", "node1.relay.test", "250 2.0.0 Ok")
    assert is_excused(answer, [stopped])
    assert is_excused(replace(answer, began=16.0 + IN_EFFECT), [stopped])
    assert not is_excused(replace(answer, began=16.1 + IN_EFFECT), [stopped])
    assert not is_excused(replace(answer, host="node2.relay.test"), [stopped])
    assert is_excused(replace(answer, host="node2.relay.test"), [replace(stopped, kind=Kind.DATABASE, node="")])


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_bad_day_of_a_cluster(cluster: Cluster, postgres: Postgres, providers: dict[str, Provider]) -> None:
    print(f"RELAY_CLUSTER_SEED={SEED}")  # noqa: T201 - to play it again
    senders = Senders(cluster.haproxy.endpoint("127.0.1.7"), PACES, SEED)
    troubles = Troubles(cluster, postgres, launch, lambda node: senders.under_way(node and f"{node}.relay.test"))
    changes = Changes([node.relay for node in cluster.nodes], CHANGES, SEED)
    with telling(senders, troubles, changes):
        with senders, changes:
            troubles.play(plan(SEED, [node.name for node in cluster.nodes]))
            wait_until(partial(is_whole, cluster, troubles), "all nodes", 30)
        check_changes(senders, troubles, changes)
        for node in cluster.nodes:
            wait_until(partial(goes_by_changes, node.relay), f"{node.name} to go by what was changed", IN_EFFECT)
        settle(cluster, troubles)
        check_arrivals(senders, troubles, arrivals_of(providers), cluster.nodes[0].relay)
        for name, provider in providers.items():
            assert provider.refusals == [], f"too much for {name}"
            assert max(provider.most_open.values()) == CONNECTIONS[name], "all connections were used"
        assert PER_MINUTE / 2 <= most_in_a_minute(providers["paced"]) <= PER_MINUTE + LATE
        assert {one.kind for one in troubles.told if one.messages} == set(Kind), "each has met messages under way"
        assert len(senders.promised) > 200, "the clients got somewhere"
        for node in cluster.nodes:
            assert node.relay.stop() == 0, node.relay.last_words


def check_arrivals(senders: Senders, troubles: Troubles, arrived: Mapping[str, Sequence[Taken]], relay: Relay) -> None:
    """What was promised is there, and what is there twice the history calls unknown, and was in the window."""
    assert [name for name in senders.promised if name not in arrived] == [], "a lost message"
    more = {name: taken for name, taken in arrived.items() if len(taken) > 1}
    unknown = {name: times_unknown(relay, name) for name in more}
    sys.stdout.write(f"more than once: {sum(len(taken) - 1 for taken in more.values())} of {len(arrived)}\n")
    for name, taken in more.items():
        in_window = sum(is_in_window(one, troubles.told) for one in taken)
        assert len(taken) - 1 <= unknown[name], f"nobody said that it was unknown: {name}: {taken}"
        assert len(taken) - 1 <= in_window, f"outside of the window: {name}: {taken}"


def check_changes(senders: Senders, troubles: Troubles, changes: Changes) -> None:
    """All were made, each took effect in time, and one that could not be made was told in one sentence."""
    assert list(changes.made) == [change.name for change in CHANGES]
    for words in changes.refusals:
        assert words.count("\n") == 1, words
    late = [
        answer
        for answer in senders.answers
        for sender, change, wrong in (("amy@", AMY, "550"), ("zoe@", ZOE, "250"))
        if answer.sender.startswith(sender) and answer.reply.startswith(wrong)
        if answer.began > changes.made[change] + IN_EFFECT and not is_excused(answer, troubles.told)
    ]
    assert late == []
    for sender in ("amy", "zoe"):
        for code in ("250", "550"):
            assert senders.outcomes[f"{sender} {code}"] > 3, f"{sender} was answered otherwise: {senders.outcomes}"


def goes_by_changes(relay: Relay) -> bool:
    """Whether every change is in effect at a node: at one of its workers, and where commands are answered."""
    with relay.connect() as client:
        replies = [client.envelope(f"{agent}@acmejets.example")[0][:3] for agent in ("amy", "zoe")]
    is_changed = relay.ask("channel", "show", "desk")["mode"] == "auto"
    return is_changed and replies == ["250", "550"] and relay.ask("status")["directory"]["ok"]
