"""The sockets of all workers."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.cluster.sockets import WorkerSockets
from relay.config.settings import Listener, Settings
from relay.listener.sockets import ListenError, PassedSockets
from tests.peers.system import LOOPBACK, free_port, private_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket in it."""
    with private_folder("doors") as folder:
        yield folder


def settings(folder: Path, *addresses: str) -> Settings:
    listeners = tuple(Listener(name=f"at {address}", address=address) for address in addresses)
    return Settings(state_dir=folder, runtime_dir=str(folder), listeners=listeners)


def where(numbers: tuple[int, ...]) -> list[object]:
    return [socket.socket(fileno=os.dup(number)).getsockname() for number in numbers]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_each_worker_has_its_own_socket_at_an_address_and_shares_a_unix_socket(folder: Path) -> None:
    path = folder / "mail.sock"
    named = settings(folder, f"{LOOPBACK}:0", f"unix:{path}")
    with WorkerSockets(named, PassedSockets(), 3) as doors:
        mine = [doors.of(index) for index in range(3)]
        tcp = [each[f"{LOOPBACK}:0"] for each in mine]
        assert len({number for numbers in tcp for number in numbers}) == 3
        assert len({str(where(numbers)) for numbers in tcp}) == 1, "the same port"
        assert len({each[f"unix:{path}"] for each in mine}) == 1
        assert len({each[f"unix:{folder / 'submit.sock'}"] for each in mine}) == 1
        assert path.stat().st_mode & 0o777 == 0o666
    assert not path.exists()
    assert not (folder / "submit.sock").exists()


def test_an_address_that_somebody_has_is_refused_even_where_that_one_would_share_it(folder: Path) -> None:
    port = free_port()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((LOOPBACK, port))
        other.listen()
        with pytest.raises(ListenError, match=f"{LOOPBACK}:{port}: this address is in use by another program"):
            WorkerSockets(settings(folder, f"{LOOPBACK}:{port}"), PassedSockets(), 2)
    assert not (folder / "submit.sock").exists()


def test_a_socket_of_another_relay_at_the_same_path_stays(folder: Path) -> None:
    path = folder / "mail.sock"
    with WorkerSockets(settings(folder, f"unix:{path}"), PassedSockets(), 2):
        path.unlink()
        path.touch()
    assert path.exists()
