"""Large messages by many clients at once, and the longest round of a relay's loop under them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.ledger import control
from tests.peers.packages import program
from tests.peers.raw import RawClient
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import LOOPBACK, free_port, private_folder, running, wait_for_port, wait_until

SENDER, YOU = "support@acmejets.example", "you@customer.example"
MIB = 1024 * 1024
HEADER = f"From: {SENDER}\r\nSubject: large\r\n\r\n".encode()
# A mebibyte as an encoded file has it, and as text with dots that begin lines.
ENCODED = (b"x" * 76 + b"\r\n") * (MIB // 78)
DOTTED = (b"..%035d\r\n%037d.\r\n" % (1, 2)) * (MIB // 80)
MODES = ("direct", "auto", "queued")
LONGEST_ROUND = 0.02  # seconds of processor time


@contextmanager
def taking_everything() -> Iterator[int]:
    """The port of an upstream that takes everything and keeps nothing. Ask for needs("smtp-sink")."""
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it does not run as root
    with private_folder("sink") as folder:
        log = Path(folder) / "log"
        with running([program("smtp-sink"), *user, f"{LOOPBACK}:{port}", "100"], log) as process:
            wait_for_port(process, port, log)
            yield port


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
