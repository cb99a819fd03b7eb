"""Three relays on one PostgreSQL behind HAProxy with etc/haproxy.cfg: what clients see, whatever happens to a node."""

import signal
import ssl
from collections.abc import Iterator
from contextlib import closing
from email import message_from_bytes
from http.client import HTTPMessage, HTTPSConnection
from smtplib import SMTP, SMTP_SSL
from urllib.request import urlopen

import pytest

from tests.e2e.load import Load
from tests.peers.cluster import NEEDS, PAGES, Cluster, Node, cluster_of
from tests.peers.haproxy import NodePorts, check_file
from tests.peers.postgres import Postgres
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import LOOPBACK, wait_until

pytestmark = pytest.mark.needs(*NEEDS)
SENDER, RECIPIENT = "support@acmejets.example", "you@customer.example"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
IN_OFFICE, ELSEWHERE = "127.0.1.7", "127.0.2.7"
# etc/haproxy.cfg: inter and fastinter; where a node hangs, both checks take `timeout check` as well.
GONE, HANGING = 2.5, 6.5
SLACK = 3.0  # of a busy machine
CLIENTS = 8


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def cluster(postgres: Postgres, upstream: Recorder) -> Iterator[Cluster]:
    name = postgres.new_database()
    with cluster_of(one_channel(open_server(upstream.port)), postgres.url(name), {}, launch=Relay.fork) as cluster:
        yield cluster
    postgres.drop_database(name)


