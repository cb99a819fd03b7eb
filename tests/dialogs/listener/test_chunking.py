"""BDAT. The invariant: a chunk is its octets, whatever they are, and nothing of it is ever read as a command."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.settings import Limits, Listener
from relay.listener.commands import BdatCommand, CommandFault, parse_bdat
from relay.listener.session_limits import MostCommands, SessionLimits
from tests.dialogs.listener.listener_kit import (
    MAIL,
    RCPT,
    TEXT,
    Door,
    certificate,
    door,
    on_both_loops,
    trusting_context,
)
from tests.peers.told import capture_logs

MIB = 1024 * 1024
# What would end a message, or be a command, if it were looked at.
TRAPS = b"Subject: Traps\r\n\r\n.\r\n..\r\nQUIT\r\nBDAT 5 LAST\r\nRSET\r\n.\r\nMAIL FROM:<foreign@acmejets.example>\r\n"


def bdat(text: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n%s" % (len(text), b" LAST" * last, text)


def pieces(text: bytes, size: int) -> list[bytes]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def in_chunks(text: bytes, size: int) -> bytes:
    return b"".join(bdat(piece) for piece in pieces(text, size)) + b"BDAT 0 LAST\r\n"


@pytest.mark.parametrize("argument", [b"0", b"12", b"00012", b"9" * 20])
def test_a_chunk(argument: bytes) -> None:
    assert parse_bdat(argument) == BdatCommand(int(argument))
    assert parse_bdat(argument + b" last") == BdatCommand(int(argument), is_last=True)


@pytest.mark.parametrize(
    "argument", [b"", b"LAST", b"-1", b"+1", b"1.5", b"0x10", b"1 2", b"1 LAST LAST", b"1LAST", b"9" * 21, b"\xd9\xa1"]
)
def test_no_chunk(argument: bytes) -> None:
    with pytest.raises(CommandFault, match=r"501 5\.5\.4 Syntax: BDAT"):
        parse_bdat(argument)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@on_both_loops
async def test_a_message_in_chunks_of_any_size_pipelined_with_its_envelope(size: int) -> None:
    async with door() as relay, relay.client() as client:
        await client.begin()
        await client.send(MAIL, RCPT, in_chunks(TRAPS, size), MAIL)
        codes = [(await client.reply())[:3] for _ in range(2 + len(pieces(TRAPS, size)) + 1 + 1)]
        assert set(codes) == {"250"}
        assert [handed.content for handed in relay.acceptance.messages] == [TRAPS]


async def test_a_message_in_chunks_octet_by_octet() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, RCPT)
        for octet in bdat(TRAPS[:20]) + bdat(TRAPS[20:], last=True):
            await client.send(bytes([octet]))
        assert await client.reply() == "250 2.0.0 20 octets received"
        assert (await client.reply()).startswith("250 2.0.0 Ok: ")
        assert relay.acceptance.messages[0].content == TRAPS


async def test_chunks_under_tls_pipelined() -> None:
    with certificate() as pair:
        listener = Listener(address="127.0.0.1:0", security="tls")
        async with door(listener, certificate=pair) as relay, relay.client(tls=trusting_context()) as client:
            await client.begin()
            text = TRAPS + b"x" * MIB + b"\r\n"
            await client.send(MAIL, RCPT, in_chunks(text, 100_000), b"QUIT\r\n")
            answers = (await client.until_closed()).decode().splitlines()
            assert {answer[:3] for answer in answers[:-1]} == {"250"}
            assert answers[-1][:3] == "221"
            assert relay.acceptance.messages[0].content == text
            assert relay.acceptance.messages[0].arrival.protocol == "ESMTPS"


async def answers_to(relay: Door, *sent: bytes) -> list[str]:
    async with relay.client() as client:
        await client.begin()
        await client.send(*sent, b"QUIT\r\n")
        return (await client.until_closed()).decode().splitlines()[:-1]


@given(
    st.lists(st.tuples(st.sampled_from([b"QUIT\r\n", b"\r\n.\r\n", b"DATA\r\n", b"x", b""]), st.booleans()), max_size=6)
)
def test_refused_chunks_pass_by_wherever_they_end(chunks: list[tuple[bytes, bool]]) -> None:
    async def play() -> None:
        async with door(session_limits=SessionLimits(errors=100)) as relay:
            answers = await answers_to(relay, *[bdat(text, last=last) for text, last in chunks])
            assert answers == ["503 5.5.1 Send MAIL first"] * len(chunks)
            assert relay.acceptance.messages == []

    asyncio.run(play())


async def test_a_refused_chunk_of_a_message_never_becomes_half_a_message() -> None:
    refused = b"RCPT TO:<nobody>\r\n"
    async with door(session_limits=SessionLimits(errors=100)) as relay:
        answers = await answers_to(relay, MAIL, refused, bdat(b"a: b\r\n"), RCPT, bdat(b"c: d\r\n", last=True))
        assert [answer[:3] for answer in answers] == ["250", "501", "554", "503", "554"]
        assert relay.acceptance.messages == []
        # With the last chunk that message is over.
        answers = await answers_to(relay, MAIL, refused, bdat(TEXT, last=True), MAIL, RCPT, bdat(TEXT, last=True))
        assert [answer[:3] for answer in answers] == ["250", "501", "554", "250", "250", "250"]
        assert len(relay.acceptance.messages) == 1


@pytest.mark.parametrize("reset", [b"RSET\r\n", b"EHLO client.example\r\n"])
async def test_a_reset_forgets_the_chunks_and_their_memory(reset: bytes) -> None:
    async with door(session_limits=SessionLimits(memory=100)) as relay:
        for _ in range(5):
            answers = await answers_to(
                relay, MAIL, RCPT, bdat(b"a: b\r\n" * 10), reset, MAIL, RCPT, bdat(TEXT, last=True)
            )
            assert [answer[:3] for answer in answers if answer[3] == " "] == ["250"] * 7
        assert [handed.content for handed in relay.acceptance.messages] == [TEXT] * 5
        assert relay.listeners._context.memory.free == 100


async def test_a_client_that_leaves_within_its_chunks_frees_their_memory() -> None:
    whole = MAIL + RCPT + bdat(b"Subject: Half\r\n") + bdat(b"\r\nHello\r\n", last=True)
    async with door(session_limits=SessionLimits(memory=100)) as relay:
        for count in range(0, len(whole), 3):
            async with relay.client() as client:
                await client.begin()
                await client.send(whole[:count])
        await relay.all_left()
        assert relay.listeners._context.memory.free == 100
        assert relay.acceptance.messages == []


async def test_what_is_too_large_is_refused_at_once_and_passes_by() -> None:
    async with door(limits=Limits(message_size=1000)) as relay:
        answers = await answers_to(relay, MAIL, RCPT, bdat(b"x" * 600), bdat(b"x" * 600), bdat(TEXT, last=True), MAIL)
        assert [answer[:9] for answer in answers] == ["250 2.1.0", "250 2.1.5", "250 2.0.0"] + ["552 5.3.4"] * 2 + [
            "250 2.1.0"
        ]
        assert relay.acceptance.messages == []


async def test_a_refusal_is_in_the_log() -> None:
    with capture_logs() as lines:
        async with door(limits=Limits(message_size=10)) as relay:
            await answers_to(relay, MAIL, RCPT, bdat(TEXT, last=True))
    assert [line["reply"][:9] for line in lines if line["event"] == "refused"] == ["552 5.3.4"]


async def test_stopping_waits_for_the_chunk_that_is_coming() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, RCPT)
        # The first chunk's answer says that the second's beginning has been read, too.
        assert await client.ask(bdat(b"a: b"), b"BDAT 10 LAST\r\n\r\n") == "250 2.0.0 4 octets received"
        stopping = asyncio.create_task(relay.listeners.stop(patience=10))
        await client.send(b"\r\nHello\n")
        answers = (await client.until_closed()).decode().splitlines()
        assert [answer[:9] for answer in answers] == ["250 2.0.0", "421 4.3.2"]
        await stopping


async def test_many_small_chunks_in_one_write_cost_little() -> None:
    """Each chunk is cut off the front of what has come; were the rest copied each time, this would take minutes."""
    count = 100_000
    chunk = bdat(b"x")
    session_limits = SessionLimits(most_commands=MostCommands(at_once=2 * count))
    async with door(session_limits=session_limits) as relay, relay.client() as client:
        await client.begin(MAIL, RCPT)
        client.writer.write(bdat(b"a: b\r\n\r\n") + chunk * count + b"BDAT 0 LAST\r\n")
        async with asyncio.timeout(60):
            for _ in itertools.repeat(None, count + 1):
                assert (await client.reader.readline())[:4] == b"250 "
            assert (await client.reply()).startswith("250 2.0.0 Ok")
        assert relay.acceptance.messages[0].content == b"a: b\r\n\r\n" + b"x" * count + b"\r\n"
