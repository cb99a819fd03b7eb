"""How a session lives and ends: clients that stay, stop halfway, leave, or are met by a fault of ours."""

import asyncio
import socket
import struct

import pytest

from relay.listener.session_limits import MostCommands, SessionLimits
from tests.dialogs.listener.listener_kit import HELLO, MAIL, RCPT, SECRET, TEXT, RawClient, door, on_both_loops, within
from tests.peers.told import capture_logs

SLOW = b"RCPT TO:<slow@customer.example>\r\n"


@on_both_loops
async def test_a_whole_session_in_one_write() -> None:
    message = MAIL + RCPT + b"DATA\r\n" + TEXT + b".\r\n"
    async with door() as relay, relay.client() as client:
        await client.send(HELLO, message, message, b"NOOP\r\n", message, b"QUIT\r\n")
        codes = [line[:3] for line in (await client.until_closed()).decode().splitlines() if line[3] == " "]
        assert codes == ["220", "250", *["250", "250", "354", "250"] * 2, "250", "250", "250", "354", "250", "221"]
        assert [handed.content for handed in relay.acceptance.messages] == [TEXT] * 3


@on_both_loops
async def test_a_client_that_stops_sending_still_gets_its_reply() -> None:
    async with door() as relay, relay.client() as client:
        await client.send(HELLO, MAIL, SLOW, b"DATA\r\n", TEXT, b".\r\n")
        client.writer.write_eof()
        await within(relay.acceptance.begun.wait())
        relay.acceptance.gate.set()
        assert (await client.until_closed()).endswith(b"250 2.0.0 Ok: delivered via acmejets: taken\r\n")
        assert not relay.acceptance.messages[0].left.is_set()


@on_both_loops
async def test_a_message_goes_on_when_its_client_is_lost() -> None:
    async with door() as relay:
        async with relay.client() as client:
            await client.begin(MAIL, SLOW, b"DATA\r\n")
            await client.send(TEXT, b".\r\n")
            await within(relay.acceptance.begun.wait())
            _reset(client)
        handed = relay.acceptance.messages[0]
        await within(handed.left.wait())
        assert not relay.acceptance.finished.is_set()
        relay.acceptance.gate.set()
        await within(relay.acceptance.finished.wait())
        assert handed.reply is not None
        await relay.all_left()


def _reset(client: RawClient) -> None:
    """Leave as a process does that was killed: the kernel sends RST."""
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


STEPS = (b"", HELLO, MAIL, RCPT, b"DATA\r\n", TEXT, b".\r\n")


@pytest.mark.parametrize("steps", range(len(STEPS)))
@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "closed"])
async def test_a_client_may_leave_after_each_step(steps: int, is_reset: bool) -> None:
    async with door() as relay:
        async with relay.client() as client:
            await client.reply()
            await client.send(*STEPS[: steps + 1])
            if is_reset:
                _reset(client)
        await relay.all_left()
        # A client that closed after its final dot looks like one that only stopped sending.
        assert len(relay.acceptance.messages) <= (1 if steps == len(STEPS) - 1 else 0)


async def test_a_client_may_leave_after_each_byte_of_a_session() -> None:
    session = HELLO + MAIL + RCPT + b"DATA\r\nSubject: Hi\r\n\r\nHi\r\n.\r\n"
    with capture_logs() as lines:
        async with door() as relay:
            for end in range(len(session)):
                async with relay.client() as client:
                    await client.send(session[:end])
            await relay.all_left()
            assert relay.acceptance.messages == []
    assert [line for line in lines if line["log_level"] != "info"] == []


@on_both_loops
async def test_a_silent_client_is_sent_away() -> None:
    async with door(session_limits=SessionLimits(idle_seconds=0.5)) as relay, relay.client() as client:
        await client.begin()
        assert (await client.line()).startswith("421 4.4.2 ")
        assert await client.line() == ""


async def test_a_slow_line_is_no_sign_of_life() -> None:
    """Only a whole command counts, so that a client cannot hold its place with a byte now and then."""
    async with door(session_limits=SessionLimits(idle_seconds=1.0)) as relay, relay.client() as client:
        await client.begin()
        sender = asyncio.create_task(_drip(client, b"NOOP" + b" " * 400, pause=0.02))
        assert (await client.line()).startswith("421 4.4.2 ")
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


async def test_a_slow_message_that_flows_is_no_silence() -> None:
    async with door(session_limits=SessionLimits(idle_seconds=1.0)) as relay, relay.client() as client:
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        await _drip(client, TEXT, pause=0.12)  # 21 octets: more than twice the time that silence may take
        assert (await client.ask(b".\r\n")).startswith("250 2.0.0 ")


