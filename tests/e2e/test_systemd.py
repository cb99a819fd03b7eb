"""The service as systemd runs it: told when it is ready, watched, given its sockets, and held in its sandbox."""

import os
import re
import signal
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.load import Load
from tests.peers.canaries import canary
from tests.peers.clients import Endpoint
from tests.peers.fixtures import Certificates, StartRelay
from tests.peers.packages import program
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder
from tests.peers.relay import RELAY, Relay, one_channel, open_server
from tests.peers.system import LOOPBACK, free_port, private_folder, run, wait_until
from tests.peers.systemd import filtered, listening, notify_socket, passing, refused_calls

pytestmark = pytest.mark.slow

SENDER = "support@acmejets.example"
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
UNIT = Path(__file__).parent.parent.parent / "systemd/relay.service"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket in it."""
    with private_folder("systemd") as folder:
        yield folder


def submit(endpoint: Endpoint) -> str:
    with RawClient(endpoint) as client:
        return client.submit(SENDER, "you@customer.example", MESSAGE)


def test_the_master_key_is_a_credential_that_commands_need_not_have(
    folder: Path, start_relay: StartRelay, recorder: Recorder
) -> None:
    name = re.findall(r"^LoadCredentialEncrypted=(.*)$", UNIT.read_text(), re.MULTILINE)[0]
    (folder / name).write_text(b64encode(os.urandom(32)).decode() + "\n")
    secrets = {"master_key": f"credential:{name}"}
    relay = start_relay(one_channel(open_server(recorder.port)), {"secrets": secrets}, starts=False)
    relay.start("env", f"CREDENTIALS_DIRECTORY={folder}")
    relay.set_password("channel", "support", canary("support"))
    assert relay.ask("channel", "show", "support")["password_set"] is True
    assert not (relay.state_dir / "master.key").exists()
    assert relay.stop() == 0
    without = relay.command("serve")
    assert without.status == 1
    assert "systemd gave this process no credentials (LoadCredential=)" in without.text


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_hears_of_the_start_a_reload_and_the_end(
    is_abstract: bool, folder: Path, start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), starts=False)
    with notify_socket(folder, is_abstract=is_abstract) as heard:
        relay.launch("env", f"NOTIFY_SOCKET={heard.address}", str(RELAY), *relay.serving)
        # The first thing that it says, and true: who comes then is let in.
        ready, status = heard.next()
        assert ready == "READY=1"
        assert status.startswith(f"STATUS=takes mail at {LOOPBACK}:{relay.port}, unix:")
        assert submit(relay.endpoint).startswith("250")

        relay.signal(signal.SIGHUP)
        reloading, began = heard.next()
        assert (reloading, began[:15]) == ("RELOADING=1", "MONOTONIC_USEC=")
        assert heard.wait_for("READY=1") == ["READY=1", status]

        relay.write_directory_text("servers = 5")
        relay.signal(signal.SIGHUP)
        heard.wait_for("RELOADING=1")
        (_, faulty) = heard.wait_for("READY=1")
        assert faulty == f"{status}; the directory has faults (1), and the one before stays in effect"

        relay.signal(signal.SIGTERM)
        assert heard.wait_for("STOPPING=1") == ["STOPPING=1", "STATUS=ending what is under way"]
    assert relay.stop() == 0


@pytest.mark.parametrize(
    ("part", "words"),
    [("queue runner", "the queue runner has done nothing for"), ("listener", "nobody is let in at listener local")],
)
def test_the_watchdog_is_fed_until_a_part_is_dead(
    part: str, words: str, folder: Path, start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), starts=False)
    hung = folder / "hung"
    with notify_socket(folder) as heard:
        relay.launch(
            *("env", f"NOTIFY_SOCKET={heard.address}", "WATCHDOG_USEC=2000000"),
            *(sys.executable, "-m", "tests.e2e.hung_relay", part, str(hung), *relay.serving),
        )
        heard.wait_for("READY=1")
        for _ in range(3):
            heard.wait_for("WATCHDOG=1")
        hung.touch()
        heard.wait_for_silence(5)
        assert words in relay.log
        # It is only this part. Clients are still served at another one, and the end is in order.
        if part == "queue runner":
            assert submit(relay.endpoint).startswith("250")
        assert relay.stop() == 0


@pytest.mark.needs("systemd-socket-activate", "openssl")
def test_a_client_starts_a_relay_that_has_two_named_sockets(
    folder: Path, certificates: Certificates, start_relay: StartRelay, recorder: Recorder
) -> None:
    certificate = folder / "certificate.pem"
    certificate.touch(mode=0o600)
    certificate.write_bytes(certificates.server)
    listeners = [
        {"name": "second", "address": "fd:submissions", "security": "tls"},
        {"name": "first", "address": "fd:submission"},
    ]
    settings = {"listener": listeners, "tls": {"certificate": str(certificate), "key": str(certificate)}}
    relay = start_relay(one_channel(open_server(recorder.port)), settings, starts=False)
    first, second = (f"{LOOPBACK}:{port}" for port in (relay.port, free_port()))
    relay.start(
        program("systemd-socket-activate"), "-l", first, "-l", second, "--fdname=submission", "--fdname=submissions"
    )
    assert submit(relay.endpoint).startswith("250")
    assert relay.ask("status")["listeners"] == [second, first, f"unix:{relay.state_dir}/submit.sock"]
    host, port = second.split(":")
    tls = run([program("openssl"), "s_client", "-quiet", "-connect", f"{host}:{port}"], data=b"QUIT\r\n")
    assert tls.out.startswith("220 ")
    assert "that no listener uses" not in relay.log


@pytest.mark.needs("systemd-socket-activate")
def test_a_relay_that_a_client_started_tells_systemd_so(
    folder: Path, start_relay: StartRelay, recorder: Recorder
) -> None:
    """The sockets have the names of our units; their order is another than that of the listeners."""
    names = [
        re.findall(r"^FileDescriptorName=(.*)$", (UNIT.parent / f"relay-{name}.socket").read_text(), re.MULTILINE)
        for name in ("submit", "local")
    ]
    own = folder / "submit.sock"
    settings = {"listener": [{"name": "local", "address": "fd:local"}, {"name": "submit", "address": "fd:submit"}]}
    relay = start_relay(one_channel(open_server(recorder.port)), settings, starts=False)
    with notify_socket(folder) as heard:
        relay.launch(
            *(program("systemd-socket-activate"), "-l", str(own), "-l", f"{LOOPBACK}:{relay.port}"),
            *(f"--fdname={name}" for (name,) in names),
            *("-E", f"NOTIFY_SOCKET={heard.address}", "-E", "WATCHDOG_USEC=1000000"),
            *(str(RELAY), *relay.serving),
        )
        wait_until(own.is_socket, "the unix socket")
        with pytest.raises(TimeoutError):
            heard.next(seconds=0.2)
        assert submit(Endpoint(path=own)).startswith("250")
        ready, status = heard.wait_for("READY=1")
        assert ready == "READY=1"
        assert status.startswith(f"STATUS=takes mail at {LOOPBACK}:{relay.port}, unix:{own}")
        assert submit(relay.endpoint).startswith("250")
        for _ in range(2):
            heard.wait_for("WATCHDOG=1")
        assert relay.stop() == 0
        heard.wait_for("STOPPING=1")


def test_sockets_for_addresses_that_the_settings_name_and_for_none(
    folder: Path, start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), starts=False)
    own, other = relay.state_dir / "submit.sock", (LOOPBACK, free_port())
    with listening((LOOPBACK, relay.port), own, other) as (local, submit_socket, unused):
        sockets = {"local": local, "submit": submit_socket, "other": unused}
        relay.pass_fds = tuple(sock.fileno() for sock in sockets.values())
        relay.start(*passing(sockets))
        assert submit(relay.endpoint).startswith("250")
        assert submit(Endpoint(path=own)).startswith("250")
        assert f"systemd passed a socket for {LOOPBACK}:{other[1]} that no listener uses" in relay.log
        assert relay.stop() == 0
        assert own.is_socket(), "it is systemd's to remove"


@pytest.mark.parametrize(
    ("name", "listener", "sentence"),
    [
        (
            "submission",
            {"address": "fd:submissions"},
            "fd:submissions: systemd passed no socket of this name, only submi",
        ),
        ("", {"address": "fd:submission"}, "fd:submission: systemd passed no socket; enable the socket unit with "),
        ("submission", {"address": "fd:submission", "users": {"root": ["*"]}}, "only a unix socket knows its users"),
    ],
)
def test_a_socket_that_cannot_be_used_is_one_sentence(
    name: str, listener: dict[str, object], sentence: str, start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)), {"listener": [listener]}, starts=False)
    with listening((LOOPBACK, relay.port)) as (sock,):
        relay.pass_fds = (sock.fileno(),)
        relay.launch(*(passing({name: sock}) if name else ()), str(RELAY), *relay.serving)
        assert relay.process is not None
        assert relay.process.wait(20) == 1
    assert sentence in relay.log
    assert "Traceback" not in relay.log


_CLIENTS = 20
_RESTARTS = 2
_RELOADS = 5


@pytest.mark.parametrize("mode", ["auto", "queued"])
def test_nobody_is_refused_while_a_relay_restarts_under_load(
    mode: str, folder: Path, start_relay: StartRelay, recorder: Recorder
) -> None:
    """Every connect is taken, and what was answered with 250 arrives once: the relay ends in order each time."""
    listeners = [{"name": "local", "address": "fd:local"}, {"name": "submit", "address": "fd:submit"}]
    settings = {"listener": listeners, "delivery": {"mode": mode}}
    relay = start_relay(one_channel(open_server(recorder.port)), settings, starts=False)
    path = folder / "submit.sock"
    with listening((LOOPBACK, relay.port), path) as (local, submit_socket):
        relay.pass_fds = (local.fileno(), submit_socket.fileno())
        start = (*passing({"local": local, "submit": submit_socket}), str(RELAY), *relay.serving)
        relay.launch(*start)
        with Load([relay.endpoint, Endpoint(path=path)], clients=_CLIENTS) as load:
            for _ in range(_RESTARTS):
                load.wait_for_accepted(3 * _CLIENTS)
                assert relay.stop() == 0
                relay.launch(*start)
            load.wait_for_accepted(3 * _CLIENTS)
        # Who has a session when the relay ends hears so in it, and nobody else notices anything.
        assert set(load.counts) <= {"accepted", "told to wait"}, load.counts
        assert load.counts["told to wait"] <= _RESTARTS * _CLIENTS, load.counts
        wait_until(lambda: not missing(load, recorder), "the last messages", 60)
    assert repeated(load, recorder) == []


def test_a_reload_under_load_is_noticed_by_nobody(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(one_channel(open_server(recorder.port)))
    with Load([relay.endpoint], clients=_CLIENTS) as load:
        for number in range(_RELOADS):
            load.wait_for_accepted(_CLIENTS)
            mode = "queued" if number % 2 else "auto"
            relay.write_settings(
                {"delivery": {"mode": mode, "patience": f"{number + 5}s"}, "limits": {"recipients": 9}}
            )
            relay.signal(signal.SIGHUP)
            # Two signals while the file is being read would be one reading more, and not two.
            wait_until(partial(has_reloaded, relay, number + 1), "the reload")
        load.wait_for_accepted(_CLIENTS)
    assert set(load.counts) == {"accepted"}, load.counts
    wait_until(lambda: not missing(load, recorder), "the last messages", 60)
    assert repeated(load, recorder) == []


def has_reloaded(relay: Relay, times: int) -> bool:
    return relay.log.count('"what": "settings"') == times


def arrivals(recorder: Recorder) -> Counter[str]:
    """How often each recipient's message arrived: Received names a single one."""
    return Counter(re.findall(r"for <([0-9a-f]{32}@customer\.example)>", " ".join(map(str, recorder.messages))))


