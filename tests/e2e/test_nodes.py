"""Several relays at one PostgreSQL: each is a node that the others know, and whose mail they take over when it is lost.

Leases are short here (`tests.peers.short_windows`), the relays and the database are real.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.e2e.kills import settings as kill_settings
from tests.e2e.ledger import SENDER, Ledger, arrivals, repeated, settle_all, times_unknown
from tests.peers import postgres as peer
from tests.peers.canaries import RIGHT
from tests.peers.fixtures import StartRelay
from tests.peers.postgres import Postgres
from tests.peers.provider import Provider, provider_server
from tests.peers.recorder import REPLIES, Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.short_windows import short_windows
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs(*peer.NEEDS)
# Seconds. A machine that is busy must not take a node that lives for lost.
_LEASE, _SHARES = 6, 12


class StartNode(Protocol):
    """Starts a relay as a node at the database of this test."""

    def __call__(self, name: str, *, is_short: bool = True, server: Any = None, **settings: Any) -> Relay: ...


@dataclass(frozen=True)
class Two:
    """Two nodes, what their clients were promised, and the server that both send to."""

    one: Relay
    other: Relay
    ledger: Ledger
    recorder: Recorder

    def hold_at_one(self, name: str, step: str) -> None:
        """Let the first have a message under way, to whose next `step` the server says nothing until its release."""
        self.recorder.hold(step)
        self.take(self.one, name)
        self.recorder.wait_for(step)

    def take(self, node: Relay, name: str) -> None:
        """Let a node take a message."""
        reply = self.ledger.submit(node, name)
        assert reply.startswith("250 "), reply


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A database without tables, for all nodes of a test."""
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)


