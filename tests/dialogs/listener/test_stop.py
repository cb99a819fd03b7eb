"""Stopping: nobody new, silent sessions soon, a message that is on its way or about to be first."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from relay.listener.session_limits import SessionLimits
from tests.dialogs.listener.listener_kit import HELLO, MAIL, RCPT, TEXT, door, on_both_loops, within

SLOW = b"RCPT TO:<slow@customer.example>\r\n"


async def is_let_in(connected: socket.socket) -> None:
    """See that a client is greeted, and goes as it likes."""
    reader, writer = await asyncio.open_connection(sock=connected)
    assert (await within(reader.readline())).startswith(b"220 ")
    writer.write(b"QUIT\r\n")
    assert (await within(reader.readline())).startswith(b"221 ")
    writer.close()


@on_both_loops
async def test_idle_sessions_are_told_and_closed() -> None:
    async with door() as relay, relay.client() as idle, relay.client() as begun:
        await idle.begin()
        await begun.begin(MAIL, RCPT)
        await within(relay.listeners.stop(patience=10))
        for client in (idle, begun):
            assert (await client.line()).startswith("421 4.3.2 ")
            assert await client.line() == ""
        assert relay.listeners.connections == 0


@on_both_loops
async def test_a_client_that_is_about_to_send_a_message_sends_it() -> None:
    async with door(session_limits=SessionLimits(lull=10, farewell=10)) as relay, relay.client() as client:
        await client.begin()
        stopping = asyncio.create_task(relay.listeners.stop(patience=10))
        for command in (MAIL, RCPT, b"DATA\r\n"):
            assert (await client.ask(command))[:1] in {"2", "3"}
        assert (await client.ask(TEXT, b".\r\n")).startswith("250 2.0.0 ")
        assert (await client.line()).startswith("421 4.3.2 ")
        assert await client.line() == ""
        await within(stopping)


@on_both_loops
async def test_a_message_in_chunks_is_sent_to_its_end() -> None:
    async with door(session_limits=SessionLimits(lull=10, farewell=10)) as relay, relay.client() as client:
        await client.begin(MAIL, RCPT, b"BDAT 4\r\nA: b")
        stopping = asyncio.create_task(relay.listeners.stop(patience=10))
        assert (await client.ask(b"BDAT 2\r\n\r\n")).startswith("250 2.0.0 ")
        assert (await client.ask(b"BDAT 4 LAST\r\n\r\nc\n")).startswith("250 2.0.0 ")
        assert (await client.line()).startswith("421 4.3.2 ")
        await within(stopping)
        assert len(relay.acceptance.messages) == 1


@on_both_loops
async def test_who_talks_without_end_is_told_in_the_end() -> None:
    async with door(session_limits=SessionLimits(lull=10, farewell=0.2)) as relay, relay.client() as client:
        await client.begin()
        stopping = asyncio.create_task(relay.listeners.stop(patience=10))
        while (reply := await client.ask(b"NOOP\r\n")).startswith("250 "):
            pass
        assert reply.startswith("421 4.3.2 ")
        await within(stopping)


@on_both_loops
async def test_who_was_accepted_when_it_began_is_let_in() -> None:
    async with door(session_limits=SessionLimits(lull=10, farewell=10)) as relay:
        async with relay.client() as client:
            # The connection is there, and its session is not yet.
            stopping = asyncio.create_task(relay.listeners.stop(patience=10))
            await client.begin(MAIL, RCPT, b"DATA\r\n")
            assert (await client.ask(TEXT, b".\r\n")).startswith("250 2.0.0 ")
        await within(stopping)


@on_both_loops
async def test_who_waits_to_be_accepted_is_let_in() -> None:
    """The kernel would cut off whoever stands at a socket that is closed; a busy loop is late to look there."""
    async with door(session_limits=SessionLimits(lull=10, farewell=10)) as relay:
        host, port = relay.listeners.addresses[0].rsplit(":", 1)
        stopping = asyncio.create_task(relay.listeners.stop(patience=10))
        with ExitStack() as stack:
            # Nothing awaits here: the loop hears of none of them before it stops to listen.
            late = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(5)]
            for one in late:
                await is_let_in(one)
        await within(stopping)


@on_both_loops
@pytest.mark.parametrize("turns", range(5))
async def test_who_is_just_being_accepted_is_let_in(turns: int) -> None:
    """asyncio gives a connection its transport one turn after it took it, and only where the server is open then."""
    async with door(session_limits=SessionLimits(lull=10, farewell=10)) as relay:
        host, port = relay.listeners.addresses[0].rsplit(":", 1)
        with socket.create_connection((host, int(port))) as late:
            for _ in range(turns):
                await asyncio.sleep(0)
            stopping = asyncio.create_task(relay.listeners.stop(patience=10))
            await is_let_in(late)
        await within(stopping)


@on_both_loops
async def test_nobody_new_is_let_in() -> None:
    async with door() as relay:
        address = relay.listeners.addresses[0]
        await relay.listeners.stop(patience=0)
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            async with relay.client(address):
                pass


@on_both_loops
async def test_a_message_on_its_way_is_finished_first() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, SLOW, b"DATA\r\n")
        await client.send(TEXT, b".\r\n")
        await within(relay.acceptance.begun.wait())
        stopping = asyncio.create_task(relay.listeners.stop(patience=10))
        await asyncio.sleep(0)
        assert not stopping.done()
        relay.acceptance.gate.set()
        assert (await client.line()).startswith("250 2.0.0 ")
        assert (await client.line()).startswith("421 4.3.2 ")
        assert await client.line() == ""
        await within(stopping)


async def test_a_message_that_is_being_received_is_finished_first() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        stopping = asyncio.create_task(relay.listeners.stop(patience=10))
        await client.send(TEXT)
        assert (await client.ask(b".\r\n", MAIL)).startswith("250 2.0.0 ")
        assert (await client.line()).startswith("421 4.3.2 ")
        await within(stopping)
        assert len(relay.acceptance.messages) == 1


@on_both_loops
async def test_who_waits_long_is_hurried_and_has_an_answer() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, b"RCPT TO:<hasty@customer.example>\r\n", b"DATA\r\n")
        await client.send(TEXT, b".\r\n")
        await within(relay.acceptance.begun.wait())
        stopping = asyncio.create_task(relay.listeners.stop(patience=4))
        assert (await client.line()).startswith("250 2.0.0 ")
        assert (await client.line()).startswith("421 4.3.2 ")
        await within(stopping)
        assert relay.acceptance.messages[0].hurried == [1.0], (
            "less than what is left: half is calm, a quarter is for sending"
        )


@on_both_loops
async def test_a_message_that_comes_when_others_are_hurried_is_hurried_too() -> None:
    patient = SessionLimits(lull=10, farewell=10)
    async with door(session_limits=patient) as relay, relay.client() as client, relay.client() as other:
        await other.begin(MAIL, b"RCPT TO:<hasty@customer.example>\r\n", b"DATA\r\n")
        await other.send(TEXT, b".\r\n")
        await within(relay.acceptance.begun.wait())
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        stopping = asyncio.create_task(relay.listeners.stop(patience=4))
        assert (await other.line()).startswith("250 2.0.0 ")  # it was hurried: what comes now comes late
        assert (await client.ask(TEXT, b".\r\n")).startswith("250 2.0.0 ")
        earlier, late = (one.hurried for one in relay.acceptance.messages)
        assert earlier == [1.0]
        assert len(late) == 1, "as it came"
        assert 0.0 <= late[0] <= 1.0, "what is left of that second"
        await within(stopping)


@on_both_loops
async def test_patience_ends_and_the_hand_over_goes_on_without_its_client() -> None:
    async with door() as relay, relay.client() as client, relay.client() as sender:
        await client.begin(MAIL, SLOW, b"DATA\r\n")
        await client.send(TEXT, b".\r\n")
        await sender.begin(MAIL, RCPT, b"DATA\r\n")
        await within(relay.acceptance.begun.wait())
        await within(relay.listeners.stop(patience=0.05))
        assert await client.line() == ""
        assert await sender.line() == ""
        await within(relay.acceptance.messages[0].left.wait())
        assert not relay.acceptance.finished.is_set()
        relay.acceptance.gate.set()
        await within(relay.acceptance.finished.wait())
        assert relay.acceptance.messages[0].reply is not None
        await relay.all_left()


async def test_a_client_that_connects_while_stopping_is_sent_away() -> None:
    """Its connection may wait in the kernel when the listening ends."""
    async with door() as relay, relay.client() as client:
        await client.reply()
        relay.listeners._registry._is_stopping = True
        async with relay.client() as late:
            assert (await late.reply()).startswith("421 4.3.2 ")
        relay.listeners._registry._is_stopping = False
        assert (await client.ask(HELLO))[:3] == "250"
