"""A store that refuses, under the running service: `relay status`, /readyz and systemd name the reason, and say when it
is well again.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import failing_calls
from tests.e2e.failing_calls import READ_ONLY, can_fail, failing
from tests.e2e.ledger import Ledger, control
from tests.e2e.small_disk import small_disk
from tests.peers import postgres
from tests.peers.fixtures import StartRelay
from tests.peers.postgres import Postgres
from tests.peers.recorder import Recorder
from tests.peers.relay import RELAY, Relay, one_channel, open_server
from tests.peers.system import LOOPBACK, free_port, private_folder, wait_until
from tests.peers.systemd import NotifySocket, notify_socket
from tests.peers.visitor import Visitor

pytestmark = pytest.mark.slow

Loss = Callable[[], AbstractContextManager[object]]
BODY = (b"x" * 998 + b"\r\n") * 100
BROKEN = "451 4.3.0 The message cannot be stored now; please try again later"
NO_ROOM = "452 4.3.1 There is no room for the message now; please try again later"


class Watched:
    """A relay of which systemd, a balancer and an administrator hear."""

    def __init__(self, start_relay: StartRelay, recorder: Recorder, folder: Path, heard: NotifySocket) -> None:
        self.heard = heard
        self._web = f"{LOOPBACK}:{free_port()}"
        self._folder = folder
        self.relay: Relay = start_relay(one_channel(open_server(recorder.port)), starts=False)

    def start(self, *before: str, **settings: Any) -> None:
        """Start it; `before` is the command line of a program that becomes it."""
        given = {
            "runtime_dir": str(self._folder),
            "web": {"address": self._web},
            "delivery": {"mode": "queued", "free_space": "0"},
            **settings,
        }
        self.relay.write_settings(given)
        self.relay.control_socket = self._folder / "control.sock"
        self.relay.launch(*before, "env", f"NOTIFY_SOCKET={self.heard.address}", str(RELAY), *self.relay.serving)
        assert "; the store is" not in self._status_heard(lambda _: True)
        self._check_well()

    def check(self, reason: str, words: str, reply: str, lose: Loss) -> None:
        """All say so while the store is lost, and that it is well when that is over."""
        ledger = Ledger()
        with lose():
            # What tells nobody of itself shows when something is written.
            assert ledger.submit(self.relay, "lost", body=BODY) == reply
            self._status_heard(lambda line: f"; the store is {reason}: the store " in line)
            wait_until(lambda: self._ready() == (503, {"ready": False, "reason": words}), "/readyz to refuse")
            store = control(self.relay).status()["store"]
            assert (store["ok"], store["reason"]) == (False, reason)
            told = self.relay.command("status")
            assert told.status == 0, "it runs"
            assert f"{reason}: the store " in told.out
            assert self.relay.counters()["relay_store_ok"] == 0
        self._status_heard(lambda line: "; the store is" not in line)
        self._check_well()
        assert self.relay.command("status").status == 0
        assert ledger.submit(self.relay, "mended").startswith("250 ")

    def _check_well(self) -> None:
        wait_until(lambda: self._ready() == (200, {"ready": True, "reason": ""}), "/readyz")
        assert control(self.relay).status()["store"] == {"ok": True, "reason": "", "trouble": ""}
        # The least of all workers, each of which looks once a second.
        wait_until(lambda: self.relay.counters()["relay_store_ok"] == 1, "the metric")

    def _ready(self) -> tuple[int, Any]:
        page = Visitor(f"http://{self._web}").get("/readyz")
        return page.status, json.loads(page.text)

    def _status_heard(self, is_it: Callable[[str], bool]) -> str:
        """Return the next status of this kind that systemd hears."""
        while True:
            for line in self.heard.next():
                if line.startswith("STATUS=") and is_it(line):
                    return line


@pytest.fixture
def watched(start_relay: StartRelay, recorder: Recorder) -> Iterator[Watched]:
    with private_folder("watched") as folder, notify_socket(folder) as heard:
        yield Watched(start_relay, recorder, folder, heard)


@pytest.mark.needs("root", "unshare", "nsenter")
def test_a_full_disk_is_named(watched: Watched) -> None:
    with small_disk(watched.relay, "16m") as disk:
        watched.start(*disk.within)

        @contextmanager
        def full() -> Iterator[None]:
            disk.fill()
            try:
                yield
            finally:
                disk.make_room()

        watched.check("full", "the store is full", NO_ROOM, full)


@pytest.mark.needs("root", "unshare", "nsenter", *failing_calls.NEEDS)
def test_a_disk_that_becomes_read_only_is_named(watched: Watched, tmp_path: Path) -> None:
    """As ext4 does where it finds a fault (errors=remount-ro): nothing is written any more, and the disk says why."""
    prefix = tmp_path / "fiu"
    with small_disk(watched.relay, "32m") as disk:
        watched.start(*disk.within, *can_fail(prefix))

        @contextmanager
        def read_only() -> Iterator[None]:
            with disk.read_only(), failing(watched.relay, prefix, READ_ONLY):
                yield

        watched.check("read-only", "the store can only be read", BROKEN, read_only)


def test_files_that_are_gone_are_named(watched: Watched) -> None:
    path = watched.relay.state_dir / "relay.db"
    watched.start(workers=2)

    @contextmanager
    def gone() -> Iterator[None]:
        aside = path.rename(path.with_name("aside"))
        try:
            yield
        finally:
            aside.rename(path)

    watched.check("gone", "the store's files are gone", BROKEN, gone)


@pytest.mark.needs(*postgres.NEEDS)
def test_a_postgresql_that_is_stopped_is_named(watched: Watched, cluster: Postgres) -> None:
    watched.start(store=cluster.url(cluster.new_database()), workers=2)

    @contextmanager
    def stopped() -> Iterator[None]:
        cluster.stop()
        try:
            yield
        finally:
            cluster.start()

    watched.check("away", "the store cannot be reached", BROKEN, stopped)


@pytest.mark.needs(*postgres.NEEDS)
def test_a_postgresql_that_can_only_be_read_is_named(watched: Watched, cluster: Postgres) -> None:
    watched.start(store=cluster.url(cluster.new_database()))

    @contextmanager
    def read_only() -> Iterator[None]:
        change = "ALTER ROLE relay {} default_transaction_read_only"
        end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'relay'"
        cluster.sql("postgres", change.format("SET") + " = on")
        cluster.sql("postgres", end)
        try:
            yield
        finally:
            cluster.sql("postgres", change.format("RESET"))
            cluster.sql("postgres", end)

    watched.check("read-only", "the store can only be read", BROKEN, read_only)
