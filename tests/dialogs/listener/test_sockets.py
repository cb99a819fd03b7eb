"""Where listeners listen: IPv4, IPv6, unix sockets, and what is said when an address cannot be had."""

import asyncio
import os
import re
import socket
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.config.settings import Limits, Listener
from relay.listener.server import Listeners
from relay.listener.sockets import ListenError, ours
from relay.system.peer_credentials import user_name
from tests.dialogs.listener.listener_kit import Door, FakeAcceptance, FakeLogins, door, on_both_loops, unix_listener
from tests.peers.moments import a_while


@on_both_loops
async def test_several_listeners_on_ipv4_ipv6_and_a_unix_socket(tmp_path: Path) -> None:
    own = unix_listener(tmp_path)
    async with door(Listener(address="127.0.0.1:0"), Listener(address="[::1]:0"), own) as relay:
        assert [re.sub(r"\d+$", "N", address) for address in relay.listeners.addresses] == [
            "127.0.0.1:N",
            "[::1]:N",
            own.address,
        ]
        peers = []
        for address in relay.listeners.addresses:
            async with relay.client(address) as client:
                await client.begin(b"MAIL FROM:<>\r\n", b"RCPT TO:<jo@customer.example>\r\n", b"DATA\r\n")
                assert (await client.ask(b".\r\n"))[:3] == "250"
            peers.append((relay.acceptance.messages[-1].client.name, relay.acceptance.messages[-1].arrival.peer))
        assert peers == [("127.0.0.1",) * 2, ("::1",) * 2, (user_name(os.geteuid()), "unix")]


@on_both_loops
async def test_clients_are_let_in_when_every_address_is_open(tmp_path: Path) -> None:
    rows = [Listener(address="127.0.0.1:0"), unix_listener(tmp_path), Listener(address="127.0.0.1:0")]
    listeners = Listeners(rows, Limits(), FakeAcceptance(), logins=FakeLogins())
    await listeners.open()
    relay = Door(listeners, FakeAcceptance(), FakeLogins())
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(relay.client(address)) for address in listeners.addresses]
        await a_while(0.05)
        assert listeners.connections == 0
        await listeners.serve()
        for client in clients:
            await client.begin()
    await listeners.stop(patience=1)


@on_both_loops
async def test_addresses_that_were_opened_for_nothing_are_closed(tmp_path: Path) -> None:
    rows = [Listener(address="127.0.0.1:0"), unix_listener(tmp_path)]
    listeners = Listeners(rows, Limits(), FakeAcceptance(), logins=FakeLogins())
    await listeners.open()
    address, _ = listeners.addresses
    await listeners.stop(patience=1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", address.rpartition(":")[2])
    assert not (tmp_path / "submit.sock").exists()


def test_an_address_of_a_name_that_this_machine_lacks_is_passed_over_where_there_is_another() -> None:
    here, lacking = (socket.AF_INET, ("127.0.0.1", 25)), (socket.AF_INET, ("192.0.2.1", 25))
    no_such_network = (socket.AF_APPLETALK, ("127.0.0.1", 25))
    for addresses, expected in (
        ([lacking, here, no_such_network, here], [here]),
        ([lacking, no_such_network], [lacking, no_such_network]),
    ):
        assert ours([(family, socket.SOCK_STREAM, 6, "", where) for family, where in addresses]) == expected


async def test_every_user_may_connect_to_a_unix_socket(tmp_path: Path) -> None:
    async with door(unix_listener(tmp_path)):
        mode = (tmp_path / "submit.sock").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o666
    assert not (tmp_path / "submit.sock").exists()


async def test_a_stale_socket_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with door(unix_listener(tmp_path)) as relay, relay.client() as client:
        assert (await client.reply())[:3] == "220"
        with pytest.raises(ListenError, match=rf"unix:{path}: this address is in use by another program"):
            await Listeners([unix_listener(tmp_path)], Limits(), FakeAcceptance(), logins=FakeLogins()).open()
        assert (await client.ask(b"NOOP\r\n"))[:3] == "250"


async def test_another_relays_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    async with door(unix_listener(tmp_path)):
        path.rename(tmp_path / "old.sock")
        path.touch()
    assert path.exists()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("192.0.2.1:2525", "192.0.2.1:2525: this machine does not have this address"),
        ("no-such-host.invalid:2525", "no-such-host.invalid:2525: this host name is not known here"),
        ("fd:submission", "fd:submission: systemd passed no socket; enable the socket unit with FileDescriptorName="),
    ],
)
@on_both_loops
async def test_an_address_that_cannot_be_had_is_one_sentence(address: str, sentence: str) -> None:
    with pytest.raises(ListenError, match=re.escape(sentence)):
        await Listeners([Listener(address=address)], Limits(), FakeAcceptance(), logins=FakeLogins()).open()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("file", "a file that is no socket"),
        ("none/x", "does not exist"),
        ("x" * 100, "at most 107 octets; choose a shorter one"),
    ],
)
@on_both_loops
async def test_a_path_that_cannot_be_had_is_one_sentence(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match=sentence):
        await Listeners(
            [Listener(address=f"unix:{tmp_path / name}")], Limits(), FakeAcceptance(), logins=FakeLogins()
        ).open()
    assert (tmp_path / "file").exists()


@on_both_loops
async def test_a_busy_port_is_one_sentence_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = f"127.0.0.1:{other.getsockname()[1]}"
        listeners = Listeners(
            [Listener(address="127.0.0.1:0"), Listener(address=busy)], Limits(), FakeAcceptance(), logins=FakeLogins()
        )
        with pytest.raises(ListenError, match=f"^{busy}: this address is in use by another program; stop that one"):
            await listeners.open()
        assert listeners.addresses == ()


async def test_a_port_can_be_opened_again_at_once() -> None:
    async with door() as relay, relay.client() as client:
        address = relay.listeners.addresses[0]
        await client.begin()
    async with door(Listener(address=address)) as relay, relay.client() as client:
        await client.begin()
