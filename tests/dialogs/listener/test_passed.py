"""Sockets that systemd opened: which listener has which, and what is said about one that fits none."""

import os
import re
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from relay.config.endpoint import parse_endpoint
from relay.config.settings import Limits, Listener, Settings
from relay.listener.server import Listeners
from relay.listener.sockets import ListenError, PassedSockets, own_socket, places_of
from tests.dialogs.listener.listener_kit import Door, FakeAcceptance, FakeLogins, on_both_loops
from tests.peers.systemd import listening

LOOPBACK = "127.0.0.1"


def passed(sockets: Mapping[str, socket.socket]) -> PassedSockets:
    """What a process has that was given these: descriptors of its own, that children would inherit."""
    descriptors = {name: (os.dup(sock.fileno()),) for name, sock in sockets.items()}
    for (number,) in descriptors.values():
        os.set_inheritable(number, True)
    return PassedSockets(descriptors)


def address(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


@on_both_loops
async def test_clients_wait_while_nobody_serves_and_are_let_in_then(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    with listening((LOOPBACK, 0), path) as (tcp, unix):
        rows = [Listener(name="a", address="fd:tcp"), Listener(name="b", address="fd:unix")]
        for _ in range(2):
            listeners = Listeners(rows, Limits(), FakeAcceptance(), logins=FakeLogins())
            door = Door(listeners, FakeAcceptance(), FakeLogins())
            async with door.client(address(tcp)) as early, door.client(f"unix:{path}") as too:
                await listeners.open(passed({"tcp": tcp, "unix": unix}))
                await listeners.serve()
                assert listeners.addresses == (address(tcp), f"unix:{path}")
                for client in (early, too):
                    await client.begin()
                await listeners.stop(patience=1)
        assert path.is_socket()


@on_both_loops
async def test_an_address_that_systemd_opened_is_not_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    with listening((LOOPBACK, 0), path) as (tcp, unix):
        rows = [Listener(name="a", address=address(tcp)), Listener(name="b", address=f"unix:{path}")]
        listeners = Listeners(rows, Limits(), FakeAcceptance(), logins=FakeLogins())
        await listeners.open(passed({"x": tcp, "y": unix}))
        await listeners.serve()
        async with Door(listeners, FakeAcceptance(), FakeLogins()).client() as client:
            await client.begin()
        await listeners.stop(patience=1)
        assert path.is_socket()


def test_all_sockets_of_a_name_are_one_listeners_and_no_child_of_ours_inherits_them() -> None:
    with listening((LOOPBACK, 0), (LOOPBACK, 0)) as both:
        sockets = PassedSockets({"submission": [os.dup(sock.fileno()) for sock in both]})
        assert sockets.addresses(parse_endpoint("fd:submission")) == tuple(address(sock) for sock in both)
        taken = sockets.take(Listener(address="fd:submission"))
        assert [address(sock) for sock in taken] == [address(sock) for sock in both]
        assert not any(sock.get_inheritable() for sock in taken)
        assert sockets.left() == ()
        for sock in taken:
            sock.close()


def test_a_socket_has_one_listener() -> None:
    with listening((LOOPBACK, 0)) as (tcp,):
        sockets = passed({"submission": tcp})
        for sock in sockets.take(Listener(address=address(tcp))):
            sock.close()
        with pytest.raises(ListenError, match="fd:submission: systemd passed no socket; enable the socket unit"):
            sockets.take(Listener(address="fd:submission"))


@pytest.mark.parametrize(
    ("listener", "sentence"),
    [
        (
            Listener(address="fd:c"),
            "fd:c: systemd passed no socket of this name, only a, b; enable the socket unit with",
        ),
        (
            Listener(address="fd:a", users={"root": ("*",)}),
            "fd:a: only a unix socket knows its users, and this one is 1",
        ),
        (Listener(address="fd:b", proxy_protocol=True), "fd:b: no proxy comes through the unix socket unix:/"),
    ],
)
def test_a_listener_without_its_socket_is_one_sentence(tmp_path: Path, listener: Listener, sentence: str) -> None:
    with listening((LOOPBACK, 0), tmp_path / "b.sock") as (tcp, unix):
        sockets = passed({"a": tcp, "b": unix})
        with pytest.raises(ListenError, match="^" + re.escape(sentence)):
            sockets.take(listener)
        sockets.close()


def test_a_socket_without_a_listener_is_one_sentence() -> None:
    with listening((LOOPBACK, 0)) as (tcp,):
        sockets = passed({"admin": tcp})
        assert sockets.take(Listener(address="127.0.0.1:1")) == ()
        (sentence,) = sockets.left()
        assert sentence.startswith(f"systemd passed a socket for {address(tcp)} that no listener uses; give one the")
        sockets.close()


def test_what_is_no_listening_socket_is_refused_and_the_others_closed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        (good,) = stack.enter_context(listening((LOOPBACK, 0)))
        file = stack.enter_context((tmp_path / "file").open("w"))
        datagram = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        for bad, sentence in (
            (os.dup(file.fileno()), "fd:x: what systemd passed is no socket; its unit must have ListenStream="),
            (os.dup(datagram.fileno()), "fd:x: what systemd passed is no listening socket; its unit must have"),
            (os.dup(silent.fileno()), "fd:x: what systemd passed is no listening socket; its unit must have"),
            (99_999, "fd:x: what systemd passed cannot be used: Bad file descriptor"),
        ):
            first = os.dup(good.fileno())
            with pytest.raises(ListenError, match="^" + re.escape(sentence)):
                PassedSockets({"good": [first], "x": [bad]})
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(first)


def test_an_abstract_socket_has_a_name_for_people() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("\0relay-test-abstract")
        sock.listen()
        sockets = passed({"x": sock})
        assert sockets.addresses(parse_endpoint("fd:x")) == ("unix:@relay-test-abstract",)
        sockets.close()


def test_a_passed_unix_socket_says_nothing_about_loopback(tmp_path: Path) -> None:
    """Or its rule would be that of submit.sock for every user."""
    settings = Settings(
        runtime_dir=str(tmp_path), listeners=(Listener(name="cron", address="fd:cron", may_send_as=("*",)),)
    )
    with listening(tmp_path / "cron.sock") as (unix,):
        sockets = passed({"cron": unix})
        own = own_socket(settings, 998, places_of(settings, sockets))
        assert own is not None
        assert own.users == {"0": ("*",), "998": ("*",)}
        sockets.close()
    with listening(tmp_path / "submit.sock") as (unix,):
        sockets = passed({"cron": unix})
        assert own_socket(settings, 998, places_of(settings, sockets)) is None
        sockets.close()


@on_both_loops
async def test_a_listener_that_lets_nobody_in_is_stuck(tmp_path: Path) -> None:
    with listening((LOOPBACK, 0)) as (tcp,):
        listeners = Listeners([Listener(name="lan", address="fd:x")], Limits(), FakeAcceptance(), logins=FakeLogins())
        await listeners.open(passed({"x": tcp}))
        await listeners.serve()
        door = Door(listeners, FakeAcceptance(), FakeLogins())
        async with door.client() as client:
            await client.begin()
        assert listeners.stuck() == ()
        assert listeners.stuck() == ()
        # From here on this test keeps the loop from turning: whoever connects waits in the kernel.
        with socket.create_connection(tcp.getsockname()):
            assert listeners.stuck() == (), "the first look knows only that somebody waits"
            assert listeners.stuck() == ("lan",)
            async with door.client() as later:
                await later.begin()
            assert listeners.stuck() == (), "the loop has let it in"
        tcp.shutdown(socket.SHUT_RDWR)
        listeners.stuck()
        assert listeners.stuck() == ("lan",)
        await listeners.stop(patience=1)
