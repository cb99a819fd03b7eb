"""Several relays on one PostgreSQL behind HAProxy: a machine each, as docs/cluster.md says how to set it up."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trustme

from tests.peers import haproxy as haproxy_peer
from tests.peers import postgres as postgres_peer
from tests.peers.haproxy import Haproxy, NodePorts, haproxy_server
from tests.peers.relay import RELAY, Relay, relay_process
from tests.peers.system import LOOPBACK, private_folder, wait_until

# For the mark `needs`.
NEEDS = (*haproxy_peer.NEEDS, *postgres_peer.NEEDS)
# Where clients come from that need no login: a client on loopback may have any address of 127.0.0.0/8.
OFFICE = "127.0.1.0/24"
PAGES = "https://relay.acmejets.example"
_PROXY = f"{LOOPBACK}/32"


@dataclass(frozen=True, slots=True)
class Node:
    """One of them: its name in HAProxy, its relay, and its doors behind HAProxy."""

    name: str
    relay: Relay
    ports: NodePorts

    @property
    def host(self) -> str:
        """What it calls itself in greetings, in Received and to servers."""
        return f"{self.name}.relay.test"


@dataclass(frozen=True, slots=True)
class Cluster:
    """All of them, HAProxy, and the authority of their certificate."""

    nodes: Sequence[Node]
    haproxy: Haproxy
    authority: trustme.CA

    def node(self, name: str) -> Node:
        """Return a node by its name."""
        return next(node for node in self.nodes if node.name == name)


def share_key(first: Relay, other: Relay) -> None:
    """Give a relay the master key of another one."""
    key = other.state_dir / "master.key"
    shutil.copy(first.state_dir / "master.key", key)
    key.chmod(0o600)


def _launch(relay: Relay) -> None:
    relay.launch(str(RELAY), *relay.serving)


@contextmanager
def cluster_of(
    directory: Mapping[str, Any],
    store: str,
    settings: Mapping[str, Any],
    *,
    workers: Sequence[int] = (1, 1, 1),
    passwords: Mapping[str, str] = MappingProxyType({}),
    launch: Callable[[Relay], None] = _launch,
    office: str = OFFICE,
) -> Iterator[Cluster]:
    """Run as many relays as `workers` has numbers, and HAProxy before them, which knows each of them already.

    `settings` are whole top-level keys of each relay.toml; where they say `directory = "database"`, the directory is in
    there and nowhere else. `passwords` are those of servers, by name. `launch` starts the program of a relay. Who comes
    from the `office` needs no login.
    """
    authority = trustme.CA()
    with ExitStack() as stack:
        tls = _write_certificate(stack.enter_context(private_folder("cluster")), authority)
        nodes = []
        for number, count in enumerate(workers, 1):
            relay = stack.enter_context(relay_process(directory, starts=False))
            node = Node(f"node{number}", relay, NodePorts())
            relay.write_settings({**_settings(node, store, office), "tls": tls, "workers": count, **settings})
            nodes.append(node)
        if settings.get("directory") == "database":
            _import_directory([node.relay for node in nodes])
        _start([node.relay for node in nodes], passwords, launch)
        yield Cluster(nodes, stack.enter_context(haproxy_server([node.ports for node in nodes])), authority)


def _import_directory(relays: Sequence[Relay]) -> None:
    done = relays[0].command("directory", "import")
    assert done.status == 0, done.text
    for relay in relays:
        relay.directory_file.unlink()


def _start(relays: Sequence[Relay], passwords: Mapping[str, str], launch: Callable[[Relay], None]) -> None:
    """Start every relay, the first one alone: it makes the tables and the master key of all."""
    first = relays[0]
    for server, password in passwords.items():
        first.set_password("server", server, password)
    for relay in relays:
        if relay is not first:
            share_key(first, relay)
        launch(relay)
        wait_until(relay.greets, "a node's greeting", 20)


def _settings(node: Node, store: str, office: str) -> dict[str, Any]:
    ports = node.ports
    behind = {"proxy_protocol": True, "proxy_networks": [_PROXY], "trusted_networks": [office]}
    return {
        "hostname": node.host,
        "node": node.name,
        "store": store,
        "listener": [
            {"name": "local", "address": f"{LOOPBACK}:{node.relay.port}"},
            {"name": "submission", "address": f"{LOOPBACK}:{ports.submission}", "security": "starttls", **behind},
            {"name": "submissions", "address": f"{LOOPBACK}:{ports.submissions}", "security": "tls", **behind},
        ],
        "web": {"address": f"{LOOPBACK}:{ports.pages}", "public_url": PAGES},
    }


def _write_certificate(folder: Path, authority: trustme.CA) -> dict[str, str]:
    """Write a certificate for HAProxy's address, which is what clients know; return the settings about it."""
    certificate = authority.issue_cert(LOOPBACK)
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "key.pem").chmod(0o600)
    (folder / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return {"certificate": f"{folder}/chain.pem", "key": f"{folder}/key.pem"}
