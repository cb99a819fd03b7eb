"""The capture server of `relay demo`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.listener.capture import Captured, CaptureServer
from tests.dialogs.listener.listener_kit import HELLO, RawClient, on_both_loops

# base64 of "\0mailer\0right" and "\0mailer\0wrong"
RIGHT = b"AUTH PLAIN AG1haWxlcgByaWdodA==\r\n"
WRONG = b"AUTH PLAIN AG1haWxlcgB3cm9uZw==\r\n"
MESSAGE = (b"MAIL FROM:<a@acmejets.example>\r\n", b"RCPT TO:<jo@customer.example>\r\n", b"DATA\r\n")


@asynccontextmanager
async def client_of(server: CaptureServer) -> AsyncIterator[RawClient]:
    await server.start()
    client = RawClient(*await asyncio.open_connection("127.0.0.1", server.port))
    try:
        yield client
    finally:
        await client.close()
        await server.stop()


@on_both_loops
async def test_a_message_is_kept_and_told() -> None:
    told: list[Captured] = []
    server = CaptureServer(told.append)
    async with client_of(server) as client:
        await client.begin(RIGHT, *MESSAGE)
        long_line = b"x" * 5000
        assert await client.ask(b"Subject: Hi\r\n\r\n..", long_line, b"\r\n.\r\n") == (
            "250 2.0.0 Ok: captured as number 1"
        )
    expected = Captured(
        "mailer", "a@acmejets.example", ("jo@customer.example",), b"Subject: Hi\r\n\r\n." + long_line + b"\r\n"
    )
    assert server.messages == told == [expected]


async def test_the_null_sender_and_no_login() -> None:
    server = CaptureServer()
    async with client_of(server) as client:
        await client.begin(b"MAIL FROM:<>\r\n", *MESSAGE[1:])
        assert (await client.ask(b".\r\n"))[:3] == "250"
    assert server.messages == [Captured("", "", ("jo@customer.example",), b"")]


async def test_passwords_are_wanted_where_they_are_given() -> None:
    async with client_of(CaptureServer(passwords={"mailer": "right"})) as client:
        await client.begin()
        assert (await client.ask(MESSAGE[0])) == "530 5.7.0 Authentication required"
        assert (await client.ask(WRONG))[:3] == "535"
        assert (await client.ask(MESSAGE[0]))[:3] == "530"
        assert (await client.ask(RIGHT))[:3] == "235"
        assert (await client.ask(MESSAGE[0]))[:3] == "250"


@on_both_loops
async def test_stopping_closes_what_is_open() -> None:
    server = CaptureServer()
    async with client_of(server) as client:
        await client.begin()
        await server.stop()
        assert await client.line() == ""


async def test_no_line_of_the_library_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with client_of(CaptureServer()) as client:
        await client.reply()
        await client.ask(HELLO)
        await client.ask(RIGHT)
    assert caplog.records == []