async def test_a_slow_hand_over_is_no_silence() -> None:
    async with door(session_limits=SessionLimits(idle_seconds=0.5)) as relay, relay.client() as client:
        await client.begin(MAIL, SLOW, b"DATA\r\n")
        await client.send(TEXT, b".\r\n")
        await within(relay.acceptance.begun.wait())
        asyncio.get_running_loop().call_later(1.5, relay.acceptance.gate.set)
        assert (await client.reply()).startswith("250 2.0.0 ")


async def _drip(client: RawClient, text: bytes, pause: float) -> None:
    for octet in text:
        await client.send(bytes([octet]))
        await asyncio.sleep(pause)  # the pace of a client


@on_both_loops
async def test_an_exception_is_told_to_the_log_and_not_to_the_client() -> None:
    with capture_logs() as lines:
        async with door() as relay, relay.client() as client:
            await client.begin()
            at_mail = await client.ask(b"MAIL FROM:<crash@acmejets.example>\r\n")
            assert (await client.ask(MAIL))[:3] == "250"
            assert (await client.ask(b"RCPT TO:<crash@customer.example>\r\n"))[:3] == "250"
            assert (await client.ask(b"DATA\r\n"))[:3] == "354"
            at_data = await client.ask(TEXT, b".\r\n")
            # The message is forgotten, and the session goes on.
            assert (await client.ask(b"DATA\r\n")).startswith("503 5.5.1 ")
            assert (await client.ask(MAIL))[:3] == "250"
    assert at_mail == at_data == "451 4.3.0 Something went wrong here; please try again later"
    broken = [line for line in lines if line["event"] == "broken"]
    assert len(broken) == 2
    assert all(line["exc_info"] for line in broken)
    assert SECRET not in at_mail


async def test_a_fault_before_the_greeting_ends_that_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_gate: object, _peername: object) -> None:
        raise RuntimeError(SECRET)

    with capture_logs() as lines:
        async with door() as relay, relay.client() as before:
            await before.begin()
            monkeypatch.setattr("relay.listener.client_identity.ClientRules.client_of", fail)
            async with relay.client() as client:
                assert await client.until_closed() == b""
            assert (await before.ask(b"NOOP\r\n"))[:3] == "250"
    assert [line["what"] for line in lines if line["event"] == "broken"] == ["a session ended by a fault"]


async def test_a_client_that_never_reads_is_cut_off() -> None:
    session_limits = SessionLimits(idle_seconds=1.0, most_commands=MostCommands(at_once=1_000_000))
    async with door(session_limits=session_limits) as relay, relay.client() as deaf:
        await deaf.begin()
        transport = deaf.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        flood = asyncio.create_task(deaf.send(b"HELP\r\n" * 500_000))
        await relay.all_left()
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
        transport.abort()


async def test_after_a_fault_within_data_nothing_is_read_as_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_reader: object, _chunk: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr("relay.mail.content.ContentReader.feed", fail)
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        assert (await client.ask(TEXT, MAIL, RCPT)).startswith("421 4.3.0 ")
        assert await client.line() == ""


@on_both_loops
async def test_a_client_that_does_not_read_stops_nobody_else() -> None:
    async with door() as relay, relay.client() as deaf, relay.client() as client:
        await client.begin()
        flood = asyncio.create_task(deaf.send(b"HELP\r\n" * 200_000))
        for _ in range(50):
            assert (await client.ask(b"NOOP\r\n")) == "250 2.0.0 Ok"
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
        deaf.writer.transport.abort()


async def test_acceptance_is_told_who_sent_what_and_how() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(
            b"MAIL FROM:<support@acmejets.example> SIZE=21 BODY=8BITMIME SMTPUTF8\r\n", RCPT, b"DATA\r\n"
        )
        await client.ask(TEXT, b".\r\n")
        handed = relay.acceptance.messages[0]
    assert (handed.client.name, handed.client.may_send_as, handed.client.is_trusted) == ("127.0.0.1", ("*",), True)
    assert str(handed.envelope.sender) == "support@acmejets.example"
    assert [str(recipient.address) for recipient in handed.envelope.recipients] == ["jo@customer.example"]
    assert (handed.envelope.size, handed.envelope.body, handed.envelope.smtputf8) == (21, "8BITMIME", True)
    arrival = handed.arrival
    assert (arrival.helo, arrival.peer, arrival.hostname) == ("client.example", "127.0.0.1", "relay.example")
    assert arrival.protocol == "UTF8SMTP"
    assert arrival.received_at.tzinfo is not None
