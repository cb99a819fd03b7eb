"""The files of a store that are deleted, moved, replaced or cut under a running relay: no 250 that would be lost, and
what is there can be rescued.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kills import settings
from tests.e2e.ledger import Ledger, arrivals, control, message, sees_store
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import free_port, wait_until

BROKEN = "451 4.3.0 The message cannot be stored now; please try again later"


def queued(**keys: Any) -> dict[str, Any]:
    return {**settings("queued"), **keys}


def directory(port: int) -> dict[str, Any]:
    found = one_channel(open_server(port))
    found["channels"]["direct"] = {"address": "direct@acmejets.example", "override": True, "mode": "auto"}
    return found


def aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.aside")


def deleted(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(aside(path))


def replaced(path: Path) -> None:
    """As an administrator does who puts back an old copy by hand."""
    shutil.copy(path, aside(path))
    aside(path).replace(path)


def written_over(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\0" * 8192)


def cut(path: Path) -> None:
    os.truncate(path, 0)


def without_folder(path: Path) -> None:
    path.parent.rename(aside(path.parent))


LOSSES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "database deleted": ("relay.db", deleted),
    "database replaced": ("relay.db", replaced),
    "WAL deleted": ("relay.db-wal", deleted),
    "folder moved": ("relay.db", without_folder),
}
DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "database cut": ("relay.db", cut),
    "database written over": ("relay.db", written_over),
    "WAL cut": ("relay.db-wal", cut),
}


def started(start_relay: StartRelay, port: int, runtime: Path, **keys: Any) -> tuple[Relay, Ledger]:
    """A relay whose queue has some mail."""
    relay = start_relay(directory(port), queued(runtime_dir=str(runtime), **keys), starts=False)
    relay.control_socket = runtime / "control.sock"
    relay.start()
    ledger = Ledger()
    for number in range(20):
        assert ledger.submit(relay, f"before{number}").startswith("250 ")
    return relay, ledger


def check_refused(relay: Relay, ledger: Ledger) -> None:
    """Nothing is taken, and whoever looks is told."""
    assert ledger.submit(relay, "lost") == BROKEN
    status = relay.command("status", "--json")
    assert status.status == 0
    store = json.loads(status.out)["store"]
    assert (store["ok"], store["reason"]) == (False, "gone")
    with relay.connect() as client:
        assert client.submit("direct@acmejets.example", "lost@customer.example", message("lost")) == BROKEN
    assert relay.counters()["relay_store_ok"] == 0
    wait_until(lambda: '"reason": "gone"' in relay.log, "the line of the log")


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_running_relay_still_has_is_rescued(
    loss: str, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay, ledger = started(start_relay, free_port(), tmp_path)
    before = len(ledger.promised)
    name, lose = LOSSES[loss]
    lose(relay.state_dir / name)
    check_refused(relay, ledger)
    assert len(ledger.promised) == before
    shown = relay.command("status")
    assert "no longer in its place" in shown.text
    assert "relay backup FILE" in shown.text
    rescue = tmp_path / "rescue.tar.gz"
    done = relay.command("backup", str(rescue), "--json")
    assert done.status == 0, done.text
    assert not list(relay.state_dir.parent.rglob("relay.db.rescued*"))
    assert relay.stop() == 0
    if loss == "folder moved":
        aside(relay.state_dir).rename(relay.state_dir)
    done = relay.command("restore", str(rescue), "--json")
    assert done.status == 0, done.text
    assert json.loads(done.out)["held"] == before
    relay.write_directory(directory(recorder.port))
    relay.start()
    for entry in list(control(relay).stream("queue.list", {})):
        control(relay).run("queue.release", {"id": entry["id"]})
    wait_until(lambda: not ledger.missing(recorder), "all that was promised")
    assert not arrivals(recorder)["lost"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_are_written_over_are_noticed(damage: str, start_relay: StartRelay, tmp_path: Path) -> None:
    relay, ledger = started(start_relay, free_port(), tmp_path)
    name, harm = DAMAGES[damage]
    harm(relay.state_dir / name)
    check_refused(relay, ledger)
    assert "put back a backup: relay restore FILE" in relay.command("status").text
    relay.signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_very_same_file_is_well_again(
    workers: int, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay, ledger = started(start_relay, recorder.port, tmp_path, workers=workers)
    path = relay.state_dir / "relay.db"
    moved(path)
    names = count()
    for _ in range(10 * workers):  # some to each worker
        assert ledger.submit(relay, f"lost{next(names)}") == BROKEN
    aside(path).rename(path)
    wait_until(lambda: sees_store(relay), "the store")
    for _ in range(10 * workers):
        wait_until(lambda: ledger.submit(relay, f"again{next(names)}").startswith("250 "), "mail again")
    wait_until(lambda: not ledger.missing(recorder), "all that was promised")
    assert not [name for name in arrivals(recorder) if name.startswith("lost")]
    assert {number for name, number in arrivals(recorder).items()} == {1}


@pytest.mark.slow
def test_a_worker_that_begins_makes_no_other_store(start_relay: StartRelay, recorder: Recorder, tmp_path: Path) -> None:
    relay, ledger = started(start_relay, recorder.port, tmp_path, workers=2)
    worker = relay.ask("status")["workers"][1]
    path = relay.state_dir / "relay.db"
    moved(path)
    os.kill(int(worker["pid"]), signal.SIGKILL)
    wait_until(lambda: "is not the file that the other processes of this relay use" in relay.log, "the new worker")
    assert not path.exists()
    aside(path).rename(path)
    wait_until(lambda: len(relay.ask("status")["workers"]) == 2, "both workers", 30)
    names = count()  # the last one that had to end may still have a client
    wait_until(lambda: ledger.submit(relay, f"again{next(names)}").startswith("250 "), "mail again")


@pytest.mark.slow
def test_a_message_on_its_way_when_the_files_go_is_sent_once(
    start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay, ledger = started(start_relay, recorder.port, tmp_path)
    wait_until(lambda: not ledger.missing(recorder), "what came before")
    recorder.hold("MAIL")
    assert ledger.submit(relay, "under-way").startswith("250 ")
    path = relay.state_dir / "relay.db"
    moved(path)
    wait_until(lambda: '"reason": "gone"' in relay.log, "the line of the log")
    recorder.release("MAIL")
    with relay.connect() as client:
        assert client.submit("direct@acmejets.example", "x@customer.example", message("direct")) == BROKEN
    assert not arrivals(recorder)["under-way"]
    aside(path).rename(path)
    wait_until(lambda: not ledger.missing(recorder), "the message", 30)
    assert arrivals(recorder)["under-way"] == 1