@pytest.fixture
def start_node(
    database: str, postgres: Postgres, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> StartNode:
    """All have the same directory and the same master key."""
    key = f"file:{tmp_path / 'master.key'}"

    def start(name: str, *, is_short: bool = True, server: Any = None, **settings: Any) -> Relay:
        keys = {
            **kill_settings("queued"),
            "store": postgres.url(database),
            "secrets": {"master_key": key},
            "node": name,
            **settings,
        }
        relay = start_relay(one_channel(server or open_server(recorder.port)), keys, starts=False)
        begin(relay, is_short=is_short)
        return relay

    return start


class StartTwo(Protocol):
    """Starts two of them, with the same settings."""

    def __call__(self, *, is_short: bool = True, server: Any = None, **settings: Any) -> Two: ...


@pytest.fixture
def start_two(start_node: StartNode, recorder: Recorder) -> StartTwo:
    def start(**keys: Any) -> Two:
        return Two(start_node("one", **keys), start_node("two", **keys), Ledger(), recorder)

    return start


@pytest.fixture
def two(start_two: StartTwo) -> Two:
    return start_two()


def begin(relay: Relay, *, is_short: bool = True) -> None:
    """Start a node, or start it anew."""
    relay.windows = short_windows(lease=_LEASE, shares=_SHARES) if is_short else short_windows(lease=60, shares=900)
    relay.start()


def nodes_of(relay: Relay) -> dict[str, dict[str, Any]]:
    return {node["name"]: node for node in relay.ask("node", "list")}


def states(relay: Relay) -> dict[str, str]:
    return {name: node["state"] for name, node in nodes_of(relay).items()}


def overtaken(relay: Relay) -> dict[str, float]:
    counters = relay.counters()
    return {sent: counters.get(f"relay_overtaken_total {sent}", 0.0) for sent in ("yes", "no")}


def kill(relay: Relay) -> None:
    relay.signal(signal.SIGKILL)
    assert relay.process is not None
    relay.process.wait(10)


def signal_all(relay: Relay, number: signal.Signals) -> None:
    """Send a signal to a relay and all its workers: it has a session of its own."""
    assert relay.process is not None
    os.killpg(relay.process.pid, number)


@pytest.mark.slow
def test_nodes_know_each_other_and_none_takes_the_name_of_another(two: Two, start_node: StartNode) -> None:
    one, other = two.one, two.other
    wait_until(lambda: states(one) == {"one": "serving", "two": "serving"}, "both nodes")
    table = other.command("node", "list").out.splitlines()
    assert table[0].split() == ["NODE", "STATE", "VERSION", "SEEN", "SINCE", "LEADS", "WORKERS", "CLIENTS", "MESSAGES"]
    assert max(map(len, table)) <= 80
    with pytest.raises(RuntimeError, match=r"another relay uses this store as the node 'two' .*node = "):
        start_node("two")

    kill(other)
    wait_until(lambda: states(one)["two"] == "silent", "that it is silent")
    kill(one)
    begin(one)
    kill(one)
    begin(one)  # at once, as the same node
    assert other.stop() != 0
    assert one.stop() == 0
    assert states(one).keys() == {"two"}, "who ends in order is listed no more"


@pytest.mark.slow
def test_what_a_killed_node_had_under_way_another_delivers_once(two: Two, recorder: Recorder) -> None:
    recorder.hold("DATA")
    for number in range(6):
        two.take(two.one, f"m{number}")
    recorder.wait_for("DATA")
    kill(two.one)
    recorder.release("DATA")
    wait_until(lambda: not two.ledger.missing(recorder), "what the other takes over", 40)
    settle_all(two.other)
    assert set(arrivals(recorder).values()) == {1}


@pytest.mark.slow
def test_a_restart_takes_back_its_own_at_once_and_nothing_of_others(start_node: StartNode, recorder: Recorder) -> None:
    """With the leases of mail and connections of every day: nobody else would for a minute."""
    one, other = start_node("one", is_short=False), start_node("two", is_short=False, workers=2)
    two = Two(one, other, Ledger(), recorder)
    wait_until(lambda: {name: node["workers"] for name, node in nodes_of(one).items()} == {"one": 1, "two": 2}, "both")
    two.hold_at_one("first", "DATA")
    kill(two.one)
    two.other.stop()
    begin(two.other, is_short=False)
    recorder.release("DATA")
    two.take(two.other, "second")
    wait_until(lambda: arrivals(recorder)["second"] == 1, "what the other has itself")
    assert arrivals(recorder)["first"] == 0
    begin(two.one, is_short=False)
    wait_until(lambda: arrivals(recorder)["first"] == 1, "what its own earlier run had")


@pytest.mark.slow
def test_a_node_that_was_stopped_before_its_final_dot_sends_none(two: Two, recorder: Recorder) -> None:
    two.hold_at_one("late", "DATA")
    two.one.signal(signal.SIGSTOP)
    recorder.release("DATA")
    wait_until(lambda: arrivals(recorder)["late"] == 1, "what the other takes over", 40)
    two.one.signal(signal.SIGCONT)
    wait_until(lambda: overtaken(two.one)["no"] == 1, "that it was overtaken")
    settle_all(two.other)
    assert arrivals(recorder) == {"late": 1}
    assert overtaken(two.one) == {"yes": 0, "no": 1}
    assert '"event": "overtaken"' in two.one.log


@pytest.mark.slow
def test_what_the_workers_of_a_stopped_node_had_another_takes_over(
    start_two: StartTwo, recorder: Recorder, postgres: Postgres, database: str
) -> None:
    """Each worker has leases of its own, which are as short as those of the first."""
    two = start_two(workers=2)
    owners = "SELECT count(DISTINCT lease_owner) FROM messages WHERE lease_owner IS NOT NULL"
    names = (f"late{number}" for number in count())
    recorder.hold("DATA")

    def is_in_both_hands() -> bool:
        two.take(two.one, next(names))
        return bool(postgres.sql(database, owners)[0][0] == 2)

    signal_all(two.other, signal.SIGSTOP)  # so that it has none of them
    wait_until(is_in_both_hands, "messages under way in both workers")
    signal_all(two.one, signal.SIGSTOP)
    recorder.release("DATA")
    signal_all(two.other, signal.SIGCONT)
    wait_until(lambda: not two.ledger.missing(recorder), "what the other takes over", 40)
    signal_all(two.one, signal.SIGCONT)
    wait_until(lambda: sum(overtaken(two.one).values()) >= 2, "that both were overtaken")
    settle_all(two.other)
    assert set(arrivals(recorder).values()) == {1}


@pytest.mark.slow
def test_the_late_result_of_a_node_that_was_stopped_is_refused_and_counted(two: Two, recorder: Recorder) -> None:
    """What it had sent is at the server, and another sends it again: the window that docs/cluster.md names."""
    two.hold_at_one("late", ".")
    two.one.signal(signal.SIGSTOP)
    recorder.release(".")
    wait_until(lambda: arrivals(recorder)["late"] == 2, "what the other sends again", 40)
    settle_all(two.other)
    two.one.signal(signal.SIGCONT)
    wait_until(lambda: overtaken(two.one)["yes"] == 1, "that it was overtaken")
    assert overtaken(two.one)["no"] == 0
    assert repeated(recorder) == {"late": 1}
    assert times_unknown(two.other, "late") == 1


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_all_nodes_together_open_no_more_connections_than_one_may(start_node: StartNode) -> None:
    """While nodes are killed and start again, and clients send by all of them."""
    with provider_server(Provider(connections=3)) as provider:
        server = open_server(provider.port, max_connections=3, auth="plain", allow_plaintext_password=True)
        nodes = [start_node(name, server=server) for name in ("one", "two", "three")]
        nodes[0].set_password("channel", "support", RIGHT)
        ledger = Ledger()
        clients = [threading.Thread(target=submit_some, args=(ledger, node)) for node in nodes]
        for client in clients:
            client.start()
        for number, node in enumerate((nodes[1], nodes[2], nodes[1]), 1):
            wait_until(partial(has_promised, ledger, 15 * number), "mail that was taken")
            kill(node)
            begin(node)
        for client in clients:
            client.join(100)
        for node in nodes:
            settle_all(node)
        assert provider.refusals == []
        assert {one.removesuffix("@customer.example") for each in provider.taken for one in each.recipients} >= set(
            ledger.promised
        )
        assert len(ledger.promised) > 40


def has_promised(ledger: Ledger, number: int) -> bool:
    return len(ledger.promised) >= number


def submit_some(ledger: Ledger, node: Relay) -> None:
    for number in range(40):
        ledger.submit(node, f"{node.port}.{number}")
        time.sleep(0.1)  # the pace of a client


@pytest.mark.slow
def test_the_connections_of_a_stopped_node_are_others_only_when_none_is_open_any_more(
    start_two: StartTwo, recorder: Recorder
) -> None:
    """The provider gives up the silent connection long before that, and the node that comes back opens none."""
    two = start_two(server=open_server(recorder.port, max_connections=1))
    time.sleep(_LEASE + 1)  # both have been there for long enough to say who is lost
    two.hold_at_one("first", "DATA")
    two.one.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    recorder.hold("MAIL")  # also for those who come now
    two.take(two.other, "second")
    while time.monotonic() < stopped + _SHARES - 3:
        assert len(recorder.conversations) == 1, "somebody opened a connection beside that of the stopped node"
        time.sleep(0.1)
    recorder.cut()
    wait_until(lambda: len(recorder.conversations) >= 2, "the connection of the other", 30)
    assert time.monotonic() > stopped + _SHARES - 3
    two.one.signal(signal.SIGCONT)
    two.take(two.one, "third")
    recorder.release("DATA")
    time.sleep(2)  # of what stays away nobody is told
    assert len(recorder.conversations) == 2, "the node that came back opened one that it may not have"
    recorder.release("MAIL")
    wait_until(lambda: not two.ledger.missing(recorder), "all mail", 40)
    settle_all(two.other)
    assert set(arrivals(recorder).values()) == {1}


@pytest.mark.slow
def test_a_drained_node_takes_nothing_and_ends_what_it_has(two: Two, recorder: Recorder) -> None:
    one, other = two.one, two.other
    two.hold_at_one("kept", "DATA")
    with one.connect() as client:
        assert client.envelope(SENDER)[0].startswith("250 ")
        done = other.command("node", "drain", "one")
        assert done.status == 0, done.text
        assert client.reply().startswith("421 4.3.2 ")
    wait_until(lambda: states(other) == {"one": "draining", "two": "serving"}, "the drain")
    assert not one.greets()
    assert nodes_of(one)["one"]["messages"] == 1
    recorder.replies["RCPT"] = b"451 4.3.2 Not now\r\n"
    recorder.release("DATA")
    wait_until(lambda: nodes_of(one)["one"]["messages"] == 0, "the end of what is under way")
    assert arrivals(recorder) == {"kept": 1}

    other.signal(signal.SIGSTOP)  # so that nobody else does it
    recorder.replies["RCPT"] = REPLIES["RCPT"]
    # Where that one was stopped in the middle of a transaction, the database is busy until it ends that.
    wait_until(lambda: one.command("node", "drain", "one", "--undo").status == 0, "the end of the drain", 40)
    wait_until(one.greets, "that it takes clients again")
    two.take(one, "again")
    wait_until(lambda: arrivals(recorder)["again"] == 1, "that it sends again")
    other.signal(signal.SIGCONT)
    unknown = other.command("node", "drain", "tow")
    assert unknown.status == 1
    assert "there is no node 'tow'; did you mean 'two'?" in unknown.err
