"""Servers whose application is made when somebody first comes: until then there is a socket, and nothing else."""

import asyncio
import socket
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from relay.system.interpreter import in_short_turns, loading

P = ParamSpec("P")
T = TypeVar("T")


async def somebody(listening: socket.socket) -> None:
    """Wait until somebody connects. The connection is left to the server."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_reader(listening, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(listening)


async def made(make: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Make an application in a thread, while mail flows."""
    with loading():  # a look at all that is there would hold up a message afterwards
        return await in_short_turns(make, *args, **named)