def missing(load: Load, recorder: Recorder) -> list[str]:
    arrived = arrivals(recorder)
    return [name for name in load.accepted if not arrived[name]]


def repeated(load: Load, recorder: Recorder) -> list[str]:
    arrived = arrivals(recorder)
    return [name for name in load.accepted if arrived[name] > 1]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.needs("strace", "systemd-analyze")
def test_a_relay_does_its_work_with_the_system_calls_that_its_unit_allows(
    workers: int, folder: Path, start_relay: StartRelay, recorder: Recorder
) -> None:
    log = folder / "calls"
    settings = {"delivery": {"mode": "queued"}, "workers": workers}
    relay = start_relay(one_channel(open_server(recorder.port)), settings, starts=False)
    relay.start(*filtered(UNIT, log))
    assert submit(relay.endpoint).startswith("250")
    wait_until(lambda: recorder.messages, "the message at its server")
    assert relay.command("channel", "add", "sales", "--address", "sales@acmejets.example").status == 0
    assert relay.stop() == 0
    wait_until(lambda: "+++ exited" in log.read_text(), "the end of the trace")
    # To give a file to the folder's owner is for root; the service's own user owns both.
    assert refused_calls(log) <= {"fchown"}


@pytest.mark.needs("strace", "systemd-analyze")
def test_the_filter_of_that_test_refuses_what_the_unit_refuses(folder: Path) -> None:
    done = run([*filtered(UNIT, folder / "calls"), "chown", "0", str(folder)])
    assert done.status == 1
    assert "Operation not permitted" in done.err
    assert refused_calls(folder / "calls") == {"fchownat"}
