"""Nodes of two releases at one database, for the time of an upgrade: machine after machine, with traffic on both.

The gate goes from this release to the next, which is made of this one; a clone of any depth can. Older releases are in
the history alone: `make test-long` goes from these to this one, and fails where the history is not here.
"""

import itertools
import json
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.store.db.tables import HEAD
from tests.e2e.in_threads import InThreads
from tests.e2e.kills import check, settings
from tests.e2e.ledger import Ledger
from tests.peers import postgres as peer
from tests.peers.fixtures import StartRelay
from tests.peers.postgres import Postgres
from tests.peers.recorder import Recorder
from tests.peers.relay import RELAY, Relay, one_channel, open_server
from tests.peers.release import NEXT, Release, next_release, release_before, without_history
from tests.peers.system import run, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs(*peer.NEEDS), pytest.mark.timeout(300)]


class House(InThreads):
    """Two nodes, each of whatever release is started there, and clients of both."""

    def __init__(self, nodes: tuple[Relay, Relay]) -> None:
        super().__init__()
        self.nodes = nodes
        self.ledger = Ledger()
        self.refusals: list[str] = []
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._send, args=(node,)) for node in nodes for _ in range(2)]

    def _send(self, node: Relay) -> None:
        while not self._is_over.is_set():
            reply = self.ledger.submit(node, f"m{next(self._numbers)}")
            if reply[:3] not in {"250", "421", ""}:
                self.refusals.append(reply)
            self._is_over.wait(0.05)

    def go_on(self, number: int = 40) -> None:
        """Wait until so many more are promised."""
        before = len(self.ledger.promised)
        wait_until(lambda: len(self.ledger.promised) >= before + number, "traffic", 60)


def start(node: Relay, program: str) -> None:
    node.launch(program, *node.serving)
    wait_until(node.greets, "a greeting", 30)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    name = postgres.new_database()
    yield name
    postgres.drop_database(name)


def keys_of(url: str, key: Path) -> dict[str, Any]:
    """Settings that a release without nodes knows, too."""
    return {**settings("queued"), "store": url, "secrets": {"master_key": f"file:{key}"}}


def nodes(start_relay: StartRelay, recorder: Recorder, url: str, key: Path, **server: Any) -> tuple[Relay, Relay]:
    def one(name: str) -> Relay:
        keys = {**keys_of(url, key), "node": name}
        return start_relay(one_channel(open_server(recorder.port, **server)), keys, starts=False)

    return one("one"), one("two")


def upgrade(house: House, recorder: Recorder, before: str, after: str) -> None:
    """Bring two machines from one release to another; the old one is also killed, and starts on the new schema."""
    one, two = house.nodes
    for node in house.nodes:
        start(node, before)
    with house:
        house.go_on()
        assert two.stop() == 0
        start(two, after)
        house.go_on()
        one.signal(signal.SIGKILL)
        one.stop()
        start(one, before)
        house.go_on()
        assert one.stop() == 0
        start(one, after)
        house.go_on()
    assert house.refusals == []
    check(house.ledger, two, recorder, is_doubtful=True)


def test_from_this_release_to_the_next(
    postgres: Postgres, database: str, start_relay: StartRelay, recorder: Recorder, tmp_path: Path
) -> None:
    later = next_release(tmp_path / "next")
    house = House(nodes(start_relay, recorder, postgres.url(database), tmp_path / "master.key"))
    upgrade(house, recorder, str(RELAY), later.relay)
    assert postgres.sql(database, "SELECT revision, floor FROM schema_floor") == [(NEXT, HEAD)]
    assert postgres.sql(database, "SELECT DISTINCT colour FROM messages") == [("red",)]


@pytest.fixture
def lonely(tmp_path: Path) -> Release:
    """The last release that knew of no other node: before the migration that brought them."""
    found = release_before(tmp_path / "lonely", "0010*", is_first=True)
    if found is None:
        without_history()
    return found


@pytest.mark.long
@pytest.mark.needs("git")
@pytest.mark.parametrize("workers", [1, 2])
def test_from_one_relay_that_knew_no_other(
    workers: int,
    lonely: Release,
    postgres: Postgres,
    database: str,
    start_relay: StartRelay,
    recorder: Recorder,
    tmp_path: Path,
) -> None:
    """It works on beside a new node, on the new schema, until its turn comes; the new one may die meanwhile.

    The connections of an account are counted over both where the old one had several workers: those count in the store.
    """
    url = postgres.url(database)
    house = House(nodes(start_relay, recorder, url, tmp_path / "master.key", max_connections=2))
    one, two = house.nodes
    keys = keys_of(url, tmp_path / "master.key")
    one.write_settings({**keys, "workers": workers})
    start(one, lonely.relay)
    # One that starts when the schema is newer already would end; the greeting is the first worker's.
    status = [lonely.relay, "--config", str(one.settings_file), "status", "--json"]
    wait_until(lambda: len(json.loads(run(status).out)["workers"]) == workers, "all workers")
    assert house.ledger.submit(one, "first").startswith("250 ")
    start(two, str(RELAY))
    with house:
        house.go_on(60)
        two.signal(signal.SIGKILL)
        two.stop()
        start(two, str(RELAY))
        house.go_on(60)
        assert one.stop() == 0
        one.write_settings({**keys, "node": "one"})
        start(one, str(RELAY))
        house.go_on()
    assert house.refusals == []
    assert {node["name"] for node in two.ask("node", "list")} == {"one", "two"}
    check(house.ledger, two, recorder, is_doubtful=True)
    assert workers == 1 or recorder.most_open <= 2


@pytest.fixture
def earlier(tmp_path: Path) -> Release:
    found = release_before(tmp_path / "before")
    if found is None:
        without_history()
    return found


@pytest.mark.long
@pytest.mark.needs("git")
def test_from_the_release_before_to_this_one(
    earlier: Release,
    postgres: Postgres,
    database: str,
    start_relay: StartRelay,
    recorder: Recorder,
    tmp_path: Path,
) -> None:
    """Where both know how. One that does not is refused by what is newer, in a sentence, and harms nothing."""
    url = postgres.url(database)
    house = House(nodes(start_relay, recorder, url, tmp_path / "master.key"))
    one, two = house.nodes
    start(two, str(RELAY))
    floor = postgres.sql(database, "SELECT floor FROM schema_floor")[0][0]
    if earlier.knows_floors and earlier.schema >= floor:
        two.stop()
        postgres.sql(database, "DROP SCHEMA public CASCADE")
        postgres.sql(database, "CREATE SCHEMA public AUTHORIZATION relay")
        upgrade(house, recorder, earlier.relay, str(RELAY))
        return
    one.write_settings(keys_of(url, tmp_path / "master.key"))
    with pytest.raises(RuntimeError, match=rf"was made by a newer relay \(schema {HEAD}, and this one knows "):
        start(one, earlier.relay)
    ledger = Ledger()
    assert ledger.submit(two, "after").startswith("250 ")
    wait_until(partial(has_arrived, ledger, recorder), "the mail of the newer one")


def has_arrived(ledger: Ledger, recorder: Recorder) -> bool:
    return not ledger.missing(recorder)
