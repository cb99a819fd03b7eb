"""A wire to a unix socket that can fall silent, as a network does that loses every packet: nobody is told."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.loop import LoopThread, stop_listening
from tests.peers.system import LOOPBACK

_CHUNK = 65536


class Wire:
    """A running wire, from a TCP port of this machine."""

    def __init__(self, target: Path) -> None:
        self.port = 0
        self._target = target
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def fall_silent(self) -> None:
        """Let nothing pass any more, in neither direction, of connections old and new."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._speaks.clear)

    def speak(self) -> None:
        """Let everything pass, also what came meanwhile."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._speaks.set)

    async def open(self) -> asyncio.Server:
        """Listen at a free port."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._speaks.wait()
        try:
            others = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            writer.transport.abort()
            return
        ways = (self._carry(reader, others[1]), self._carry(others[0], writer))
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in (writer, others[1]):
                end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._speaks.wait()
            writer.write(chunk)
            await writer.drain()
        await self._speaks.wait()


@contextmanager
def wire_to(target: Path) -> Iterator[Wire]:
    """A wire to a unix socket."""
    wire = Wire(target)

    with LoopThread() as loop:
        server = loop.call(wire.open())
        try:
            yield wire
        finally:
            loop.call(stop_listening(server))
