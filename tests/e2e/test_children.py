"""Programs that a running relay starts (`password_from = "command:…"`): they have nothing of it, and end with it."""

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ledger import SENDER, message
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import RELAY, Relay, one_channel, open_server
from tests.peers.system import LOOPBACK, flags_of, private_folder, wait_until
from tests.peers.systemd import listening, passing

pytestmark = pytest.mark.slow

WAYS: Mapping[str, dict[str, Any]] = {
    "one process": {"workers": 1},
    "workers": {"workers": 2},
    "sockets of systemd": {"workers": 1, "listener": [{"name": "lan", "address": "fd:lan"}]},
    "workers, sockets of systemd": {"workers": 2, "listener": [{"name": "lan", "address": "fd:lan"}]},
}


@pytest.fixture
def pids() -> Iterator[Path]:
    """Where the command writes its own process and that of its child."""
    with private_folder("command") as folder:
        yield folder / "pids"


@contextmanager
def hanging(start_relay: StartRelay, recorder: Recorder, pids: Path, way: str) -> Iterator[tuple[Relay, list[int]]]:
    """A relay that waits for a command that hangs, and for its child."""
    command = f"command:sh -c 'sleep 1000 & echo $$ $! >{pids}.new; mv {pids}.new {pids}; wait'"
    directory = one_channel(open_server(recorder.port, auth="plain", allow_plaintext_password=True))
    directory["channels"]["support"]["password_from"] = command
    settings = WAYS[way]
    relay = start_relay(directory, settings, starts=False)
    with ExitStack() as stack:
        before: tuple[str, ...] = ()
        if "listener" in settings:
            (sock,) = stack.enter_context(listening((LOOPBACK, relay.port)))
            relay.pass_fds = (sock.fileno(),)
            before = tuple(passing({"lan": sock}))
        relay.launch(*before, str(RELAY), *relay.serving)
        wait_until(relay.greets, "the greeting")
        client = stack.enter_context(relay.connect())
        client.envelope(SENDER, "you@customer.example")
        client.say("DATA")
        client.send(message("waits") + b".\r\n")
        wait_until(pids.exists, "the command")
        started = [int(pid) for pid in pids.read_text().split()]
        wait_until(lambda: flags_of(started[0], 1) & os.O_ASYNC, "the kernel to be told of it")
        yield relay, started
        with suppress(ProcessLookupError):
            os.killpg(started[0], signal.SIGKILL)  # nobody has to wait for it


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_free(port: int) -> bool:
    with socket.socket() as here:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            here.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("way", WAYS)
def test_a_command_has_no_descriptor_of_the_relay(
    way: str, start_relay: StartRelay, recorder: Recorder, pids: Path
) -> None:
    with hanging(start_relay, recorder, pids, way) as (_, started):
        for pid in started:
            open_ = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
            own = [link for link in open_ if not link.startswith("pipe:") and link != "/dev/null"]
            assert not own, open_


@pytest.mark.parametrize("way", ["one process", "workers"])
def test_after_a_kill_the_address_is_free_and_a_hanging_command_ends(
    way: str, start_relay: StartRelay, recorder: Recorder, pids: Path
) -> None:
    with hanging(start_relay, recorder, pids, way) as (relay, started):
        relay.signal(signal.SIGKILL)
        relay.stop()
        # Workers end when they hear that their supervisor is gone; only a hanging command could keep the address then.
        wait_until(lambda: is_free(relay.port), "an address that is free")
        relay.start()
        wait_until(lambda: not any(map(runs, started)), "the end of the command and of its child")
