"""Clients of a cluster that send message after message, each with a name of its own, and never one twice."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.e2e.in_threads import InThreads
from tests.peers.clients import Endpoint
from tests.peers.raw import RawClient

_PATIENCE = 12.0  # with a node that was stopped
_MESSAGE = b"Subject: %s\r\n\r\n" + b"hello, this is a line of text\r\n" * 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered to a message at last, "" for nothing; the message began at `began` (`time.monotonic`)."""

    began: float
    sender: str
    host: str
    reply: str


@dataclass(frozen=True, slots=True)
class Pace:
    """Who sends, how many clients at once, and how long each rests between two messages, on the average."""

    sender: str
    clients: int
    pause: float


class Senders(InThreads):
    """Run as long as the block lasts.

    `promised` are the names for which a 250 came, with its time (`time.monotonic`); the recipient of each is
    NAME@customer.example. `outcomes` counts the last replies by their code, "silence" where none came; `answers` has
    them one by one.
    """

    def __init__(self, endpoint: Endpoint, paces: Sequence[Pace], seed: int) -> None:
        super().__init__()
        self.promised: dict[str, float] = {}
        self.outcomes: Counter[str] = Counter()
        self.answers: list[Answer] = []
        self._under_way: dict[int, str] = {}  # at which node, by client
        self._endpoint = endpoint
        every = [pace for pace in paces for _ in range(pace.clients)]
        self._threads = [
            threading.Thread(target=self._send, args=(number, pace, random.Random(seed + number)), daemon=True)
            for number, pace in enumerate(every)
        ]

    def under_way(self, host: str) -> int:
        """How many messages are between their MAIL and their answer at a node, or ("") at all of them."""
        return sum(host in {"", one} for one in tuple(self._under_way.values()))

    def _send(self, client: int, pace: Pace, chance: random.Random) -> None:
        number = 0
        while not self._is_over.is_set():
            with suppress(OSError, EOFError), RawClient(self._endpoint, _PATIENCE) as line:
                if not line.greeting.startswith("220"):
                    self.outcomes[f"greeting {line.greeting[:3] or 'silence'}"] += 1
                    time.sleep(pace.pause)
                    continue
                for _ in range(chance.choice((1, 1, 2, 5))):
                    number += 1
                    self._under_way[client] = _host(line)
                    reply = self._submit(line, pace.sender, f"c{client}n{number}")
                    del self._under_way[client]
                    time.sleep(chance.uniform(0, 2 * pace.pause))
                    if not reply.startswith("250") or self._is_over.is_set():
                        break

    def _submit(self, line: RawClient, sender: str, name: str) -> str:
        reply, began = "", time.monotonic()
        with suppress(OSError):
            reply = line.submit(sender, f"{name}@customer.example", _MESSAGE % name.encode())
        self.outcomes[f"{sender.partition('@')[0]} {reply[:3] or 'silence'}"] += 1
        self.answers.append(Answer(began, sender, _host(line), reply))
        if reply.startswith("250 2.0.0"):
            self.promised[name] = time.monotonic()
        return reply


def _host(line: RawClient) -> str:
    """Return who greeted."""
    return line.greeting.split()[1]
