"""A disk that is full, failing, locked or damaged, under the running service: nothing acknowledged is lost.

No 250 without a commit; what needs no store goes on; and when the disk is well again, so is the relay, by itself.
"""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.e2e import failing_calls
from tests.e2e.failing_calls import READ_ONLY, can_fail, failing
from tests.e2e.in_threads import InThreads
from tests.e2e.kills import check, settings
from tests.e2e.ledger import Ledger, arrivals, message, settle_all
from tests.e2e.small_disk import small_disk
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server
from tests.peers.system import free_port, wait_until

pytestmark = pytest.mark.slow

# A channel whose mail needs no store while its upstream is well.
DIRECT = "direct@acmejets.example"
NO_ROOM = "452 4.3.1 There is no room for the message now; please try again later"
BROKEN = "451 4.3.0 The message cannot be stored now; please try again later"
BODY = b"x" * 998 + b"\r\n"


def directory(port: int) -> dict[str, Any]:
    found = one_channel(open_server(port))
    found["channels"]["direct"] = {"address": DIRECT, "override": True, "mode": "auto"}
    return found


def queued(free_space: str = "0") -> dict[str, Any]:
    own = settings("queued")
    own["delivery"]["free_space"] = free_space
    return own


def send_direct(relay: Relay, name: str) -> str:
    """Send a message whose delivery needs no store, and return the reply."""
    with relay.connect() as client:
        return client.submit(DIRECT, f"{name}@customer.example", message(name))


class Clients(InThreads):
    """Some clients that send one message after the other, until they are told to stop."""

    def __init__(self, relay: Relay, ledger: Ledger, number: int = 4) -> None:
        super().__init__()
        self.replies: list[str] = []
        self._relay = relay
        self._ledger = ledger
        self._threads = [threading.Thread(target=self._send, args=(client,)) for client in range(number)]

    def count(self, beginning: str) -> int:
        """How many replies began so."""
        return sum(reply.startswith(beginning) for reply in tuple(self.replies))

    def _send(self, client: int) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            self.replies.append(self._ledger.submit(self._relay, f"c{client}.{number}", body=BODY * 50))
            self._is_over.wait(0.02)


@pytest.mark.needs("root", "unshare", "nsenter")
def test_a_full_disk_refuses_and_goes_on_by_itself(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(recorder.port), queued(), starts=False)
    ledger = Ledger()
    with small_disk(relay, "32m") as disk:
        relay.start(*disk.within)
        with Clients(relay, ledger) as clients:
            wait_until(lambda: clients.count("250 ") > 10, "some mail")
            disk.fill()
            wait_until(lambda: clients.count("452 ") > 20, "a full disk", 30)
            assert send_direct(relay, "direct") == "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"
            before = clients.count("250 ")
            disk.make_room()
            wait_until(lambda: clients.count("250 ") > before + 20, "mail again", 30)
        assert {reply for reply in clients.replies if not reply.startswith("250 ")} <= {NO_ROOM, BROKEN}
        check(ledger, relay, recorder, is_doubtful=False)
        assert arrivals(recorder)["direct"] == 1


