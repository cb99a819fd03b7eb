"""The pages' own socket: whoever comes while the pages are still being made waits, and mail waits for nobody."""

import asyncio
import socket
import threading

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from relay.config.endpoint import TcpAddress
from relay.control.results import WebState
from relay.web.kit.server import WebServer
from tests.peers.moments import a_while
from tests.peers.system import LOOPBACK, wait_until
from tests.peers.told import capture_logs

ANY = TcpAddress(LOOPBACK, 0)


def pages(_: TcpAddress) -> ASGIApp:
    """An application with one page."""
    return Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])


async def answer_at(address: TcpAddress | None) -> bytes:
    """Ask for the page as a browser does."""
    assert address is not None
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: relay.test\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_who_comes_while_the_pages_are_made_waits_for_them() -> None:
    may_go_on = threading.Event()

    def slowly(address: TcpAddress) -> ASGIApp:
        assert may_go_on.wait(10)
        return pages(address)

    server = WebServer(ANY, slowly)
    await server.start()
    asking = asyncio.create_task(answer_at(server.address))
    await a_while(0.05)
    assert not asking.done()
    may_go_on.set()
    async with asyncio.timeout(10):
        assert b"here" in await asking
    await server.stop()


async def test_the_pages_are_made_when_somebody_comes_and_once() -> None:
    made: list[TcpAddress] = []

    def noting(address: TcpAddress) -> ASGIApp:
        made.append(address)
        return pages(address)

    server = WebServer(ANY, noting)
    await server.start()
    await a_while(0.05)
    assert made == []
    for _ in range(2):
        assert b"here" in await answer_at(server.address)
    assert made == [server.address]
    await server.stop()


async def test_one_that_nobody_asked_frees_its_address() -> None:
    server = WebServer(ANY, pages)
    await server.start()
    address = server.address
    assert address is not None
    await server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((address.host, address.port))


async def test_pages_that_cannot_be_made_say_so_and_hold_no_address() -> None:
    def broken(_: TcpAddress) -> ASGIApp:
        raise ZeroDivisionError

    server = WebServer(ANY, broken)
    with capture_logs() as said:
        await server.start()
        address = server.address
        assert address is not None
        with socket.create_connection((address.host, address.port)):
            await asyncio.to_thread(wait_until, lambda: server.trouble, "the fault")
    assert [one["what"] for one in said] == ["the web pages are not open by a fault of ours; please report it"]
    assert server.state == WebState(trouble="a fault of ours (ZeroDivisionError); the log has more")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((address.host, address.port))
    await server.stop()


async def test_one_that_ends_while_the_pages_are_made_frees_its_address() -> None:
    is_asked, may_go_on = threading.Event(), threading.Event()

    def slowly(address: TcpAddress) -> ASGIApp:
        is_asked.set()
        assert may_go_on.wait(10)
        return pages(address)

    server = WebServer(ANY, slowly)
    await server.start()
    address = server.address
    assert address is not None
    with socket.create_connection((address.host, address.port)):
        await asyncio.to_thread(is_asked.wait, 10)
    await server.stop()
    may_go_on.set()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((address.host, address.port))


async def test_an_address_that_is_taken_is_said_at_once() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        server = WebServer(TcpAddress(LOOPBACK, other.getsockname()[1]), pages)
        with capture_logs() as said:
            await server.start()
        assert "address already in use; end the other program, or set another [web] address" in server.trouble
        assert said[0]["what"] == f"the web pages are not open: {server.trouble}"
        await server.stop()
