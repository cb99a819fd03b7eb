"""Several listeners at once: IPv4, IPv6 and a unix socket; and who may open control.sock."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.canaries import canary
from tests.peers.clients import CLIENTS, Endpoint, Letter
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder, recorder_server
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import free_port, private_folder

LETTER = b"From: support@acmejets.example\nSubject: hello\n\nhello\n"


def has_ipv6() -> bool:
    """Whether this machine has the IPv6 loopback address: some containers have none."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


KINDS = ("ipv4", "second", "unix", *(["ipv6"] if has_ipv6() else []))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Recorder]:
    with recorder_server() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    with private_folder("sockets") as folder:
        yield folder


@pytest.fixture(scope="module")
def endpoints(sockets: Path) -> dict[str, Endpoint]:
    return {
        "ipv4": Endpoint(port=free_port()),
        "second": Endpoint(port=free_port()),
        "unix": Endpoint(path=sockets / "mail.sock"),
        **({"ipv6": Endpoint("::1", free_port("::1"))} if has_ipv6() else {}),
        "devices": Endpoint(port=free_port()),
    }


def address(endpoint: Endpoint) -> str:
    if endpoint.path:
        return f"unix:{endpoint.path}"
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


@pytest.fixture(scope="module")
def relay(upstream: Recorder, endpoints: dict[str, Endpoint]) -> Iterator[Relay]:
    listeners = [
        {"name": name, "address": address(endpoint), "devices": name == "devices"}
        for name, endpoint in endpoints.items()
    ]
    with relay_process(one_channel(open_server(upstream.port)), {"listener": listeners}, starts=False) as relay:
        relay.port = endpoints["ipv4"].port
        relay.start()
        yield relay


@pytest.mark.needs("swaks", "INET6.pm", "curl", "msmtp")
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_client_delivers_over_each_listener(
    kind: str, client: str, relay: Relay, endpoints: dict[str, Endpoint], upstream: Recorder
) -> None:
    count = len(upstream.messages)
    letter = Letter("support@acmejets.example", ("you@customer.example",), LETTER)
    done = CLIENTS[client](endpoints[kind], letter)
    assert done.status == 0, done.text + relay.last_words
    assert len(upstream.messages) == count + 1


@pytest.mark.parametrize("count", [1, 3], ids=["small", "through-a-file"])
def test_the_long_lines_of_a_device_leave_in_lines_that_each_server_takes(
    count: int, relay: Relay, endpoints: dict[str, Endpoint], upstream: Recorder
) -> None:
    text = (b"word " * 1_000 + b"x" * 900_000 + b"\r\n") * count
    with RawClient(endpoints["devices"]) as client:
        replies = [
            client.say(line)
            for line in ("HELO scanner", "MAIL FROM:support@acmejets.example", "RCPT TO: you@customer.example", "DATA")
        ]
        assert [reply[:3] for reply in replies] == ["250", "250", "250", "354"]
        client.send(b"Subject: scan\r\n\r\n" + text + b".\r\n")
        assert client.reply().startswith("250 2.0.0 Ok: delivered via acmejets")
    _, _, body = upstream.messages[-1].partition(b"\r\n\r\n")
    assert max(map(len, body.split(b"\r\n"))) <= 998
    assert body.replace(b"\r\n", b"").replace(b" ", b"") == text.replace(b"\r\n", b"").replace(b" ", b"")


def test_the_status_names_every_listener(relay: Relay, endpoints: dict[str, Endpoint]) -> None:
    listeners = str(relay.ask("status")["listeners"])
    for endpoint in endpoints.values():
        assert address(endpoint) in listeners


def test_the_control_socket_is_for_its_owner_alone(relay: Relay) -> None:
    mode = relay.control_socket.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_what_the_relay_keeps_is_for_its_owner_alone(relay: Relay) -> None:
    relay.set_password("server", "acmejets", canary("acmejets"))
    assert stat.S_IMODE(relay.state_dir.stat().st_mode) == 0o700
    for name in ("master.key", "relay.db", "relay.db-wal", "relay.db-shm"):
        path = relay.state_dir / name
        if path.exists():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, name
    assert (relay.state_dir / "master.key").exists()


def test_the_start_says_that_the_default_address_is_not_among_them(relay: Relay) -> None:
    (started,) = [line for line in relay.log.splitlines() if '"started"' in line]
    assert "127.0.0.1:2525, where it listens without a [[listener]], is not among them: programs" in started
