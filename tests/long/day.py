"""A day of many clients: what they send, what they were promised, and how the relay is at quiet moments."""

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.raw import RawClient
from tests.peers.relay import Relay

# Who sends, how often: a profile in each mode, with an account of its own, its server's, or none.
SENDERS: Mapping[str, int] = {"support": 5, "sales": 3, "desk": 4, "robot": 2}
_SMALL = b"Subject: %s\r\n\r\n" + b"hello, this is a line of text\r\n" * 20
_LARGE = b"x" * 76 + b"\r\n"
_LARGE_LINES = 30_000  # 2.3 MB: more than limits.memory_per_message
_BODY = "body"
_STORE = ("relay.db", "relay.db-wal")  # each connection to the store has both open
_PAUSE = (0.02, 0.15)


@dataclass(frozen=True, slots=True)
class Condition:
    """How a relay is at a quiet moment: memory in octets, threads, descriptors but those to its servers, its files.

    `bodies` are files without a name that are still open, of large messages; `connections` are those to the store.
    """

    memory: int
    threads: int
    bodies: int
    connections: int
    descriptors: Mapping[str, int]
    files: frozenset[str]

    @classmethod
    def of(cls, relay: Relay, to_servers: int) -> "Condition":
        """Look at a relay that has this many connections to its servers."""
        assert relay.process is not None
        folder = Path(f"/proc/{relay.process.pid}")
        kinds: Counter[str] = Counter()
        for link in (folder / "fd").iterdir():
            with suppress(FileNotFoundError):
                kinds[_kind(str(link.readlink()))] += 1
        kinds["socket"] -= to_servers
        threads = len(list((folder / "task").iterdir()))
        files = frozenset(path.name for path in relay.state_dir.iterdir())
        bodies, connections = kinds.pop(_BODY, 0), max(kinds.pop(name, 0) for name in _STORE)
        return cls(relay.memory(), threads, bodies, connections, dict(sorted(kinds.items())), files)


def _kind(target: str) -> str:
    """Return what a descriptor is: a file by its name, anything else by its kind."""
    if target.endswith(" (deleted)"):
        return _BODY
    return Path(target).name if target.startswith("/") else target.partition(":")[0]


class Clients:
    """Runs as long as its block lasts; `rest` lets all of them pause.

    `promised` are the recipients for whom a 250 came; `to_report` those among them who are refused later on, of whom
    a report is owed. `outcomes` counts the last replies by their code.
    """

    def __init__(self, relay: Relay, seed: int, count: int) -> None:
        self.promised: list[str] = []
        self.to_report: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self._relay = relay
        self._is_over = threading.Event()
        self._may_send = threading.Event()
        self._may_send.set()
        self._at_rest = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._send_for_ever, args=(number, random.Random(seed + number)), daemon=True)
            for number in range(count)
        ]

    def rest(self) -> None:
        """Let every client finish what it does, and pause."""
        self._may_send.clear()
        for _ in self._threads:
            assert self._at_rest.acquire(timeout=60), "a client waits for ever"

    def go_on(self) -> None:
        """Let them send again."""
        self._may_send.set()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._may_send.set()
        for thread in self._threads:
            thread.join(60)

    def _send_for_ever(self, client: int, chance: random.Random) -> None:
        number = 0
        while not self._is_over.is_set():
            if not self._may_send.is_set():
                self._at_rest.release()
                self._may_send.wait()
                continue
            try:
                with RawClient(self._relay.endpoint) as line:
                    for _ in range(chance.choice((1, 1, 3, 8))):
                        self._submit(line, f"c{client}n{number}", chance)
                        number += 1
                        time.sleep(chance.uniform(*_PAUSE))
                        if not self._may_send.is_set():
                            break
            except (OSError, EOFError) as error:
                self.outcomes[type(error).__name__] += 1
                number += 1
                time.sleep(0.1)

    def _submit(self, line: RawClient, name: str, chance: random.Random) -> None:
        """Send one message. Only who knows the last reply knows what was promised."""
        profile = chance.choices(list(SENDERS), list(SENDERS.values()))[0]
        recipients = [f"{name}r{number}@customer.example" for number in range(chance.choice((1, 1, 1, 3)))]
        if profile == "desk" and chance.random() < 0.1:
            recipients.append(f"gone.{name}@customer.example")
        is_large, leaves = chance.random() < 0.02, chance.random() < 0.02
        replies = line.envelope(f"{profile}@acmejets.example", *recipients)
        if any(not reply.startswith("250") for reply in replies):
            self.outcomes[f"envelope {replies[0][:3]}"] += 1
            line.say("RSET")
            return
        line.say("DATA")
        line.send(_SMALL % name.encode() + (_LARGE * _LARGE_LINES if is_large else b""))
        if leaves:
            raise EOFError
        line.send(b".\r\n")
        reply = line.reply()
        self.outcomes[f"{profile} {reply[:3] or 'silence'}"] += 1
        if reply.startswith("250"):
            self.promised += [one for one in recipients if not one.startswith("gone")]
            self.to_report += [one for one in recipients if one.startswith("gone")]
        elif not reply:
            raise EOFError
