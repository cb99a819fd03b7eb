"""Everybody who uses a relay while its calls fail: mail clients with kept sessions, the API, pages and commands.

Every message has a name, and its content follows from the name, so that what arrives can be told from a part of it.
"""

import http.client
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

from tests.e2e.in_threads import InThreads
from tests.e2e.ledger import Ledger, arrivals, control, message, repeated, times_unknown, told
from tests.peers.api import ApiClient
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay
from tests.peers.visitor import Visitor

# Of each mode one.
SENDERS = ("auto@acmejets.example", "direct@acmejets.example", "queued@acmejets.example")
# More than this goes through the spool.
IN_MEMORY = 16 * 1024
_PATIENCE = 40.0  # more than a relay lets a client wait
_PAUSE = 0.02
_PAGES = ("/login", "/", "/metrics", "/static/relay.css")


def body_of(name: str) -> bytes:
    """The body of a message: a few lines, of every fourth some that are too large for memory."""
    chance = random.Random(name)
    lines = chance.choice((3, 10, 40, 1500))
    seed = sha256(name.encode()).hexdigest().encode()
    return b"".join(b"%s %d of %d\r\n" % (seed, number, lines) for number in range(lines))


class Everybody(InThreads):
    """Runs as long as its block lasts. `replies` counts the last words that clients heard, by their code."""

    def __init__(self, relay: Relay, ledger: Ledger, prefix: str, api: ApiClient, pages: Visitor) -> None:
        super().__init__()
        self.replies: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self._relay = relay
        self._ledger = ledger
        self._pages = pages
        jobs: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            *((self._keep_a_session, (f"{prefix}.kept{index}", sender)) for index, sender in enumerate(SENDERS * 2)),
            *((self._connect_for_each, (f"{prefix}.once{index}", sender)) for index, sender in enumerate(SENDERS)),
            (self._repeatedly, ("command", self._command)),
            (self._repeatedly, ("control", lambda: str(bool(control(relay).status())))),
            (self._repeatedly, ("api", lambda: str(api.ask("GET", "/queue").status))),
            (self._repeatedly, ("page", self._page)),
        ]
        self._threads = [threading.Thread(target=job, args=arguments, daemon=True) for job, arguments in jobs]

    def _keep_a_session(self, prefix: str, sender: str) -> None:
        number = 0
        while not self._is_over.is_set():
            with suppress(OSError, EOFError), RawClient(self._relay.endpoint, _PATIENCE) as client:
                client.say("EHLO kept.test")
                while not self._is_over.is_set():
                    number += 1
                    self._send(client, f"{prefix}n{number}", sender)
            self._is_over.wait(_PAUSE)

    def _connect_for_each(self, prefix: str, sender: str) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            with suppress(OSError, EOFError), RawClient(self._relay.endpoint, _PATIENCE) as client:
                client.say("EHLO once.test")
                self._send(client, f"{prefix}n{number}", sender)
            self._is_over.wait(_PAUSE)

    def _send(self, client: RawClient, name: str, sender: str) -> None:
        """Send one message. Raises EOFError where the session is over."""
        reply = ""
        try:
            for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{name}@customer.example>", "DATA"):
                reply = client.say(line)
                if reply[:1] not in {"2", "3"}:
                    break
            else:
                client.send(message(name, body_of(name)) + b".\r\n")
                reply = client.reply()
                if reply.startswith("250 "):
                    self._ledger.promised.append(name)
        except OSError:
            reply = ""
            raise
        finally:
            self.replies[reply[:3] or "silence"] += 1
        if not reply or reply.startswith("421"):
            raise EOFError
        if not reply.startswith("250"):
            client.say("RSET")
            self._is_over.wait(_PAUSE)

    def _repeatedly(self, who: str, ask: Callable[[], str]) -> None:
        while not self._is_over.wait(0.1):
            try:
                answer = ask()
            except (OSError, http.client.HTTPException, ValueError) as error:
                answer = type(error).__name__
            except Exception as error:  # as NoRelay: what a command would say
                answer = type(error).__name__
            self.answers[f"{who} {answer}"] += 1

    def _command(self) -> str:
        arguments = random.choice((("status",), ("queue", "list"), ("messages", "list"), ("server", "list")))
        return str(self._relay.command(*arguments, seconds=90).status)

    def _page(self) -> str:
        return str(self._pages.get(random.choice(_PAGES)).status)


def faults_of_ledger(ledger: Ledger, relay: Relay, recorder: Recorder) -> list[str]:
    """Return what of the promise was not kept, a sentence for each message."""
    arrived = arrivals(recorder)
    found = [f"{name} was promised and is nowhere" for name in ledger.promised if not arrived[name]]
    for name, count in repeated(recorder).items():
        if count > (known := times_unknown(relay, name)):
            found.append(f"{name} arrived {count} times too often, {known} unknown: {told(relay, name)}")
    for raw in list(recorder.messages):
        head, _, body = raw.partition(b"\r\n\r\n")
        name = next((line[9:].decode() for line in head.split(b"\r\n") if line.startswith(b"Subject: ")), "")
        if body != body_of(name):
            found.append(f"{name} arrived with another content: {len(body)} of {len(body_of(name))} octets")
    return found
