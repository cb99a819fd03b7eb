"""Nobody sends through the relay but who may: as scanners see it from outside, and by each way in and each sender."""

from collections.abc import Iterator
from itertools import product

import pytest

from tests.hostile.house import JANE, LOGINS, NOBODY, SALES, house
from tests.peers.canaries import canary
from tests.peers.packages import program
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay
from tests.peers.rows import each_row
from tests.peers.system import LOOPBACK, free_port, run

pytestmark = pytest.mark.slow

VICTIM = "victim@elsewhere.example"


@pytest.fixture(scope="module")
def wire() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def outside() -> int:
    return free_port()


@pytest.fixture(scope="module")
def relay(wire: Recorder, outside: int) -> Iterator[Relay]:
    """One listener trusts loopback, the other one nobody."""
    port = free_port()
    listeners = [
        {"name": "inside", "address": f"{LOOPBACK}:{port}"},
        {"name": "outside", "address": f"{LOOPBACK}:{outside}", "trusted_networks": []},
    ]
    with house(wire.port, {"listener": listeners}, port=port, logins=LOGINS) as relay:
        yield relay


@pytest.mark.needs("nmap")
def test_a_scanner_finds_no_open_relay(relay: Relay, outside: int, wire: Recorder) -> None:
    count = len(wire.messages)
    argv = [program("nmap"), "-Pn", "-n", "--script", "+smtp-open-relay", "-p", str(outside), LOOPBACK]
    done = run(argv, seconds=60)
    assert "Server isn't an open relay, authentication needed" in done.out, done.text
    assert len(wire.messages) == count


@pytest.mark.needs("nmap")
def test_even_from_a_trusted_network_a_scanner_gets_no_mail_through(relay: Relay, wire: Recorder) -> None:
    """The null sender gets as far as DATA there, because From decides about it; nothing of the scanner's is ours."""
    count = len(wire.messages)
    argv = [program("nmap"), "-Pn", "-n", "--script", "+smtp-open-relay", "-p", str(relay.port), LOOPBACK]
    done = run(argv, seconds=60)
    assert "(1/16 tests)" in done.out, done.text
    assert len(wire.messages) == count


SENDERS = {"own": JANE, "another's": SALES, "nobody's": NOBODY, "null": ""}
# Who may send as which of them, with that address in From too.
MAY = {
    ("inside", ""): {"own", "another's", "null"},
    ("inside", "jane"): {"own", "null"},
    ("outside", "jane"): {"own", "null"},
    ("inside", "everyone"): {"own", "another's", "null"},
    ("outside", "everyone"): {"own", "another's", "null"},
}


@pytest.mark.needs("swaks")
@each_row(
    ("place", "login", "sender"),
    [
        row
        for row in product(("inside", "outside"), ("", "jane", "everyone", "jane:wrong", "nobody:any"), SENDERS)
        # A wrong login by the third is told later each time, and by the fifth not at all.
        if ":" not in row[1] or row[2] == "own"
    ],
)
def test_each_way_in_and_each_sender(
    place: str, login: str, sender: str, relay: Relay, outside: int, wire: Recorder
) -> None:
    count = len(wire.messages)
    name, _, password = login.partition(":")
    secret = password or (canary(name) if name in LOGINS else "")
    argv = [program("swaks"), "--server", LOOPBACK, "--port", str(relay.port if place == "inside" else outside)]
    argv += ["--helo", "client.test", "--from", SENDERS[sender] or "<>", "--to", VICTIM, "--silent", "2"]
    argv += ["--header", f"From: {SENDERS[sender] or JANE}"]
    if name:
        argv += ["--auth", "PLAIN", "--auth-user", name, "--auth-password", secret]
    done = run(argv)
    may = sender in MAY.get((place, login), set())
    assert (done.status == 0) == may, done.text
    assert len(wire.messages) - count == may
