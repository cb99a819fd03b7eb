"""What a thousand clients cost that are connected and say nothing."""

import asyncio
import resource
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.fixtures import Certificates
from tests.peers.relay import one_channel, open_server, relay_process
from tests.peers.system import LOOPBACK, free_port

CLIENTS = 1000
MIB = 1024 * 1024
# One of each client's two connections at a time: so many handshakes are under way together.
_AT_ONCE = 50


@contextmanager
def many_descriptors() -> Iterator[None]:
    """This process has as many connections as the relay; the relay sees to itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where the hard limit is lower this raises: the test cannot say anything there, and must not seem to.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CLIENTS), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("security", ["none", "tls"])
async def test_a_thousand_idle_clients_cost_less_than_sixty_mebibytes(
    security: str, certificates: Certificates, tmp_path: Path
) -> None:
    pair = tmp_path / "pair.pem"
    pair.write_bytes(certificates.server)
    pair.chmod(0o600)
    port = free_port()
    listeners = [
        {"address": f"{LOOPBACK}:{port}", "security": security},
        {"name": "look", "address": f"{LOOPBACK}:{free_port()}"},
    ]
    settings = {
        "listener": listeners,
        "tls": {"certificate": str(pair), "key": str(pair)},
        "limits": {"connections": CLIENTS + 10},
    }
    with many_descriptors(), relay_process(one_channel(open_server(free_port())), settings, starts=False) as relay:
        relay.port = int(listeners[1]["address"].rpartition(":")[2])
        relay.start("sh", "-c", 'ulimit -Sn 1024; exec "$@"', "sh")
        context = ssl.create_default_context(cafile=str(certificates.ca_file)) if security == "tls" else None
        # The first handshakes make what all share.
        await close(await connected(10, port, context))
        before = relay.memory()
        clients = await connected(CLIENTS, port, context)
        cost = relay.memory() - before
        await close(clients)
    assert len(clients) == CLIENTS
    assert cost < 60 * MIB


async def connected(count: int, port: int, context: ssl.SSLContext | None) -> list[asyncio.StreamWriter]:
    """Clients that were greeted and have said EHLO."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def connect() -> asyncio.StreamWriter:
        async with turn:
            reader, writer = await asyncio.open_connection(LOOPBACK, port, ssl=context)
            assert (await reader.readline()).startswith(b"220 ")
            writer.write(b"EHLO client.test\r\n")
            while (await reader.readline())[3:4] == b"-":
                pass
            return writer

    return await asyncio.gather(*[connect() for _ in range(count)])


async def close(writers: list[asyncio.StreamWriter]) -> None:
    """Leave without a good-bye."""
    for writer in writers:
        writer.transport.abort()
