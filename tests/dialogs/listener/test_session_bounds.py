"""How much a client may cost: size, memory, connections and errors. How long: a bound of tests/bench."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.config.settings import Limits, Listener
from relay.listener.commands import LONGEST_LINE
from tests.dialogs.listener.listener_kit import HELLO, MAIL, RCPT, TEXT, RawClient, door
from tests.dialogs.listener.measured_listener import MeasuredListener, measured_listener

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


@asynccontextmanager
async def client_of(process: MeasuredListener) -> AsyncIterator[RawClient]:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", process.port))
    try:
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize(
    "line",
    [b"\r\n", b"\n", b"..\r\n", b"x" * 76 + b"\r\n", b"x" * (MIB - 2) + b"\r\n"],
    ids=["empty", "bare LF", "dots", "common", "1 MiB"],
)
async def test_sixteen_mebibytes_of_lines(line: bytes) -> None:
    text = b"Subject: Big\n\n" if line == b"\n" else b"Subject: Big\r\n\r\n"
    text += line * (16 * MIB // len(line))
    with measured_listener() as process:
        async with client_of(process) as client:
            memory = process.memory
            answer = await client.ask(text, b"\r\n.\r\n")
            memory_after = process.memory
    assert answer.startswith("250 ")
    assert memory_after - memory < 3 * max(len(text), int(answer.split()[3]))


async def test_what_is_over_the_limit_is_not_kept() -> None:
    with measured_listener() as process:
        async with client_of(process) as client:
            memory = process.memory
            chunk = (b"x" * 1000 + b"\r\n") * 1024
            for _ in range(100):
                await client.send(chunk)
            answer = await client.ask(b".\r\n")
            memory_after = process.memory
    assert answer.startswith("552 5.3.4 ")
    assert memory_after - memory < 3 * 36 * MIB


async def test_a_line_of_one_mebibyte_is_accepted() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL, RCPT, b"DATA\r\n")
        text = b"Subject: Long\r\n\r\n" + b"x" * MIB + b"\r\n"
        assert (await client.ask(text, b".\r\n"))[:3] == "250"
        assert relay.acceptance.messages[0].content == text


@pytest.mark.parametrize(
    ("length", "code"), [(LONGEST_LINE, "250"), (LONGEST_LINE + 1, "500"), (LONGEST_LINE * 100, "500")]
)
async def test_a_long_command_line(length: int, code: str) -> None:
    async with door() as relay, relay.client() as client:
        await client.begin()
        line = b"NOOP " + b"x" * (length - 6) + b"\r\n"
        assert (await client.ask(line, b"VRFY a\r\n"))[:3] == code
        assert (await client.reply())[:3] == "252"


async def test_a_command_line_octet_by_octet() -> None:
    async with door() as relay, relay.client() as client:
        await client.reply()
        for octet in HELLO + MAIL + RCPT:
            await client.send(bytes([octet]))
        for _ in range(3):
            assert (await client.reply())[:3] == "250"


async def test_twenty_errors_end_a_session() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin()
        await client.send(b"WHAT\r\n" * 30)
        replies = (await client.until_closed()).decode().splitlines()
        assert [reply[:9] for reply in replies] == ["500 5.5.2"] * 19 + ["421 4.7.0"]


async def test_a_list_of_recipients_after_a_refused_sender_is_no_error() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin()
        await client.send(b"MAIL FROM:<stranger@acmejets.example>\r\n", RCPT * 100, b"QUIT\r\n")
        replies = (await client.until_closed()).decode().splitlines()
        assert [reply[:9] for reply in replies] == ["550 5.7.1", *["503 5.5.1"] * 100, "221 2.0.0"]


async def test_ten_thousand_recipients_in_one_write() -> None:
    async with door() as relay, relay.client() as client:
        await client.begin(MAIL)
        sending = asyncio.create_task(client.send(RCPT * 10_000, b"DATA\r\n"))
        codes = [(await client.reply())[:9] for _ in range(10_000)]
        await sending
        assert codes == ["250 2.1.5"] * 1000 + ["452 4.5.3"] * 9000
        assert (await client.reply())[:3] == "354"
        assert (await client.ask(TEXT, b".\r\n"))[:3] == "250"
        assert len(relay.acceptance.messages[0].envelope.recipients) == 1000


async def test_no_more_connections_than_allowed() -> None:
    async with door(limits=Limits(connections=2)) as relay:
        async with relay.client() as first, relay.client() as second:
            assert [(await client.reply())[:3] for client in (first, second)] == ["220", "220"]
            async with relay.client() as third:
                assert (await third.reply()).startswith("421 4.7.0 Too many connections; ")
                assert await third.line() == ""
        await relay.all_left()
        async with relay.client() as fourth:
            assert (await fourth.reply())[:3] == "220"


async def test_no_more_connections_of_one_client_than_allowed_unless_it_is_trusted() -> None:
    outside = Listener(address="127.0.0.1:0", trusted_networks=())
    inside = Listener(address="127.0.0.1:0")
    async with door(outside, inside, limits=Limits(connections_per_client=1)) as relay:
        outer, inner = relay.listeners.addresses
        async with relay.client(inner) as first, relay.client(inner) as second, relay.client(outer) as third:
            assert [(await client.reply())[:3] for client in (first, second)] == ["220", "220"]
            # The trusted ones were counted, so one more from the same address is too many.
            assert (await third.reply()).startswith("421 4.7.0 Too many connections from this address")
        await relay.all_left()
        async with relay.client(outer) as fourth:
            assert (await fourth.reply())[:3] == "220"
