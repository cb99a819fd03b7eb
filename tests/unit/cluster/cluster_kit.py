"""Workers of one relay in one process: their peers, with lines to a hub that passes on as the supervisor does."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from relay.cluster.ipc import IpcConnection
from relay.cluster.peers import Peers
from relay.store.cluster.identity import Place


@asynccontextmanager
async def several(total: int) -> AsyncIterator[list[Peers]]:
    """Peers that hear each other; their ends of the lines are closed at the end."""
    hub, ends, jobs = dict[int, IpcConnection](), list[IpcConnection](), list[asyncio.Task[None]]()
    found = []
    for index in range(total):
        ours, theirs = socket.socketpair()
        hub[index] = await IpcConnection.over(ours)
        ends.append(await IpcConnection.over(theirs))
        found.append(Peers(ends[-1], Place(index=index, total=total, run="run")))

    async def pass_on(index: int) -> None:
        async for message in hub[index].messages():
            to = message.pop("to")
            for other in hub if to == "all" else [to]:
                if other != index:
                    hub[other].tell({**message, "from": index})

    jobs += [asyncio.create_task(pass_on(index)) for index in hub]
    jobs += [asyncio.create_task(one.listen(lambda: None)) for one in found]
    try:
        yield found
    finally:
        for line in (*ends, *hub.values()):
            line.close()
        await asyncio.gather(*jobs)


async def until(check: Callable[[], bool]) -> None:
    """Wait until something is so. TimeoutError after five seconds."""
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - the others are other event loops in real life
            await asyncio.sleep(0.01)
