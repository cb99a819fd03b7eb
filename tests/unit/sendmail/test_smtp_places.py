"""Where the service is looked for."""

import os
import pwd
import socket
from pathlib import Path

import pytest

from relay.config.endpoint import Endpoint, TcpAddress, UnixAddress
from relay.sendmail.exit_status import NotSent
from relay.sendmail.smtp import connect, places
from tests.peers.system import LOOPBACK, free_port

# Nobody's; so /var/lib/relay is not this user's.
USER = 54321


def test_a_users_own_relay_comes_first(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "RELAY_CONFIG": "/x", "STATE_DIRECTORY": "/y", "RUNTIME_DIRECTORY": "/z"}
    assert [str(place) for place in places(environ, USER)] == [
        f"unix:{tmp_path}/.local/share/relay/submit.sock",
        "unix:/run/relay/submit.sock",
        "127.0.0.1:2525",
    ]


def test_root_has_the_machines(tmp_path: Path) -> None:
    assert str(places({"HOME": str(tmp_path)}, 0)[0]) == "unix:/var/lib/relay/submit.sock"


def test_a_folder_that_is_not_absolute_is_left_out() -> None:
    assert str(places({"HOME": "home"}, USER)[0]) == "unix:/run/relay/submit.sock"


def test_a_user_without_a_home_has_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: object) -> None:
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert str(places({}, USER)[0]) == "unix:/run/relay/submit.sock"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail.x.example:587", TcpAddress("mail.x.example", 587)),
        ("[::1]:2525", TcpAddress("::1", 2525)),
        ("unix:/run/x.sock", UnixAddress(Path("/run/x.sock"))),
        ("/run/x.sock", UnixAddress(Path("/run/x.sock"))),
    ],
)
def test_the_environment_decides_alone(text: str, expected: object) -> None:
    assert places({"RELAY_SUBMIT": text, "HOME": "/home/jo"}, USER) == (expected,)


@pytest.mark.parametrize("text", ["localhost", "run/x.sock", "unix:x", "fd:submit", "::1:25", "x:99999"])
def test_what_names_no_place_is_a_fault(text: str) -> None:
    with pytest.raises(NotSent, match="RELAY_SUBMIT: ") as caught:
        places({"RELAY_SUBMIT": text}, USER)
    assert caught.value.status == os.EX_CONFIG


def test_a_stale_socket_and_a_missing_one_fall_to_the_next(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(stale))
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        here: list[Endpoint] = [UnixAddress(stale), UnixAddress(tmp_path / "none.sock"), TcpAddress(LOOPBACK, port)]
        with connect(here) as connection:
            assert connection.getpeername() == (LOOPBACK, port)


def test_nobody_there(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(NotSent) as caught:
        connect([UnixAddress(tmp_path / ("x" * 200)), TcpAddress(LOOPBACK, port)])
    assert caught.value.status == os.EX_TEMPFAIL
    assert "AF_UNIX path too long" in str(caught.value)
    assert f"127.0.0.1:{port}: Connection refused); start one with: relay serve" in str(caught.value)
