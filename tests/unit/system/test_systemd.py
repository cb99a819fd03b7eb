"""What relay reads from systemd and tells it, and what its units say."""

import asyncio
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from relay.system.systemd import Systemd, from_environment
from tests.dialogs.listener.listener_kit import on_both_loops
from tests.peers.system import run
from tests.peers.systemd import notify_socket

UNITS = Path(__file__).parents[3] / "systemd"
PROGRAM = "/opt/relay/bin/relay"


@pytest.mark.parametrize(
    ("given", "descriptors"),
    [
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "submission:submissions"}, {"submission": (3,), "submissions": (4,)}),
        ({"LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:a"}, {"a": (3, 5), "b": (4,)}),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, {"a": (3,), "unknown": (4,)}),
        ({"LISTEN_FDS": "1"}, {"unknown": (3,)}),
        ({"LISTEN_FDS": "0"}, {}),
        ({"LISTEN_FDS": "-1", "LISTEN_FDNAMES": "a"}, {}),
        ({"LISTEN_FDS": "many", "LISTEN_FDNAMES": "a"}, {}),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "8"}, {}),
        ({"LISTEN_FDS": "1", "LISTEN_PID": ""}, {}),
        ({}, {}),
    ],
)
def test_passed_sockets_are_known_by_name(given: dict[str, str], descriptors: dict[str, tuple[int, ...]]) -> None:
    assert from_environment({"LISTEN_PID": "7", **given}, 7).descriptors == descriptors


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_for_the_process_that_systemd_means(given: dict[str, str], seconds: float) -> None:
    assert from_environment(given, 7).watchdog_seconds == seconds


@pytest.mark.parametrize(("given", "kept"), [("/run/x", "/run/x"), ("@x", "@x"), ("vsock:2:1", ""), ("x", "")])
def test_a_notify_socket_is_a_path_or_abstract(given: str, kept: str) -> None:
    assert from_environment({"NOTIFY_SOCKET": given}, 7).notify_socket == kept


def test_our_children_learn_nothing_of_systemd() -> None:
    environ = {
        "PATH": "/bin",
        "LISTEN_PID": "8",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "a",
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_PID": "8",
        "WATCHDOG_USEC": "1",
        "CREDENTIALS_DIRECTORY": "/run/credentials/relay.service",
    }
    from_environment(environ, 7)
    assert environ == {"PATH": "/bin", "CREDENTIALS_DIRECTORY": "/run/credentials/relay.service"}


@pytest.mark.parametrize("is_abstract", [False, True])
@on_both_loops
async def test_messages_arrive_at_a_path_and_in_the_abstract_namespace(tmp_path: Path, is_abstract: bool) -> None:
    with notify_socket(tmp_path, is_abstract=is_abstract) as heard:
        systemd = Systemd(notify_socket=heard.address)
        await systemd.ready("takes mail at 127.0.0.1:2525")
        await systemd.status("two\nlines")
        await systemd.stopping("ending")
        assert heard.next() == ["READY=1", "STATUS=takes mail at 127.0.0.1:2525"]
        assert heard.next() == ["STATUS=two lines"]
        assert heard.next() == ["STOPPING=1", "STATUS=ending"]


@on_both_loops
async def test_a_reload_says_when_it_began(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as heard:
        await Systemd(notify_socket=heard.address).reloading()
        first, second = heard.next()
    assert first == "RELOADING=1"
    assert re.fullmatch(r"MONOTONIC_USEC=[1-9]\d*", second)


@on_both_loops
async def test_a_message_waits_for_room_and_the_loop_goes_on(tmp_path: Path) -> None:
    with notify_socket(tmp_path) as heard:
        systemd = Systemd(notify_socket=heard.address)
        heard.fill()
        waiting = asyncio.create_task(systemd.status("last"))
        await asyncio.sleep(0)
        assert not waiting.done()
        while await asyncio.to_thread(heard.next) != ["STATUS=last"]:
            pass
        await waiting


async def test_a_systemd_that_is_gone_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await Systemd(notify_socket=f"{tmp_path}/none").ready("")
    assert f"systemd cannot be told READY=1 at {tmp_path}/none: No such file or directory" in capsys.readouterr().err


async def test_without_systemd_nothing_is_told() -> None:
    await Systemd().ready("")
    await Systemd().feed_watchdog(lambda: "never asked")


@on_both_loops
async def test_the_watchdog_is_fed_only_without_trouble(tmp_path: Path) -> None:
    trouble = [""]
    with notify_socket(tmp_path) as heard:
        systemd = Systemd(notify_socket=heard.address, watchdog_seconds=0.02)
        feeding = asyncio.create_task(systemd.feed_watchdog(lambda: trouble[0]))
        for _ in range(3):
            assert await asyncio.to_thread(heard.next) == ["WATCHDOG=1"]
        trouble[0] = "the queue runner hangs"
        await asyncio.to_thread(heard.wait_for_silence, 0.5)
        trouble[0] = ""
        assert await asyncio.to_thread(heard.next) == ["WATCHDOG=1"]
        feeding.cancel()


# The units.


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Copies of the units that start a program that this machine has."""
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        text = unit.read_text()
        (tmp_path / unit.name).write_text(text.replace(PROGRAM, str(Path(sys.executable).parent / "relay")))
    return sorted(str(path) for path in tmp_path.iterdir())


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(units: list[str]) -> None:
    assert len(units) == 5
    done = run(["systemd-analyze", "verify", *units])
    assert (done.status, done.text) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_the_sandbox_leaves_little_exposed(units: list[str]) -> None:
    (service,) = (unit for unit in units if unit.endswith(".service"))
    done = run(["systemd-analyze", "security", "--offline=yes", "--threshold=13", service])
    assert done.status == 0, done.text
    assert "Overall exposure level for relay.service: 1." in done.out


@pytest.mark.needs("systemd-analyze")
def test_what_the_sandbox_leaves_out_has_its_reason_in_the_unit(units: list[str]) -> None:
    (service,) = (unit for unit in units if unit.endswith(".service"))
    done = run(["systemd-analyze", "security", "--offline=yes", "--json=short", service])
    open_ones = {re.split(r"[=/]", check["name"])[0] for check in json.loads(done.out) if check["set"] is False}
    assert "PrivateNetwork" in open_ones, "or it says it in other words now"
    reasons = Path(service).read_text().partition("# Left out, and why:\n")[2].partition("\n\n")[0]
    assert open_ones - set(re.findall(r"^# ([A-Z]\w+)=.*? \w", reasons, re.MULTILINE)) == set()


@pytest.mark.needs("systemd-sysusers", "systemd-tmpfiles", "root")
def test_the_user_and_the_folder_are_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", tmp_path / "etc" / name)
    made = run(["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "sysusers.d/relay.conf")])
    assert made.status == 0, made.text
    user = re.search(r"^relay:x:(\d+):(\d+):.*:/var/lib/relay:/usr/sbin/nologin$", passwd(tmp_path), re.MULTILINE)
    assert user is not None
    made = run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(UNITS / "tmpfiles.d/relay.conf")])
    assert made.status == 0, made.text
    folder = (tmp_path / "run/relay").stat()
    assert (folder.st_mode & 0o7777, folder.st_uid, folder.st_gid) == (0o755, int(user[1]), int(user[2]))


def passwd(root: Path) -> str:
    return (root / "etc/passwd").read_text()


def test_the_units_name_each_other() -> None:
    for unit in UNITS.glob("*.socket"):
        assert "Service=relay.service" in unit.read_text(), unit.name
        assert f"FileDescriptorName={unit.stem.removeprefix('relay-')}\n" in unit.read_text()
