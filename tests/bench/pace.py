"""Messages at a steady pace, and how long each of them takes, while something else goes on."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_EVERY = 0.005
_BEFORE = 1.0
_CONNECTIONS = 20
_BODY = b"Subject: how long\r\n\r\n" + b"x" * 64 + b"\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds that messages took before the job, and those that were under way with it; and what the job returned."""

    before: tuple[float, ...]
    within: tuple[float, ...]
    seconds: float


async def latencies(port: int, upstream: int, from_: str, job: Callable[[], float]) -> Latencies:
    """Send a message every 5 ms through the relay at a port, first for a second, then while a job runs in a thread.

    A server of ours at the port `upstream` takes what the relay passes on.
    """
    server = await asyncio.start_server(_take, "127.0.0.1", upstream)
    async with server:
        pace = _Pace(from_)
        await pace.open(port)
        await pace.run_until(asyncio.create_task(asyncio.sleep(_BEFORE)))  # whose connections are opened
        await pace.run_until(asyncio.create_task(asyncio.sleep(_BEFORE)))
        before = pace.take()
        running = asyncio.create_task(asyncio.to_thread(job))
        await pace.run_until(running)
        within = pace.take()
        pace.close()
    return Latencies(before, within, running.result())


@dataclass(slots=True)
class _Pace:
    """Connections of which the next free one sends the next message."""

    from_: str
    _free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _took: list[float] = field(default_factory=list)

    async def open(self, port: int) -> None:
        for _ in range(_CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.readline()
            writer.write(b"EHLO pace.test\r\n")
            while (await reader.readline())[3:4] == b"-":
                pass
            self._free.append((reader, writer))

    async def run_until(self, end: "asyncio.Task[object]") -> None:
        sending: list[asyncio.Task[None]] = []
        due = time.perf_counter()
        while not end.done():
            # Where all connections are busy, the next message waits in line with the others: its time runs from when
            # it was due.
            if self._free:
                sending.append(asyncio.create_task(self._send(due)))
                due += _EVERY
            await asyncio.sleep(max(0.001, due - time.perf_counter()))
        await asyncio.gather(*sending)

    def take(self) -> tuple[float, ...]:
        took, self._took = tuple(self._took), []
        return took

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()

    async def _send(self, due: float) -> None:
        reader, writer = connection = self._free.pop(0)
        writer.write(f"MAIL FROM:<{self.from_}>\r\nRCPT TO:<you@customer.example>\r\nDATA\r\n".encode())
        for expected in (b"250", b"250", b"354"):
            answer = await reader.readline()
            assert answer.startswith(expected), answer
        writer.write(f"From: {self.from_}\r\n".encode() + _BODY)
        answer = await reader.readline()
        assert answer.startswith(b"250"), answer
        self._took.append(time.perf_counter() - due)
        self._free.append(connection)


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say yes to everything: a server that wants no login. It ends when the loop does."""
    with suppress(asyncio.CancelledError):
        await _talk(reader, writer)
    writer.close()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 take.test\r\n")
    while line := await reader.readline():
        word = line[:4].upper()
        if word == b"EHLO":
            writer.write(b"250-take.test\r\n250 PIPELINING\r\n")
        elif word == b"DATA":
            writer.write(b"354 go on\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 2.0.0 taken\r\n")
        elif word == b"QUIT":
            writer.write(b"221 bye\r\n")
            break
        else:
            writer.write(b"250 2.0.0 ok\r\n")
