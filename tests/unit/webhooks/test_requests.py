"""One request to a webhook, over real connections: what it says, and what its answer means."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from relay.webhooks import requests as module
from relay.webhooks.requests import Requests

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield f"http://127.0.0.1:{port}/hook?key=1"


async def read(reader: asyncio.StreamReader, octets: int = 2) -> bytes:
    return await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(octets)


@pytest.fixture
async def requests() -> AsyncIterator[Requests]:
    opened = Requests()
    yield opened
    await opened.aclose()


async def test_what_is_posted_and_that_the_connection_is_kept(requests: Requests) -> None:
    heard: list[bytes] = []
    connections = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        while True:
            heard.append(await read(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with server(talk) as url:
        for _ in range(3):
            assert (await requests.post(url, {"webhook-id": "m1"}, b"{}")).reason == ""
        await requests.aclose()
    assert (len(heard), len(connections)) == (3, 1)
    lines = heard[0].split(b"\r\n")
    assert lines[0] == b"POST /hook?key=1 HTTP/1.1"
    assert {b"webhook-id: m1", b"content-length: 2"} <= set(lines)
    assert lines[-1] == b"{}"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "it answers 500 Internal Server Error"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "it answers 302 Found"),
        (b"220 mail.example ESMTP\r\n", "it cannot be reached: "),
        (b"", "it cannot be reached: "),
    ],
)
async def test_what_is_no_success_says_why(requests: Requests, said: bytes, reason: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(said)

    async with server(talk) as url:
        answer = await requests.post(url, {}, b"{}")
        await requests.aclose()
    assert answer.reason.startswith(reason)
    assert not answer.is_about_event


async def test_who_says_nothing_is_not_waited_for(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.05)
    is_over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()

    async with server(talk) as url:
        assert (await requests.post(url, {}, b"{}")).reason == "no answer within 0.05 seconds"
        is_over.set()
        await requests.aclose()


async def test_of_an_endless_answer_little_is_read(requests: Requests) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    async with server(talk) as url:
        assert (await requests.post(url, {}, b"{}")).reason == ""
        await requests.aclose()


async def test_nobody_there_and_no_name(requests: Requests) -> None:
    assert (await requests.post("http://127.0.0.1:1/x", {}, b"{}")).reason.startswith("it cannot be reached: ")
    assert (await requests.post("https://nobody.invalid/x", {}, b"{}")).reason.startswith("it cannot be reached: ")


async def test_a_certificate_that_nobody_vouches_for_is_not_taken(requests: Requests) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # a fatal alert, handshake_failure

    async with server(talk) as url:
        answer = await requests.post(url.replace("http:", "https:"), {}, b"{}")
        await requests.aclose()
    assert answer.reason.startswith("it cannot be reached: ")
