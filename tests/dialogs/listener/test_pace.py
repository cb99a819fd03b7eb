"""How slow and how fast a client may be."""

import asyncio

import pytest

from relay.listener.session_limits import Commands, Flow, LeastRate, MostCommands, SessionLimits
from tests.dialogs.listener.listener_kit import MAIL, RCPT, TEXT, door, within

RATE = LeastRate(octets=500, seconds=60)


@pytest.mark.parametrize(
    ("came", "is_too_slow"),
    [
        ([(59.9, 0)], False),  # within the first window anything goes
        ([(60.0, 29_999)], True),
        ([(60.0, 30_000)], False),
        ([(10.0, 1_000_000), (70.0, 0), (100.0, 1)], False),
        ([(10.0, 1_000_000), (70.0, 0), (130.1, 1)], True),
        ([(300.0, 200_000)], False),  # a long pause after much
    ],
)
def test_a_message_must_flow(came: list[tuple[float, int]], is_too_slow: bool) -> None:
    flow = Flow(RATE, 0.0)
    assert [flow.is_too_slow(octets, now) for now, octets in came][-1] is is_too_slow


def test_a_flood_of_commands_is_slowed_to_the_rate() -> None:
    commands = Commands(MostCommands(at_once=10, a_second=100), 0.0)
    assert [commands.pause(0.0) for _ in range(10)] == [0.0] * 10
    assert commands.pause(0.0) == pytest.approx(0.01)
    assert commands.pause(0.01) == pytest.approx(0.01)
    # Ten seconds without a command are no more than a full bucket.
    assert [commands.pause(10.0) for _ in range(10)] == [0.0] * 10
    assert commands.pause(10.0) == pytest.approx(0.01)
    commands.forgive()
    assert commands.pause(10.0) == 0.0


async def test_a_flood_of_commands_is_slowed_and_nobody_else_is() -> None:
    session_limits = SessionLimits(most_commands=MostCommands(at_once=5, a_second=20))
    async with door(session_limits=session_limits) as relay, relay.client() as flood, relay.client() as client:
        await flood.begin()
        await client.begin()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await flood.send(b"NOOP\r\n" * 14)
        assert (await client.ask(b"NOOP\r\n"))[:3] == "250"
        for _ in range(14):
            assert (await flood.reply())[:3] == "250"
        # EHLO and fourteen NOOPs are ten more than five: twenty a second. The last answer waits for nothing, and the
        # first of the ten may have waited before the clock began.
        assert loop.time() - began >= 8 / 20


async def test_messages_are_never_slowed() -> None:
    session_limits = SessionLimits(most_commands=MostCommands(at_once=10, a_second=0.01))
    async with door(session_limits=session_limits) as relay, relay.client() as client:
        await client.begin()
        for _ in range(20):
            await client.send(MAIL, RCPT, b"DATA\r\n", TEXT, b".\r\n")
            assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]


async def test_a_message_that_trickles_is_ended() -> None:
    session_limits = SessionLimits(least_rate=LeastRate(octets=1000, seconds=0.2))
    async with door(session_limits=session_limits) as relay, relay.client() as client:
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        sending = asyncio.create_task(_trickle(client.writer))
        assert (await client.line()).startswith("421 4.4.2 The message came too slowly")
        assert await client.line() == ""
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert relay.acceptance.messages == []


async def _trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.02)


async def test_two_hundred_clients_that_trickle_delay_nobody() -> None:
    async with door() as relay:
        slow = [await asyncio.open_connection(*_place(relay.listeners.addresses[0])) for _ in range(200)]
        trickling = [asyncio.create_task(_trickle(writer)) for _, writer in slow]
        async with relay.client() as client:
            await client.begin()
            for _ in range(20):
                await client.send(MAIL, RCPT, b"DATA\r\n", TEXT, b".\r\n")
                assert [(await within(client.reply()))[:3] for _ in range(4)] == ["250", "250", "354", "250"]
        assert relay.listeners.connections >= 200
        for task in trickling:
            task.cancel()
        await asyncio.gather(*trickling, return_exceptions=True)
        for _, writer in slow:
            writer.transport.abort()
        await relay.all_left()


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
