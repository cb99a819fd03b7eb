"""Several relays at one PostgreSQL: each is a node that the others know, and whose mail they take over when it is lost.

Leases are short here (`tests/e2e/hasty_node.py`), the relays and the database are real.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterator
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
from tests.peers.relay import RELAY, Relay, one_channel, open_server
from tests.peers.system import wait_until

pytestmark = pytest.mark.needs(*peer.NEEDS)
_PROGRAM = Path(__file__).with_name("hasty_node.py")
# Seconds. A machine that is busy must not take a node that lives for lost.
_LEASE, _SHARES = 6, 12


class StartNode(Protocol):
    """Starts a relay as a node at the database of this test."""

    def __call__(self, name: str, *, is_hasty: bool = True, server: Any = None, **settings: Any) -> Relay: ...


@pytest.fixture
def start_node(postgres: Postgres, start_relay: StartRelay, recorder: Recorder, tmp_path: Path) -> Iterator[StartNode]:
    """All have the same directory and the same master key."""
    database = postgres.new_database()
    key = f"file:{tmp_path / 'master.key'}"

    def start(name: str, *, is_hasty: bool = True, server: Any = None, **settings: Any) -> Relay:
        keys = {
            **kill_settings("queued"),
            "store": postgres.url(database),
            "secrets": {"master_key": key},
            "node": name,
            **settings,
        }
        relay = start_relay(one_channel(server or open_server(recorder.port)), keys, starts=False)
        begin(relay, is_hasty=is_hasty)
        return relay

    yield start
    postgres.drop_database(database)


def begin(relay: Relay, *, is_hasty: bool = True) -> None:
    """Start a node, or start it anew."""
    program = (sys.executable, str(_PROGRAM), str(_LEASE), str(_SHARES)) if is_hasty else (str(RELAY),)
    relay.launch(*program, *relay.serving)
    wait_until(relay.greets, "the node's greeting", 20)


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


@pytest.mark.slow
def test_nodes_know_each_other_and_none_takes_the_name_of_another(start_node: StartNode) -> None:
    one, two = start_node("one"), start_node("two")
    wait_until(lambda: states(one) == {"one": "serving", "two": "serving"}, "both nodes")
    table = two.command("node", "list").out.splitlines()
    assert table[0].split() == ["NODE", "STATE", "VERSION", "SEEN", "SINCE", "LEADS", "WORKERS", "CLIENTS", "MESSAGES"]
    assert max(map(len, table)) <= 80
    with pytest.raises(RuntimeError, match=r"another relay uses this store as the node 'two' .*node = "):
        start_node("two")

    kill(two)
    wait_until(lambda: states(one)["two"] == "silent", "that it is silent")
    kill(one)
    begin(one)
    kill(one)
    begin(one)  # at once, as the same node
    assert two.stop() != 0
    assert one.stop() == 0
    assert states(one).keys() == {"two"}, "who ends in order is listed no more"


@pytest.mark.slow
def test_what_a_killed_node_had_under_way_another_delivers_once(start_node: StartNode, recorder: Recorder) -> None:
    one, two, ledger = start_node("one"), start_node("two"), Ledger()
    recorder.hold("DATA")
    for number in range(6):
        assert ledger.submit(one, f"m{number}").startswith("250 ")
    recorder.wait_for("DATA")
    kill(one)
    recorder.release("DATA")
    wait_until(lambda: not ledger.missing(recorder), "what the other takes over", 40)
    settle_all(two)
    assert set(arrivals(recorder).values()) == {1}


@pytest.mark.slow
def test_a_restart_takes_back_its_own_at_once_and_nothing_of_others(start_node: StartNode, recorder: Recorder) -> None:
    """With the leases of every day: nobody else would for a minute."""
    one, two = start_node("one", is_hasty=False), start_node("two", is_hasty=False, workers=2)
    ledger = Ledger()
    wait_until(lambda: {name: node["workers"] for name, node in nodes_of(one).items()} == {"one": 1, "two": 2}, "both")
    recorder.hold("DATA")
    assert ledger.submit(one, "first").startswith("250 ")
    recorder.wait_for("DATA")
    kill(one)
    two.stop()
    begin(two, is_hasty=False)
    recorder.release("DATA")
    assert ledger.submit(two, "second").startswith("250 ")
    wait_until(lambda: arrivals(recorder)["second"] == 1, "what the other has itself")
    assert arrivals(recorder)["first"] == 0
    begin(one, is_hasty=False)
    wait_until(lambda: arrivals(recorder)["first"] == 1, "what its own earlier run had")


@pytest.mark.slow
def test_a_node_that_was_stopped_before_its_final_dot_sends_none(start_node: StartNode, recorder: Recorder) -> None:
    one, two, ledger = start_node("one"), start_node("two"), Ledger()
    recorder.hold("DATA")
    assert ledger.submit(one, "late").startswith("250 ")
    recorder.wait_for("DATA")
    one.signal(signal.SIGSTOP)
    recorder.release("DATA")
    wait_until(lambda: arrivals(recorder)["late"] == 1, "what the other takes over", 40)
    one.signal(signal.SIGCONT)
    wait_until(lambda: overtaken(one)["no"] == 1, "that it was overtaken")
    settle_all(two)
    assert arrivals(recorder) == {"late": 1}
    assert overtaken(one) == {"yes": 0, "no": 1}
    assert '"event": "overtaken"' in one.log


@pytest.mark.slow
def test_the_late_result_of_a_node_that_was_stopped_is_refused_and_counted(
    start_node: StartNode, recorder: Recorder
) -> None:
    """What it had sent is at the server, and another sends it again: the window that docs/cluster.md names."""
    one, two, ledger = start_node("one"), start_node("two"), Ledger()
    recorder.hold(".")
    assert ledger.submit(one, "late").startswith("250 ")
    recorder.wait_for(".")
    one.signal(signal.SIGSTOP)
    recorder.release(".")
    wait_until(lambda: arrivals(recorder)["late"] == 2, "what the other sends again", 40)
    settle_all(two)
    one.signal(signal.SIGCONT)
    wait_until(lambda: overtaken(one)["yes"] == 1, "that it was overtaken")
    assert overtaken(one)["no"] == 0
    assert repeated(recorder) == {"late": 1}
    assert times_unknown(two, "late") == 1


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
        for node in (nodes[1], nodes[2], nodes[1]):
            time.sleep(1.0)
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


def submit_some(ledger: Ledger, node: Relay) -> None:
    for number in range(40):
        ledger.submit(node, f"{node.port}.{number}")
        time.sleep(0.1)


@pytest.mark.slow
def test_the_connections_of_a_stopped_node_are_others_only_when_none_is_open_any_more(
    start_node: StartNode, recorder: Recorder
) -> None:
    """The provider gives up the silent connection long before that, and the node that comes back opens none."""
    server = open_server(recorder.port, max_connections=1)
    one, two, ledger = start_node("one", server=server), start_node("two", server=server), Ledger()
    time.sleep(_LEASE + 1)  # both have been there for long enough to say who is lost
    recorder.hold("DATA")
    assert ledger.submit(one, "first").startswith("250 ")
    recorder.wait_for("DATA")
    one.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    recorder.hold("MAIL")  # also for those who come now
    assert ledger.submit(two, "second").startswith("250 ")
    while time.monotonic() < stopped + _SHARES - 3:
        assert len(recorder.conversations) == 1, "somebody opened a connection beside that of the stopped node"
        time.sleep(0.1)
    recorder.cut()
    wait_until(lambda: len(recorder.conversations) >= 2, "the connection of the other", 30)
    assert time.monotonic() > stopped + _SHARES - 3
    one.signal(signal.SIGCONT)
    assert ledger.submit(one, "third").startswith("250 ")
    recorder.release("DATA")
    time.sleep(2)
    assert len(recorder.conversations) == 2, "the node that came back opened one that it may not have"
    recorder.release("MAIL")
    wait_until(lambda: not ledger.missing(recorder), "all mail", 40)
    settle_all(two)
    assert set(arrivals(recorder).values()) == {1}


@pytest.mark.slow
def test_a_drained_node_takes_nothing_and_ends_what_it_has(start_node: StartNode, recorder: Recorder) -> None:
    one, two, ledger = start_node("one"), start_node("two"), Ledger()
    recorder.hold("DATA")
    assert ledger.submit(one, "kept").startswith("250 ")
    recorder.wait_for("DATA")
    with one.connect() as client:
        assert client.envelope(SENDER)[0].startswith("250 ")
        done = two.command("node", "drain", "one")
        assert done.status == 0, done.text
        assert client.reply().startswith("421 4.3.2 ")
    wait_until(lambda: states(two) == {"one": "draining", "two": "serving"}, "the drain")
    assert not one.greets()
    assert nodes_of(one)["one"]["messages"] == 1
    recorder.replies["RCPT"] = b"451 4.3.2 Not now\r\n"
    recorder.release("DATA")
    wait_until(lambda: nodes_of(one)["one"]["messages"] == 0, "the end of what is under way")
    assert arrivals(recorder) == {"kept": 1}

    two.signal(signal.SIGSTOP)  # so that nobody else does it
    recorder.replies["RCPT"] = REPLIES["RCPT"]
    assert one.command("node", "drain", "one", "--undo").status == 0
    wait_until(one.greets, "that it takes clients again")
    assert ledger.submit(one, "again").startswith("250 ")
    wait_until(lambda: arrivals(recorder)["again"] == 1, "that it sends again")
    two.signal(signal.SIGCONT)
    unknown = two.command("node", "drain", "tow")
    assert unknown.status == 1
    assert "there is no node 'tow'; did you mean 'two'?" in unknown.err
