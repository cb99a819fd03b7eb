"""Debian's HAProxy with etc/haproxy.cfg itself: only its addresses, its log and the paths outside are other ones."""

import csv
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.peers.clients import Endpoint
from tests.peers.packages import program
from tests.peers.system import LOOPBACK, Finished, free_port, private_folder, run, running, wait_for_port, wait_until

FILE = Path(__file__).parents[2] / "etc" / "haproxy.cfg"
# For the mark `needs`.
NEEDS = ("haproxy",)
_PORTS = {"submission": ":587", "submissions": ":465", "pages": ":443", "watch": "127.0.0.1:8404"}
_NODES = 3  # in the file


@dataclass(frozen=True, slots=True)
class NodePorts:
    """Where a node listens on loopback: for STARTTLS, for TLS and for the pages; behind HAProxy all of them."""

    submission: int = field(default_factory=free_port)
    submissions: int = field(default_factory=free_port)
    pages: int = field(default_factory=free_port)


class Haproxy:
    """A running HAProxy. `ports` are its own, by the name of the frontend."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], ports: Mapping[str, int]) -> None:
        self.pid = process.pid
        self.ports = ports
        self._socket = folder / "admin.sock"
        self._log = folder / "log"

    @property
    def log(self) -> str:
        """Everything that it said up to now."""
        return self._log.read_text(errors="replace")

    def endpoint(self, source: str) -> Endpoint:
        """Where clients from this address hand mail over."""
        return Endpoint(port=self.ports["submission"], source=source)

    def ask(self, command: str) -> str:
        """Say something at its socket for people who look after it, and return the answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self._socket))
            connection.sendall(command.encode() + b"\n")
            return connection.makefile("rb").read().decode()

    def states(self, backend: str = "submission") -> dict[str, str]:
        """How it says that each node is: "UP", "DOWN", "UP 1/2", "DRAIN", …"""
        return {row["svname"]: row["status"] for row in self._rows(backend)}

    def sessions(self, backend: str = "submission") -> dict[str, int]:
        """How many connections each node was given up to now."""
        return {row["svname"]: int(row["stot"]) for row in self._rows(backend)}

    def wait_for(self, node: str, state: str, seconds: float, backend: str = "submission") -> None:
        """Wait until it says that a node is in a state. Raises TimeoutError."""
        wait_until(lambda: self.states(backend)[node] == state, f"{node} {state}", seconds)

    def _rows(self, backend: str) -> list[dict[str, str]]:
        lines = self.ask("show stat").removeprefix("# ").splitlines()
        rows = csv.DictReader(line for line in lines if line)
        return [row for row in rows if row["pxname"] == backend and row["svname"] not in {"FRONTEND", "BACKEND"}]


@contextmanager
def haproxy_server(nodes: Sequence[NodePorts]) -> Iterator[Haproxy]:
    """HAProxy before so many of the file's three nodes; it waits for none of them."""
    with private_folder("haproxy") as folder:
        file, ports = write_file(folder, nodes)
        argv = [program("haproxy"), "-db", "-f", str(file)]
        with running(argv, folder / "log") as process:
            wait_for_port(process, ports["watch"], folder / "log")
            yield Haproxy(folder, process, ports)


def check_file(nodes: Sequence[NodePorts]) -> Finished:
    """Let HAProxy read the file as people do before they use it."""
    with private_folder("haproxy") as folder:
        file, _ = write_file(folder, nodes)
        return run([program("haproxy"), "-c", "-f", str(file)])


def write_file(folder: Path, nodes: Sequence[NodePorts]) -> tuple[Path, Mapping[str, int]]:
    """Write etc/haproxy.cfg for this machine; return where it is, and the ports of its frontends.

    AssertionError where the file has no longer what is replaced here.
    """
    pem = folder / "relay.pem"
    pem.write_bytes(trustme.CA().issue_cert(LOOPBACK).private_key_and_cert_chain_pem.bytes())
    ports = {name: free_port() for name in _PORTS}
    text = FILE.read_text()
    others = {f"bind {_PORTS[name]}": f"bind {LOOPBACK}:{port}" for name, port in ports.items()}
    others |= {
        "/etc/haproxy/relay.pem": str(pem),
        "stats socket /run/haproxy/admin.sock": f"stats socket {folder}/admin.sock",
        "log /dev/log local0": "log stdout format raw local0",
    }
    for number, node in enumerate(nodes, 1):
        own = {587: node.submission, 465: node.submissions, 8025: node.pages}
        others |= {
            f"node{number} 10.0.0.1{number}:{port}": f"node{number} {LOOPBACK}:{new}" for port, new in own.items()
        }
    for old, new in others.items():
        text, count = re.subn(rf"{re.escape(old)}\b", new, text)
        assert count, f"etc/haproxy.cfg has no {old!r}"
    for number in range(len(nodes) + 1, _NODES + 1):
        text = re.sub(rf"^ *server node{number} .*\n", "", text, flags=re.MULTILINE)
    if os.geteuid() != 0:  # only root may become somebody else
        text = re.sub(r"^ *(?:chroot|user|group) .*\n", "", text, flags=re.MULTILINE)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    return file, ports
