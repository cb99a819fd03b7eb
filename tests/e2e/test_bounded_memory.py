"""Fifty large messages at once in little memory, and an event loop that nobody has to wait for."""

import os
import threading
from collections.abc import Iterator

import pytest

from tests.e2e.ledger import control
from tests.peers.packages import program
from tests.peers.raw import RawClient
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import LOOPBACK, free_port, running, wait_for_port, wait_until

pytestmark = [pytest.mark.needs("smtp-sink"), pytest.mark.timeout(600)]

SENDER, YOU = "support@acmejets.example", "you@customer.example"
MIB = 1024 * 1024
HEADER = f"From: {SENDER}\r\nSubject: large\r\n\r\n".encode()
# A mebibyte as an encoded file has it, and as text with dots that begin lines.
ENCODED = (b"x" * 76 + b"\r\n") * (MIB // 78)
DOTTED = (b"..%035d\r\n%037d.\r\n" % (1, 2)) * (MIB // 80)
CLIENTS = 50
MODES = ("direct", "auto", "queued")
LONGEST_ROUND = 0.02  # seconds
ATTEMPTS = 3


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an upstream that takes everything and keeps nothing."""
    port, log = free_port(), tmp_path_factory.mktemp("sink") / "log"
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it does not run as root
    with running([program("smtp-sink"), *user, f"{LOOPBACK}:{port}", "100"], log) as process:
        wait_for_port(process, port, log)
        yield port


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "mebibytes", [pytest.param(4, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.long)]
)
def test_fifty_messages_need_much_less_memory_than_they_have(sink: int, mode: str, mebibytes: int) -> None:
    with relay_process(*files(sink, mode)) as relay:
        send(relay, 1, 2, ENCODED)  # what the first message makes stays
        before = relay.memory()
        assert send(relay, CLIENTS, mebibytes, DOTTED) == ["250"] * CLIENTS, relay.last_words
        wait_until(lambda: not any(control(relay).status()["queue"].values()), "the end of the queue", 300)
        assert relay.peak_memory() - before < 150 * MIB < CLIENTS * mebibytes * MIB


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "mebibytes", [pytest.param(2, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.long)]
)
def test_no_round_of_the_loop_is_long_under_large_messages(sink: int, mode: str, mebibytes: int) -> None:
    """Where others compute beside it, a round takes longer; what the relay does in one it does each time."""
    rounds: list[float] = []
    while len(rounds) < ATTEMPTS and not any(longest < LONGEST_ROUND for longest in rounds):
        rounds.append(longest_round(sink, mode, mebibytes))
    assert 0 < min(rounds) < LONGEST_ROUND, rounds


def longest_round(sink: int, mode: str, mebibytes: int) -> float:
    """Return how many seconds of processor time the longest round of a relay's loop took under large messages."""
    with relay_process(*files(sink, mode), starts=False) as relay:
        relay.fork("tests.e2e.measured_relay:install")
        wait_until(relay.greets, "the relay's greeting")
        for mebibyte in (ENCODED, DOTTED):
            assert send(relay, 20, mebibytes, mebibyte) == ["250"] * 20, relay.last_words
        wait_until(lambda: not any(control(relay).status()["queue"].values()), "the end of the queue", 120)
        return relay.counters()["relay_loop_lag_seconds"]


def files(sink: int, mode: str) -> tuple[dict[str, object], dict[str, object]]:
    """The directory and the settings of a relay."""
    directory = one_channel(open_server(sink, max_connections=20))
    return directory, {"delivery": {"mode": mode}, "log": {"format": "json", "level": "info"}}


def send(relay: Relay, clients: int, mebibytes: int, mebibyte: bytes) -> list[str]:
    """Send a message by each of several clients at once; return the codes of the replies."""
    replies: list[str] = []

    def submit() -> None:
        with RawClient(relay.endpoint, 300) as client:
            client.envelope(SENDER, YOU)
            client.say("DATA")
            client.send(HEADER)
            for _ in range(mebibytes):
                client.send(mebibyte)
            client.send(b".\r\n")
            replies.append(client.reply()[:3])

    threads = [threading.Thread(target=submit) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return replies