@pytest.fixture
def whole(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with all of its nodes, which are there again afterwards."""
    yield cluster
    for node in cluster.nodes:
        cluster.haproxy.ask(f"set server submission/{node.name} state ready")
        revive(node)
        cluster.haproxy.wait_for(node.name, "UP", 20)


def revive(node: Node) -> None:
    relay = node.relay
    assert relay.process is not None
    relay.signal(signal.SIGCONT)
    if relay.process.poll() is not None:
        relay.start()


def office(cluster: Cluster) -> RawClient:
    return RawClient(cluster.haproxy.endpoint(IN_OFFICE))


def node_of(cluster: Cluster, client: RawClient) -> Node:
    """Return the node that greeted a client."""
    return next(node for node in cluster.nodes if node.host in client.greeting)


def load_on(cluster: Cluster) -> Load:
    return Load([cluster.haproxy.endpoint(IN_OFFICE)], CLIENTS)


def test_haproxy_has_nothing_against_the_file() -> None:
    done = check_file([NodePorts() for _ in range(3)])
    assert (done.status, done.out, done.err) == (0, "Configuration file is valid\n", "")


def test_relay_knows_the_client_behind_haproxy(cluster: Cluster, upstream: Recorder) -> None:
    with office(cluster) as client:
        assert client.submit(SENDER, RECIPIENT, MESSAGE).startswith("250 2.0.0 Ok: delivered via acmejets")
        node = node_of(cluster, client)
    received = str(message_from_bytes(upstream.messages[-1])["Received"])
    assert f"[{IN_OFFICE}]" in received
    assert f"by {node.host} " in received
    with RawClient(cluster.haproxy.endpoint(ELSEWHERE)) as client:
        (refused,) = client.envelope(SENDER)
        assert refused == "530 5.7.0 Authentication required", "only the office needs no login"
        node = node_of(cluster, client)
    wait_until(lambda: f'"client": "{ELSEWHERE}"' in node.relay.log, "the client's address in the log")
    wait_until(lambda: f"{ELSEWHERE}:" in cluster.haproxy.log, "the client in HAProxy's log")


def test_nobody_but_haproxy_says_for_whom_it_speaks(cluster: Cluster) -> None:
    """Who is no proxy and says PROXY is an SMTP client with a strange command."""
    node = cluster.nodes[0]
    lines = b"PROXY TCP4 127.0.1.7 127.0.0.1 4711 587\r\n"
    with RawClient(node.relay.endpoint) as client:
        client.send(lines)
        assert client.reply().startswith("500 ")


def test_tls_passes_through_to_the_relays(cluster: Cluster) -> None:
    context = ssl.create_default_context()
    cluster.authority.configure_trust(context)
    ports = cluster.haproxy.ports
    with SMTP(LOOPBACK, ports["submission"], timeout=20) as client:
        client.ehlo()
        assert not client.has_extn("auth"), "no password on a way that is not protected"
        client.starttls(context=context)
        client.ehlo()
        assert client.has_extn("auth")
    with SMTP_SSL(LOOPBACK, ports["submissions"], timeout=20, context=context) as client:
        client.ehlo()
        assert client.has_extn("auth")
        assert client.mail(SENDER)[0] == 530


def test_the_load_is_spread(cluster: Cluster) -> None:
    before = cluster.haproxy.sessions()
    clients = [office(cluster) for _ in range(12)]
    try:
        assert all(client.greeting.startswith("220 ") for client in clients)
        counts = {name: count - before[name] for name, count in cluster.haproxy.sessions().items()}
    finally:
        for client in clients:
            client.close()
    assert sum(counts.values()) == 12
    assert set(counts.values()) <= {3, 4, 5}, counts


def test_the_pages_and_the_api_answer_through_haproxy(cluster: Cluster) -> None:
    wait_until(lambda: set(cluster.haproxy.states("pages").values()) == {"UP"}, "all pages")
    status, headers, body = ask(cluster, "/healthz")
    assert (status, body) == (200, b"ok\n")
    cookie = headers["Set-Cookie"]
    assert cookie.startswith("relay-node=node")
    assert {"HttpOnly", "Secure", "SameSite=Lax"} <= set(cookie.split("; "))
    assert ask(cluster, "/metrics")[0] == 401, "HAProxy asks for somebody else"
    assert ask(cluster, "/", host="other.example")[0] == 421


def ask(cluster: Cluster, path: str, host: str = PAGES.removeprefix("https://")) -> tuple[int, HTTPMessage, bytes]:
    """Return status, header and body of a page."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with closing(HTTPSConnection(LOOPBACK, cluster.haproxy.ports["pages"], timeout=20, context=context)) as connection:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_haproxy_tells_prometheus_and_people_how_the_nodes_are(cluster: Cluster) -> None:
    address = f"http://{LOOPBACK}:{cluster.haproxy.ports['watch']}"
    with urlopen(f"{address}/metrics", timeout=10) as answer:
        assert b'haproxy_server_status{proxy="submission",server="node1",state="UP"} 1' in answer.read()
    with urlopen(f"{address}/", timeout=10) as answer:
        assert b"submissions" in answer.read()


@pytest.mark.slow
def test_a_node_that_is_drained_ends_its_sessions_and_gets_no_more(whole: Cluster) -> None:
    with office(whole) as client:
        drained = node_of(whole, client)
        client.envelope(SENDER, RECIPIENT)
        whole.haproxy.ask(f"set server submission/{drained.name} state drain")
        # Behind it stands how many checks have succeeded, where one is just being made: "DRAIN 1/2".
        assert whole.haproxy.states("submissions")[drained.name].split()[0] == "DRAIN", "its other port, too"
        with load_on(whole) as load:
            load.wait_for_accepted(100)
        assert set(load.counts) == {"accepted"}, load.counts
        for _ in range(6):
            with office(whole) as other:
                assert node_of(whole, other) is not drained
        client.say("DATA")
        assert client.say(MESSAGE.decode() + ".").startswith("250 ")
        assert client.submit(SENDER, RECIPIENT, MESSAGE).startswith("250 "), "and on, until the client leaves"


@pytest.mark.slow
def test_a_node_that_relay_drains_tells_haproxy_first_and_turns_nobody_away(whole: Cluster) -> None:
    drained, other = whole.nodes[0], whole.nodes[1].relay
    with load_on(whole) as load:
        load.wait_for_accepted(50)
        assert other.command("node", "drain", drained.name).status == 0
        whole.haproxy.wait_for(drained.name, "DOWN", 1 + GONE + SLACK)  # a node hears of it within a second
        wait_until(lambda: clients_of(whole, drained) == 0, "that its sessions have ended", 30)
        load.wait_for_accepted(50)
        assert other.command("node", "drain", drained.name, "--undo").status == 0
        whole.haproxy.wait_for(drained.name, "UP", 20)
        load.wait_for_accepted(50)
    assert set(load.counts) == {"accepted"}, load.counts


def clients_of(cluster: Cluster, node: Node) -> int:
    return next(int(one["clients"]) for one in cluster.nodes[1].relay.ask("node", "list") if one["name"] == node.name)


@pytest.mark.slow
def test_a_node_that_stops_loses_no_session_and_nobody_is_refused(whole: Cluster) -> None:
    with load_on(whole) as load:
        for node in whole.nodes:
            load.wait_for_accepted(50)
            assert node.relay.stop() == 0
            whole.haproxy.wait_for(node.name, "DOWN", GONE + SLACK)
            load.wait_for_accepted(50)
            node.relay.start()
            whole.haproxy.wait_for(node.name, "UP", 20)
    assert set(load.counts) <= {"accepted", "told to wait"}, load.counts


@pytest.mark.slow
def test_a_node_that_is_killed_is_noticed_and_others_serve_who_comes_then(whole: Cluster) -> None:
    """Those who were with it are cut off, and nobody else notices: not even before HAProxy does."""
    with load_on(whole) as load:
        load.wait_for_accepted(50)
        killed = whole.nodes[1]
        killed.relay.signal(signal.SIGKILL)
        killed.relay.stop()
        cut_off = load.counts["cut off"]
        whole.haproxy.wait_for(killed.name, "DOWN", GONE + SLACK)
        load.wait_for_accepted(100)
    assert set(load.counts) <= {"accepted", "cut off"}, load.counts
    assert load.counts["cut off"] <= cut_off + CLIENTS


@pytest.mark.slow
def test_a_node_that_hangs_is_noticed_and_goes_on_with_its_sessions_later(whole: Cluster) -> None:
    with office(whole) as client:
        hanging = node_of(whole, client)
        hanging.relay.signal(signal.SIGSTOP)
        whole.haproxy.wait_for(hanging.name, "DOWN", HANGING + SLACK)
        with load_on(whole) as load:
            load.wait_for_accepted(100)
        assert set(load.counts) == {"accepted"}, load.counts
        hanging.relay.signal(signal.SIGCONT)
        assert client.submit(SENDER, RECIPIENT, MESSAGE).startswith("250 ")
        whole.haproxy.wait_for(hanging.name, "UP", 20)
