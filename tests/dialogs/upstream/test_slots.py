"""Connections that a provider counts: those in use, those that nobody uses just now, and those that are closing."""

import asyncio
from dataclasses import replace

import pytest

from relay.directory.model import Account
from relay.upstream.outcome import Outcome
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Transfer
from tests.dialogs.upstream.upstream_kit import (
    FAST,
    Counting,
    Line,
    ScriptedServer,
    scripted,
    server_at,
    transfer_to,
    until,
)

pytestmark = pytest.mark.timeout(20)
GOOD = b"250 2.0.0 ok\r\n"


def transfer(server: ScriptedServer, account: str, **settings: object) -> Transfer:
    return transfer_to(server_at(server.port, **settings), account=Account("acme", account))


async def test_no_more_are_open_than_the_limit_also_while_old_ones_are_closed() -> None:
    async def slow_bye(line: Line) -> None:
        await asyncio.sleep(0.02)  # a slow server
        await line.send(b"221 2.0.0 bye\r\n")

    async with scripted(kind=Counting, answers={"QUIT": slow_bye}) as server:
        assert isinstance(server, Counting)
        way_out = Upstream("relay.example", FAST)
        each = transfer(server, "jane", max_connections=2, max_messages_per_connection=1)
        outcomes = await asyncio.gather(*(way_out.deliver(each) for _ in range(12)))
        assert all(outcome.accepted for outcome in outcomes)
        await way_out.aclose()
        assert len(server.lines) == 12
        assert server.most == 2


async def test_accounts_that_share_limits_share_the_connections() -> None:
    async with scripted(kind=Counting) as server:
        assert isinstance(server, Counting)
        way_out = Upstream("relay.example", FAST)
        all_ = [transfer(server, f"user{number % 5}", max_connections=3, shared_limits=True) for number in range(40)]
        outcomes = await asyncio.gather(*map(way_out.deliver, all_))
        assert all(outcome.accepted for outcome in outcomes)
        assert server.most <= 3
        assert sum(way_out.connections().values()) <= 3
        await way_out.aclose()
        assert way_out._slots == {}
        assert way_out._homes == {}


async def test_accounts_with_limits_of_their_own_do_not_wait_for_each_other() -> None:
    gate = asyncio.Event()

    async def wait(line: Line) -> None:
        await gate.wait()
        await line.send(GOOD)

    async with scripted(kind=Counting, answers={".": wait}) as server:
        assert isinstance(server, Counting)
        way_out = Upstream("relay.example", replace(FAST, final=5))
        tasks = [
            asyncio.create_task(way_out.deliver(transfer(server, f"user{number}", max_connections=1)))
            for number in range(3)
        ]
        await until(lambda: server.open_now == 3)
        gate.set()
        assert all(outcome.accepted for outcome in await asyncio.gather(*tasks))
        await way_out.aclose()


async def test_a_connection_that_cannot_be_opened_takes_nobodys_room() -> None:
    async with scripted(kind=Counting, answers={"greeting": [b"421 4.3.2 no\r\n", b"220 hello\r\n"]}) as server:
        way_out = Upstream("relay.example", FAST)
        each = transfer(server, "jane", max_connections=1)
        assert (await way_out.deliver(each)).failure
        assert (await way_out.deliver(each)).accepted
        await way_out.aclose()


async def test_a_cancelled_delivery_takes_nobodys_room() -> None:
    never = asyncio.Event()

    async def wait(line: Line) -> None:
        if line is line.server.lines[0]:
            await never.wait()
        await line.send(b"220 hello\r\n")

    async with scripted(kind=Counting, answers={"greeting": wait}) as server:
        way_out = Upstream("relay.example", replace(FAST, reply=5))
        each = transfer(server, "jane", max_connections=1)
        first = asyncio.create_task(way_out.deliver(each))
        await until(lambda: server.lines)
        first.cancel()
        await asyncio.wait({first})
        assert (await way_out.deliver(each)).accepted
        await way_out.aclose()


async def test_who_waits_for_room_has_it_also_after_the_limit_was_lowered() -> None:
    """A connection that comes back is closed for others then, and not kept until it is too old."""
    gates = {"<one@there.example>": asyncio.Event(), "<two@there.example>": asyncio.Event()}

    async def wait(line: Line) -> None:
        recipient = next(each for each in reversed(line.commands) if each.startswith("RCPT")).partition("TO:")[2]
        if recipient in gates:
            await gates[recipient].wait()
        await line.send(GOOD)

    async def slow_bye(line: Line) -> None:
        await asyncio.sleep(0.1)  # a slow server
        await line.send(b"221 2.0.0 bye\r\n")

    async with scripted(kind=Counting, answers={".": wait, "QUIT": slow_bye}) as server:
        assert isinstance(server, Counting)
        way_out = Upstream("relay.example", replace(FAST, idle=60, final=5, quit=1))

        def deliver(name: str, most: int, **settings: object) -> asyncio.Task[Outcome]:
            where = server_at(server.port, max_connections=most, shared_limits=True, **settings)
            one = transfer_to(where, f"{name}@there.example", account=Account("acme", name))
            return asyncio.create_task(way_out.deliver(one))

        busy = [deliver("one", 3), deliver("two", 3)]
        await until(lambda: len(server.messages) == 2)
        assert (await deliver("three", 3, max_messages_per_connection=1)).accepted  # its connection closes slowly
        waiting = [deliver("four", 3), deliver("five", 2)]
        await until(lambda: len(way_out._homes) == 2)
        assert len(server.lines) == 3
        gates["<one@there.example>"].set()
        assert (await waiting[0]).accepted
        gates["<two@there.example>"].set()
        assert all(outcome.accepted for outcome in await asyncio.gather(*busy, *waiting))
        await way_out.aclose()
