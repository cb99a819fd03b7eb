"""The servers that play a part in tests end in order, whoever comes meanwhile; commands get their own answers."""

import asyncio
import gc
import os
import socket
import subprocess

import pytest

from relay import __version__
from tests.peers.loop import LoopThread, stop_listening
from tests.peers.preloaded import Preloaded
from tests.peers.system import LOOPBACK


@pytest.mark.parametrize("turns", range(6))
def test_who_comes_as_a_peer_ends_leaves_no_connection_open(turns: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.transport.abort()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, LOOPBACK, 0)

    async def end(server: asyncio.Server) -> None:
        client.connect(server.sockets[0].getsockname())
        for _ in range(turns):
            await asyncio.sleep(0)
        await stop_listening(server)

    with socket.socket() as client:
        with LoopThread() as loop:
            server = loop.call(start())
            loop.call(end(server))
        gc.collect()  # an open one is a warning, and a warning is an error


def test_a_command_that_takes_too_long_does_not_answer_the_next_one() -> None:
    relay = Preloaded(os.environ)
    with pytest.raises(subprocess.TimeoutExpired):
        relay.run("--help", seconds=0.01)
    try:
        answer = relay.run("--version", seconds=30)
        refusal = relay.run("such-a-thing", seconds=30)
    finally:
        relay.end()
    assert (answer.status, answer.out, answer.err) == (0, f"relay {__version__}\n", "")
    assert (refusal.status, refusal.out) == (2, "")
    assert "such-a-thing" in refusal.err
