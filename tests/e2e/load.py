"""Clients that submit message after message, and keep count of what became of each."""

import threading
import uuid
from collections import Counter
from collections.abc import Sequence

from tests.e2e.in_threads import InThreads
from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient
from tests.peers.system import wait_until

SENDER = "support@acmejets.example"
_PAUSE = 0.05  # of a client between two messages: what a test waits for meanwhile must not cost a core


class Load(InThreads):
    """Runs as long as its block lasts. Each client connects, submits one message, and begins again.

    `counts`: "accepted"; "told to wait" (a 421 within a session); "turned away" (another greeting than 220); "refused"
    (nobody listens); "cut off" (no last word).
    """

    def __init__(self, endpoints: Sequence[Endpoint], clients: int) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.accepted: list[str] = []
        self._threads = [
            threading.Thread(target=self._submit_for_ever, args=(endpoints[number % len(endpoints)],), daemon=True)
            for number in range(clients)
        ]

    def wait_for_accepted(self, count: int) -> None:
        """Wait until so many more messages have been accepted."""
        wanted = len(self.accepted) + count
        wait_until(lambda: len(self.accepted) >= wanted, f"{count} accepted messages, now {self.counts}", 60)

    def _submit_for_ever(self, endpoint: Endpoint) -> None:
        while not self._is_over.is_set():
            recipient = f"{uuid.uuid4().hex}@customer.example"
            outcome = _submit(endpoint, recipient)
            if outcome == "accepted":
                self.accepted.append(recipient)
            self.counts[outcome] += 1
            self._is_over.wait(_PAUSE)


def _submit(endpoint: Endpoint, recipient: str) -> str:
    try:
        client = RawClient(endpoint)
    except (ConnectionRefusedError, FileNotFoundError):
        return "refused"
    except OSError:
        return "cut off"
    with client:
        if client.greeting and not client.greeting.startswith("220"):
            return "turned away"
        reply = _last_reply(client, recipient) if client.greeting else ""
    if reply.startswith("250"):
        return "accepted"
    if reply.startswith("421"):
        return "told to wait"
    return f"answered {reply!r}" if reply else "cut off"


def _last_reply(client: RawClient, recipient: str) -> str:
    """Submit a message; return the reply that decided."""
    envelope = ("EHLO load.test", f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{recipient}>", "DATA")
    try:
        for line in (*envelope, "Subject: load\r\n\r\nhello\r\n."):
            reply = client.say(line)
            if reply[:1] not in {"2", "3"}:
                return reply
    except OSError:
        # A command of ours crossed the last words: they are there to be read.
        return client.reply()
    return reply
