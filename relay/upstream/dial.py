"""From a host name to a connected socket: look-up, then the addresses in turn without waiting for dead ones.

RFC 8305 (happy eyeballs): both families take turns, and the next address is tried after a quarter of a second. Our
own because uvloop's create_connection has no such option, and because the look-up is a step of its own.
"""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

_NEXT_ATTEMPT_AFTER = 0.25


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a host, as the socket module takes it."""

    family: int
    protocol: int
    address: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.address[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"


async def resolve(host: str, port: int) -> tuple[Endpoint, ...]:
    """Return the addresses of a host, IPv6 and IPv4 in turn, in the system's order. Raises socket.gaierror."""
    loop = asyncio.get_running_loop()
    try:  # an address literal needs neither a thread nor a name server
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    endpoints = [Endpoint(family, protocol, address) for family, _, protocol, _, address in found]
    first = [endpoint for endpoint in endpoints if endpoint.family == endpoints[0].family]
    others = [endpoint for endpoint in endpoints if endpoint.family != endpoints[0].family]
    return tuple(endpoint for endpoint in chain(*zip_longest(first, others)) if endpoint is not None)


async def dial(endpoints: Sequence[Endpoint]) -> socket.socket:
    """Return a socket that is connected to the first endpoint that answers. Raises the first one's OSError.

    May be cancelled at any time: no socket stays open.
    """
    waiting = list(endpoints)
    tasks: list[asyncio.Task[socket.socket]] = []
    winner: asyncio.Task[socket.socket] | None = None
    try:
        while winner is None:
            if waiting:
                tasks.append(asyncio.create_task(_connect(waiting.pop(0))))
            running = [task for task in tasks if not task.done()]
            if not running and not waiting:
                break
            delay = _NEXT_ATTEMPT_AFTER if waiting else None
            await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            winner = next((task for task in tasks if task.done() and not task.exception()), None)
    finally:
        for task in tasks:
            if task is not winner:
                task.add_done_callback(_close_result)
                task.cancel()
    try:
        return (winner or tasks[0]).result()
    finally:
        del task, tasks  # a failed one holds its error, which holds this frame, and both would stay for a while


async def _connect(endpoint: Endpoint) -> socket.socket:
    connection = socket.socket(endpoint.family, socket.SOCK_STREAM, endpoint.protocol)
    try:
        connection.setblocking(False)
        # Commands are small and wait for an answer: they must not wait for a full segment (RFC 896).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, endpoint.address)
    except BaseException:
        connection.close()
        raise
    return connection


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
