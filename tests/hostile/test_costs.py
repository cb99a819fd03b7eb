"""What costs an attacker little must cost us little: floods, slow clients, and messages made to be hard to read."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from relay.listener.session_limits import LeastRate, SessionLimits
from tests.dialogs.listener.listener_kit import RawClient, door
from tests.hostile.hard_messages import ENVELOPE, HARD, HEAD, MIB, greeted, submit
from tests.hostile.house import JANE, house
from tests.hostile.line import SECONDS, Line
from tests.peers.packages import program
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay
from tests.peers.system import LOOPBACK, free_port, run, wait_until

pytestmark = pytest.mark.slow

FEW_OF_CLIENT = 20


@pytest.fixture(scope="module")
def wire() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def outside() -> int:
    return free_port()


@pytest.fixture(scope="module")
def relay(wire: Recorder, outside: int) -> Iterator[Relay]:
    port = free_port()
    listeners = [
        {"name": "inside", "address": f"{LOOPBACK}:{port}"},
        {"name": "outside", "address": f"{LOOPBACK}:{outside}", "trusted_networks": []},
    ]
    settings = {"listener": listeners, "limits": {"connections_per_client": FEW_OF_CLIENT}}
    with house(wire.port, settings, port=port) as relay:
        yield relay


@asynccontextmanager
async def bystander(port: int) -> AsyncIterator[None]:
    """Another client, whose NOOPs must be answered all the while."""
    count = 0
    enough = asyncio.Event()

    async def ask() -> None:
        nonlocal count
        async with greeted(port) as line:
            while True:
                assert await line.ask(b"NOOP\r\n") == "250 2.0.0 Ok"
                count += 1
                if count >= 5:
                    enough.set()
                await asyncio.sleep(0.02)

    asking = asyncio.create_task(ask())
    try:
        yield
        await asyncio.wait_for(enough.wait(), SECONDS)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("name", HARD)
async def test_a_message_that_is_hard_to_read(name: str, relay: Relay, wire: Recorder) -> None:
    hard, count = HARD[name], len(wire.messages)
    memory = relay.memory()
    async with bystander(relay.port):
        await submit(relay.port, hard)
    assert len(wire.messages) - count == hard.reply.startswith("250")
    # A header block is 1 MiB at most, and for splitting it into 300,000 lines Python's `re` takes 60 MiB for a moment.
    assert relay.peak_memory() - memory < 4 * len(hard.text) + 64 * MIB


async def test_twenty_thousand_recipients_in_one_write(relay: Relay, wire: Recorder) -> None:
    """The first thousand are taken. From the ten thousandth command on the client has to wait for each answer."""
    count, memory = len(wire.messages), relay.memory()
    async with bystander(relay.port), greeted(relay.port) as line:
        rcpts = b"".join(b"RCPT TO:<you%d@customer.example>\r\n" % number for number in range(20_000))
        sending = asyncio.create_task(line.send(f"MAIL FROM:<{JANE}>\r\n".encode(), rcpts, b"RSET\r\n"))
        codes = [(await line.ask())[:9] for _ in range(9_000)]
        assert codes == ["250 2.1.0", *["250 2.1.5"] * 1000, *["452 4.5.3"] * 7_999]
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert len(wire.messages) == count
    assert relay.peak_memory() - memory < 16 * MIB


@pytest.mark.parametrize("command", [b"NOOP\r\n", b"RSET\r\n", b"EHLO a\r\n", b"VRFY a\r\n"])
async def test_a_flood_of_commands_leaves_the_others_their_turn(command: bytes, relay: Relay) -> None:
    memory = relay.memory()
    async with greeted(relay.port) as line:
        flood = asyncio.create_task(line.send(command * (3 * MIB // len(command))))
        async with bystander(relay.port):
            for _ in range(2_000):
                assert (await line.ask())[:3] in {"250", "252"}
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
    # What has not been answered is not read, so it waits in the client's machine.
    assert relay.peak_memory() - memory < 16 * MIB


async def test_one_address_cannot_take_every_connection(relay: Relay, outside: int) -> None:
    """Slowloris from outside: each holds a connection by an octet now and then, and only so many are let in."""
    wait_until(lambda: connections(relay) == 0, "that those of before are gone")
    lines = [await Line.connect(outside) for _ in range(3 * FEW_OF_CLIENT)]
    try:
        greetings = [await line.ask() for line in lines]
        assert [greeting[:3] for greeting in greetings].count("220") == FEW_OF_CLIENT
        assert {greeting[:9] for greeting in greetings} == {"220 relay", "421 4.7.0"}
        for octet in b"EHLO slow":
            for line in lines:
                await line.send(bytes([octet]))
        async with bystander(relay.port), greeted(relay.port) as line:
            await line.send(ENVELOPE, b"DATA\r\n", HEAD, b".\r\n")
            assert [(await line.ask())[:3] for _ in range(4)] == ["250", "250", "354", "250"]
    finally:
        for line in lines:
            line.close()


def connections(relay: Relay) -> int:
    return sum(worker["connections"] for worker in relay.ask("status")["workers"])


async def test_a_chunk_that_nobody_wants_holds_no_connection_for_ever() -> None:
    """RFC 3030 wants every octet of a refused chunk read, and its length can be anything."""
    session_limits = SessionLimits(least_rate=LeastRate(octets=1000, seconds=0.2))
    async with door(session_limits=session_limits) as relay, relay.client() as client:
        await client.begin()
        await client.send(b"BDAT 99999999999999999999\r\n")
        trickling = asyncio.create_task(trickle(client))
        assert (await client.line()).startswith("421 4.4.2 ")
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


async def trickle(client: RawClient) -> None:
    while True:
        await client.send(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.needs("smtp-source")
async def test_two_hundred_sessions_at_once_are_all_served(relay: Relay, wire: Recorder) -> None:
    count = len(wire.messages)
    argv = [program("smtp-source"), "-s", "200", "-m", "600", "-l", "4096", "-f", JANE, "-t", "you@customer.example"]
    async with bystander(relay.port):
        done = await asyncio.to_thread(run, [*argv, f"{LOOPBACK}:{relay.port}"], seconds=100)
    assert done.status == 0, done.text
    assert len(wire.messages) - count == 600
