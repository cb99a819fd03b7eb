"""From a host name to a socket: dead addresses cost a quarter of a second each, not the whole time."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from relay.upstream import dial as dial_module
from relay.upstream.dial import Endpoint, dial, resolve

V4 = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
V6 = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")


def endpoint(port: int) -> Endpoint:
    return Endpoint(socket.AF_INET, socket.IPPROTO_TCP, ("127.0.0.1", port))


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def test_a_literal_needs_no_name_server() -> None:
    assert [str(each) for each in await resolve("127.0.0.1", 25)] == ["127.0.0.1:25"]
    assert [str(each) for each in await resolve("::1", 587)] == ["[::1]:587"]


async def test_the_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int, **_: int) -> list[object]:
        addresses = [(*V6, ("::2", port, 0, 0)), (*V6, ("::3", port, 0, 0)), (*V4, ("192.0.2.1", port))]
        return list(addresses)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    found = await resolve("mail.example", 25)
    assert [str(each) for each in found] == ["[::2]:25", "192.0.2.1:25", "[::3]:25"]


async def test_an_unknown_name_is_an_error_of_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int, **_: int) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    with pytest.raises(socket.gaierror):
        await resolve("no.such.example", 25)


async def test_the_next_address_is_tried_when_one_refuses(open_port: int, closed_port: int) -> None:
    with await dial([endpoint(closed_port), endpoint(open_port)]) as connection:
        assert connection.getpeername() == ("127.0.0.1", open_port)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_the_first_error_is_told_when_all_refuse(closed_port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        await dial([endpoint(closed_port), endpoint(closed_port)])


async def test_a_silent_address_does_not_hold_up_the_next(open_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = dial_module._connect
    ended = asyncio.Event()

    async def connect_or_hang(to: Endpoint) -> socket.socket:
        if to.address[1] == 1:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
        return await connect(to)

    monkeypatch.setattr(dial_module, "_connect", connect_or_hang)
    async with asyncio.timeout(20):
        with await dial([endpoint(1), endpoint(open_port)]) as connection:
            assert connection.getpeername() == ("127.0.0.1", open_port)
        await ended.wait()


async def test_the_slower_of_two_connected_sockets_is_closed(open_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = dial_module._connect
    made: list[socket.socket] = []
    both = asyncio.Event()

    async def connect_together(to: Endpoint) -> socket.socket:
        made.append(await connect(to))
        if len(made) == 2:
            both.set()
        await both.wait()
        return made[0] if to.address[0] == "127.0.0.1" else made[1]

    monkeypatch.setattr(dial_module, "_connect", connect_together)
    second = Endpoint(socket.AF_INET, socket.IPPROTO_TCP, ("127.0.0.2", open_port))
    with socket.create_server(("127.0.0.2", open_port)):
        winner = await dial([endpoint(open_port), second])
        await asyncio.sleep(0)
    assert sorted(each.fileno() == -1 for each in made) == [False, True]
    winner.close()


async def test_a_cancelled_call_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    entered = asyncio.Event()

    async def hang(connection: socket.socket, address: object) -> None:
        made.append(connection)
        entered.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", hang)
    task = asyncio.create_task(dial([endpoint(1)]))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert [each.fileno() for each in made] == [-1]
