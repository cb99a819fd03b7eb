"""Run as a program: `python -m tests.bench.delay PORT TARGET SECONDS`, a way to port TARGET that is SECONDS long.

Every chunk passes so much later than it came, in each direction: a round trip takes twice that.
"""

import asyncio
import sys
from contextlib import suppress

import uvloop

from tests.peers.system import LOOPBACK

_CHUNK = 64 * 1024
_CHUNKS = 64  # on their way in one direction of a connection, at most


async def _read(reader: asyncio.StreamReader, way: asyncio.Queue[tuple[float, bytes]], seconds: float) -> None:
    """Put what comes on the way, with the time of its arrival; b"" is the end."""
    loop = asyncio.get_running_loop()
    data = b"more"
    while data:
        data = b""
        with suppress(ConnectionError):
            data = await reader.read(_CHUNK)
        await way.put((loop.time() + seconds, data))


async def _write(way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, data = await way.get()
        await asyncio.sleep(due - loop.time())
        if not data:
            writer.close()
            return
        writer.write(data)
        with suppress(ConnectionError):
            await writer.drain()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Carry one direction to its end."""
    way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)
    await asyncio.gather(_read(reader, way, seconds), _write(way, writer))


async def _serve(port: int, target: int, seconds: float) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection(LOOPBACK, target)
        await asyncio.gather(_carry(reader, target_writer, seconds), _carry(target_reader, writer, seconds))

    server = await asyncio.start_server(pass_on, LOOPBACK, port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