@pytest.mark.needs("root", "unshare", "nsenter")
def test_a_floor_refuses_before_the_disk_is_full_and_the_queue_goes_on(
    start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(directory(recorder.port), queued("8MiB"), starts=False)
    ledger = Ledger()
    with small_disk(relay, "32m") as disk:
        recorder.hold("MAIL")
        relay.start(*disk.within)
        ledger.submit(relay, "early")
        disk.fill(leave=4 * 1024**2)
        names = (f"late{number}" for number in count())
        wait_until(lambda: ledger.submit(relay, next(names)) == NO_ROOM, "the floor")
        assert send_direct(relay, "direct") == NO_ROOM
        recorder.release("MAIL")
        check(ledger, relay, recorder, is_doubtful=False)
        disk.make_room()
        wait_until(lambda: ledger.submit(relay, "again").startswith("250 "), "room")
        check(ledger, relay, recorder, is_doubtful=False)


@pytest.mark.needs("root", "unshare", "nsenter")
def test_a_large_message_leaves_a_disk_that_is_below_the_floor(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(free_port()), queued("16MiB"), starts=False)
    ledger = Ledger()
    with small_disk(relay, "32m") as disk:
        relay.start(*disk.within)
        ledger.submit(relay, "large", body=BODY * 2000)  # more than stays in memory
        disk.fill(leave=12 * 1024**2)
        names = (f"late{number}" for number in count())
        wait_until(lambda: ledger.submit(relay, next(names)) == NO_ROOM, "the floor")
        (disk.folder / "directory.toml").write_text(tomli_w.dumps(directory(recorder.port)))
        check(ledger, relay, recorder, is_doubtful=False)
        assert arrivals(recorder)["large"] == 1


@pytest.mark.needs("root", "unshare", "nsenter")
def test_a_disk_that_cannot_be_written_is_named_at_the_start(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(recorder.port), queued(), starts=False)
    with small_disk(relay, "32m") as disk:
        relay.start(*disk.within)
        assert relay.stop() == 0
        disk.remount("ro")
        with pytest.raises(RuntimeError, match=r"cannot be opened; .* that the disk is not read-only"):
            relay.start(*disk.within)
        disk.remount("rw")
        relay.start(*disk.within)


# errno(3): 28 ENOSPC, 5 EIO.
RULES = {
    "a full disk now and then": ("enable_random name=posix/io/rw/pwrite,probability=0.05,failinfo=28",),
    "writes and syncs that fail now and then": (
        "enable_random name=posix/io/rw/pwrite,probability=0.02,failinfo=5",
        "enable_random name=posix/io/sync/fdatasync,probability=0.1,failinfo=5",
    ),
    "no sync": ("enable name=posix/io/sync/fdatasync,failinfo=5",),
    "read-only": (READ_ONLY,),
}


@pytest.mark.needs(*failing_calls.NEEDS)
@pytest.mark.parametrize("mode", ["queued", "gone"])
@pytest.mark.parametrize("fault", RULES)
def test_system_calls_that_fail_lose_nothing(
    fault: str, mode: str, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    relay = start_relay(directory(recorder.port), settings(mode), starts=False)
    ledger = Ledger()
    relay.start(*can_fail(tmp_path / "fiu"))
    with Clients(relay, ledger) as clients:
        wait_until(lambda: clients.count("250 ") > 10, "some mail")
        with failing(relay, tmp_path / "fiu", *RULES[fault]):
            wait_until(lambda: clients.count("4") > 10, "failing writes", 60)
        before = clients.count("250 ")
        wait_until(lambda: clients.count("250 ") > before + 20, "mail again", 30)
    answers = {reply for reply in clients.replies if not reply.startswith("250 ")}
    assert answers <= {NO_ROOM, BROKEN}, answers
    check(ledger, relay, recorder, is_doubtful=True)
    assert relay.stop() == 0
    relay.start()
    check(ledger, relay, recorder, is_doubtful=True)


def test_a_store_that_another_process_keeps_locked_is_waited_for(start_relay: StartRelay, recorder: Recorder) -> None:
    relay = start_relay(directory(recorder.port), queued())
    ledger = Ledger()
    ledger.submit(relay, "before")
    settle_all(relay)
    with closing(sqlite3.connect(relay.state_dir / "relay.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert ledger.submit(relay, "locked-out") == BROKEN
        assert "is locked by another process; try again when that has ended" in relay.log
        assert send_direct(relay, "direct") == "250 2.0.0 Ok: delivered via acmejets: Ok: recorded"
    wait_until(lambda: ledger.submit(relay, "again").startswith("250 "), "the store")
    check(ledger, relay, recorder, is_doubtful=False)


def garbage(path: Path) -> None:
    path.write_bytes(b"this is a text and no database\n" * 1000)


def other_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (name TEXT)")
    path.chmod(0o600)


def half_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)  # behind the header of the file, where the schema begins
        file.write(b"\xff" * 2000)


def one_page_of_the_mail(path: Path) -> None:
    """Damage behind what a start reads: everything looks well until somebody asks for that message."""
    with closing(sqlite3.connect(path)) as store:
        (number,) = store.execute("SELECT rootpage FROM sqlite_master WHERE name = 'attempts'").fetchone()
    with path.open("r+b") as file:
        file.seek((number - 1) * 4096)
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (garbage, "is no database; move it away, or put back a backup of it"),
        (other_program, "is a database of another program; move it away, or name another store"),
        (half_a_page, "is damaged; stop relay and put back a backup of it"),
        (one_page_of_the_mail, "is damaged; stop relay and put back a backup of it"),
    ],
)
def test_a_damaged_store_is_named_at_the_start_with_what_to_do(
    damage: Callable[[Path], None], words: str, start_relay: StartRelay, recorder: Recorder
) -> None:
    relay = start_relay(directory(recorder.port), queued())
    ledger = Ledger()
    for number in range(50):
        ledger.submit(relay, f"m{number}")
    settle_all(relay)
    assert relay.stop() == 0
    path = relay.state_dir / "relay.db"
    for beside in relay.state_dir.glob("relay.db-*"):
        beside.unlink()
    damage(path)
    with pytest.raises(RuntimeError, match="relay serve ended with 1") as ended:
        relay.start()
    assert str(ended.value).splitlines()[-1].startswith(f"the store {path} {words}")
