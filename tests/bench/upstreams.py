"""The upstream of a relay under load: smtp-sink or our own sink, some milliseconds away where the load says so."""

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import trustme

from tests.bench.letter import Arrived
from tests.bench.loads import Upstream
from tests.peers.packages import program
from tests.peers.system import LOOPBACK, free_port, running, wait_for_port

# Our programs are modules of the tests, from wherever the bench is called.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
_CONNECTIONS = 3000
_BACKLOG = 1000
_COUNT = re.compile(rb"mesg=(\d+)\r")
_TAIL = 256
_PROBES = 15


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate of our sink: the PEM file with its key, and the authority that it comes from."""

    pem: Path
    ca_file: Path

    @classmethod
    def make(cls, folder: Path) -> "Certificate":
        """Make one in a folder."""
        authority = trustme.CA()
        certificate = cls(folder / "sink.pem", folder / "ca.pem")
        authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem.write_to_path(str(certificate.pem))
        authority.cert_pem.write_to_path(str(certificate.ca_file))
        return certificate


@dataclass(frozen=True, slots=True)
class Running:
    """A running upstream: the port to send to, its processes, and the file that it writes with each message.

    `notes`: whether a line of that file tells about each message (`Arrived`), else the file has a count alone.
    """

    kind: Upstream
    port: int
    pids: tuple[int, ...]
    file: Path
    notes: bool
    ca_file: Path

    def count(self) -> int:
        """Return how many messages have arrived."""
        if self.notes:
            return self.file.read_bytes().count(b"\n")
        with self.file.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            counts = _COUNT.findall(file.read())
        return int(counts[-1]) if counts else 0

    def last_at(self) -> float:
        """Return when the last one arrived, by the clock of `time.time`."""
        return self.file.stat().st_mtime

    def arrived(self, start: int) -> list[Arrived]:
        """Return what arrived after the first `start` messages."""
        return [Arrived.parse(line) for line in self.file.read_text().splitlines(keepends=True)[start:]]

    def round_trip(self) -> float:
        """Return how many seconds it takes to ask it something and be answered: the median of some tries."""
        with socket.create_connection((LOOPBACK, self.port), 10) as client, client.makefile("rb") as replies:
            replies.readline()
            seconds = []
            for _ in range(_PROBES):
                start = perf_counter()
                client.sendall(b"NOOP\r\n")
                replies.readline()
                seconds.append(perf_counter() - start)
            client.sendall(b"QUIT\r\n")
        return median(seconds)


@contextmanager
def running_upstream(kind: Upstream, certificate: Certificate, folder: Path) -> Iterator[Running]:
    """An upstream whose files are in a folder of its own."""
    port = free_port()
    file = folder / "arrived"
    file.touch()
    with ExitStack() as stack:
        if kind.accounts:
            pem = [str(certificate.pem)] if kind.is_tls else []
            argv = ours("sink", str(port), str(file), *pem)
        else:
            # It does not run as root: it asks for a user to become.
            user = ["-u", "nobody"] if os.geteuid() == 0 else []
            argv = [program("smtp-sink"), "-c", *user, "-m", str(_CONNECTIONS), f"{LOOPBACK}:{port}", str(_BACKLOG)]
        # smtp-sink writes its count to its standard output; what ours has to say there is a fault.
        output = folder / "sink" if kind.accounts else file
        sink = stack.enter_context(running(argv, output, env=ENVIRONMENT))
        wait_for_port(sink, port, output)
        pids = [sink.pid]
        if kind.latency:
            target, port = port, free_port()
            log = folder / "delay"
            argv = ours("delay", str(port), str(target), str(kind.latency / 2))
            way = stack.enter_context(running(argv, log, env=ENVIRONMENT))
            wait_for_port(way, port, log)
            pids.append(way.pid)
        yield Running(kind, port, tuple(pids), file, bool(kind.accounts), certificate.ca_file)


def ours(program_: str, *arguments: str) -> list[str]:
    """Return the command line of a program of ours, which runs in ENVIRONMENT."""
    return [sys.executable, "-m", f"tests.bench.{program_}", *arguments]
