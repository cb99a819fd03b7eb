"""Connections to the pages: so many and no more, and none that waits for ever."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from relay.control.transport.server import HttpServer
from relay.web.kit import guard
from relay.web.kit.guard import Guard
from relay.web.kit.protocol import WebProtocol
from tests.peers.system import LOOPBACK

WHOLE = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
BODY = b"POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 100\r\n\r\nname="


class Hasty(WebProtocol):
    most = 3
    head_seconds = 0.3
    unread_seconds = 0.3


async def _answer(request: Request) -> Response:
    await request.body()
    await asyncio.sleep(0.6)  # longer than a head may take
    return PlainTextResponse("done")


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(400):
        yield bytes(65536)


async def _long(request: Request) -> Response:
    return StreamingResponse(_pieces())


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listening = socket.create_server((LOOPBACK, 0))
    listening.setblocking(False)
    app = Guard(
        Starlette(routes=[Route("/", _answer, methods=["GET", "POST"]), Route("/long", _long)]), lambda: ["here"]
    )
    server = HttpServer(app, "web", Hasty)
    await server.start(listening)
    yield listening.getsockname()[1]
    await server.stop()


async def said(port: int, request: bytes) -> bytes:
    """Send something, wait until the server hangs up, and return what it said."""
    client = socket.create_connection((LOOPBACK, port))
    client.sendall(request)  # before the server's clock for it starts
    client.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=client)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("beginning", [b"", b"GET", WHOLE[:-2], WHOLE[:-2] + b"X-Slow: "])
async def test_a_head_that_does_not_end_is_not_waited_for(beginning: bytes, port: int) -> None:
    assert await said(port, beginning) == b""


async def test_an_answer_may_take_its_time(port: int) -> None:
    assert (await said(port, WHOLE)).endswith(b"done")


async def test_a_body_that_does_not_end_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_BODY_SECONDS", 0.3)
    assert (await said(port, BODY)).startswith(b"HTTP/1.1 408 ")


async def test_there_is_an_end_to_how_many_connect(port: int) -> None:
    answers = await asyncio.gather(*(said(port, WHOLE) for _ in range(9)))
    assert sum(answer.endswith(b"done") for answer in answers) == Hasty.most
    assert answers.count(b"") == 9 - Hasty.most
    # They are gone, and others may come.
    assert (await said(port, WHOLE)).endswith(b"done")


async def test_who_comes_takes_the_place_of_the_one_that_asks_nothing(port: int) -> None:
    silent = [await asyncio.open_connection(LOOPBACK, port) for _ in range(Hasty.most)]
    assert (await said(port, WHOLE)).endswith(b"done")
    assert await asyncio.wait_for(silent[0][0].read(), 5) == b""
    for _, writer in silent:
        writer.transport.abort()


async def test_an_answer_that_nobody_reads_is_not_kept(port: int) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=1024)
    writer.write(WHOLE.replace(b"GET /", b"GET /long"))
    await asyncio.sleep(1.5)  # longer than what nobody reads is kept
    with suppress(ConnectionError):
        assert len(await asyncio.wait_for(reader.read(), 10)) < 400 * 65536
    writer.transport.abort()
