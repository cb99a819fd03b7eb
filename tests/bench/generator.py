"""Run as a program: `python -m tests.bench.generator ORDER`, clients that send from many senders in turn.

smtp-source sends from one. Like it, these clients wait for each reply before they go on, and keep their connections or
open one for each message. The program ends with 0 when every message was accepted, else with the reply that was not
good. It prints a Report, so that nobody counts the start of a Python. What it takes of the processor itself, a run
against the sink without a relay shows.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from tests.bench.letter import body, content, recipient, sender
from tests.peers.system import LOOPBACK

# Prime, so that the senders come in a mixed order and, whatever their number, all of them.
_STRIDE = 7919
_GOOD = b"23"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent. `size`: octets of a body; `kept`: a session keeps its connection."""

    port: int
    tag: str
    messages: int
    sessions: int
    senders: int
    size: int
    kept: bool

    def text(self) -> str:
        """Return it as the program's argument."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Report:
    """When it began to connect, by the clock of `time.time`, and the processor seconds that it took from then on."""

    start: float
    cpu: float

    @classmethod
    def parse(cls, text: bytes) -> "Report":
        """Read what the program printed."""
        return cls(**json.loads(text))


class _Work:
    """The messages that are still to be sent. `over` is set when the last one is accepted, or with a `fault`."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.over = asyncio.Event()
        self.fault = ""
        self._body = body(order.size)
        self._taken = self._accepted = 0
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def has_more(self) -> bool:
        """Whether there is still one to be sent."""
        return self._taken < self.order.messages

    def connect(self) -> None:
        """Open one more connection."""
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def take(self) -> tuple[bytes, bytes, bytes]:
        """Return MAIL, RCPT and the content of one more message."""
        number = self._taken
        self._taken += 1
        from_ = sender(number * _STRIDE % self.order.senders)
        to = recipient(number, self.order.tag)
        mail, rcpt = f"MAIL FROM:<{from_}>\r\n".encode(), f"RCPT TO:<{to}>\r\n".encode()
        return mail, rcpt, content(from_, to, self._body)

    def accept(self) -> None:
        """Count a message that the server has taken."""
        self._accepted += 1
        if self._accepted == self.order.messages:
            self.over.set()

    def fail(self, fault: str) -> None:
        """End with a fault."""
        self.fault = self.fault or fault
        self.over.set()

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Client(self), LOOPBACK, self.order.port)
        except OSError as error:
            self.fail(f"no connection to port {self.order.port}: {error}")


class _Client(asyncio.Protocol):
    """One connection, which says its words one by one, each on a good reply to the one before."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._words = self._script()
        self._transport: asyncio.Transport
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._data += data
        last_line = self._data[self._data.rfind(b"\n", 0, -1) + 1 :]
        if last_line[-1:] != b"\n" or last_line[3:4] == b"-":
            return
        self._data = b""
        if last_line[0] not in _GOOD:
            self._work.fail(f"the server says {last_line.decode(errors='replace').strip()}")
            return
        words = next(self._words, b"")
        if words:
            self._transport.write(words)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if next(self._words, b""):
            self._work.fail(f"the server ended a connection: {exc}")
        elif self._work.has_more:
            self._work.connect()

    def _script(self) -> Iterator[bytes]:
        yield b"EHLO bench.test\r\n"
        while self._work.has_more:
            mail, rcpt, whole = self._work.take()
            yield mail
            yield rcpt
            yield b"DATA\r\n"
            yield whole
            self._work.accept()
            if not self._work.order.kept:
                break
        yield b"QUIT\r\n"


async def _send(order: Order) -> str:
    work = _Work(order)
    start, cpu = time.time(), time.process_time()
    for _ in range(min(order.sessions, order.messages)):
        work.connect()
    await work.over.wait()
    print(json.dumps(asdict(Report(start, time.process_time() - cpu))))
    return work.fault


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(_send(Order(**json.loads(sys.argv[1])))) or None)
