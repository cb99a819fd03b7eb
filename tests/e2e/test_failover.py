"""A primary that dies under a running relay, and a replica of it that is promoted: one URL names both."""

import threading
import time
from functools import partial
from itertools import count

import pytest

from tests.e2e.in_threads import InThreads
from tests.e2e.kills import check, settings
from tests.e2e.ledger import Ledger
from tests.e2e.replica import REPLICA, SECONDS, SHORT, is_replayed, url_of, wait_for_replica
from tests.peers import postgres as peer
from tests.peers.fixtures import StartRelay
from tests.peers.postgres import Postgres, replica_of
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, Table, one_channel, open_server
from tests.peers.short_windows import Windows, short_windows
from tests.peers.system import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs(*peer.NEEDS, "pg_basebackup"),
    pytest.mark.timeout(300),
]


class Traffic(InThreads):
    """Clients that send one message after the other, each with a name of its own."""

    def __init__(self, relay: Relay, number: int = 4) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.replies: list[tuple[float, str]] = []
        self._relay = relay
        self._numbers = count()
        self._threads = [threading.Thread(target=self._send) for _ in range(number)]

    def taken_since(self, moment: float) -> int:
        return sum(at >= moment and reply.startswith("250 ") for at, reply in tuple(self.replies))

    def has_taken(self, number: int, moment: float) -> bool:
        return self.taken_since(moment) >= number

    def was_refused(self, number: int) -> bool:
        return sum(not reply.startswith("250 ") for _, reply in tuple(self.replies)) >= number

    def _send(self) -> None:
        while not self._is_over.is_set():
            reply = self.ledger.submit(self._relay, f"m{next(self._numbers)}")
            self.replies.append((time.monotonic(), reply))
            self._is_over.wait(0.02)


def begun(start_relay: StartRelay, directory: Table, keys: Table, windows: Windows = SHORT) -> Relay:
    relay = start_relay(directory, keys, starts=False)
    relay.windows = windows
    relay.start()
    return relay


@pytest.mark.parametrize(
    ("workers", "windows"), [(1, SHORT), (2, SHORT), pytest.param(1, short_windows(), marks=pytest.mark.long)]
)
def test_with_a_synchronous_replica_nothing_is_lost(
    workers: int, windows: Windows, primary: Postgres, start_relay: StartRelay, recorder: Recorder
) -> None:
    """The primary is killed with traffic on it; what was promised is on the replica."""
    database = primary.new_database()
    with replica_of(primary, REPLICA) as replica:
        primary.sql("postgres", f"ALTER SYSTEM SET synchronous_standby_names = '{REPLICA}'")
        primary.sql("postgres", "SELECT pg_reload_conf()")
        wait_for_replica(primary, "sync")
        keys = {**settings("queued"), "store": url_of(database, primary, replica), "workers": workers}
        relay = begun(start_relay, one_channel(open_server(recorder.port)), keys, windows)
        with Traffic(relay) as traffic:
            wait_until(partial(traffic.has_taken, 60, 0.0), "traffic", 60)
            primary.stop()  # immediate
            wait_until(partial(traffic.was_refused, 8), "mail that is refused")
            replica.promote()
            promoted = time.monotonic()
            wait_until(partial(traffic.has_taken, 60, promoted), "mail after the promotion", SECONDS)
        answers = {reply[:9] for _, reply in traffic.replies}
        assert answers <= {"250 2.0.0", "451 4.3.0"}, answers
        check(traffic.ledger, relay, recorder, is_doubtful=True)
        assert replica.sql("postgres", "SELECT pg_is_in_recovery()") == [(False,)]


def test_a_replica_that_is_up_to_date_takes_over_without_loss_whatever_was_waited_for(
    primary: Postgres, start_relay: StartRelay, recorder: Recorder
) -> None:
    """An asynchronous replica: what it has when the primary dies is there, so here it is let catch up before."""
    database = primary.new_database()
    with replica_of(primary, REPLICA) as replica:
        wait_for_replica(primary, "async")
        recorder.hold("MAIL")
        keys = {**settings("in line"), "store": url_of(database, primary, replica)}
        relay = begun(start_relay, one_channel(open_server(recorder.port, messages_per_minute=60_000)), keys)
        ledger = Ledger()
        for number in range(20):
            assert ledger.submit(relay, f"before{number}").startswith("250 ")
        wait_until(partial(is_replayed, primary), "the replica")
        primary.stop()
        replica.promote()
        recorder.release("MAIL")
        names = (f"behind{number}" for number in count())
        wait_until(lambda: ledger.submit(relay, next(names)).startswith("250 "), "mail after the promotion", 60)
        check(ledger, relay, recorder, is_doubtful=True)


def test_a_commit_that_its_replica_does_not_confirm_is_no_promise(
    primary: Postgres, start_relay: StartRelay, recorder: Recorder
) -> None:
    """The replica is gone and the primary waits for it: 451 in time, and never a 250 for what is at one place only."""
    database = primary.new_database()
    with replica_of(primary, REPLICA) as replica:
        primary.sql("postgres", f"ALTER SYSTEM SET synchronous_standby_names = '{REPLICA}'")
        primary.sql("postgres", "SELECT pg_reload_conf()")
        wait_for_replica(primary, "sync")
        keys = {**settings("queued"), "store": url_of(database, primary, replica)}
        relay = begun(start_relay, one_channel(open_server(recorder.port)), keys)
        ledger = Ledger()
        assert ledger.submit(relay, "before").startswith("250 ")
        with replica.frozen():
            # Each commit before it waits for the replica, too, for as long.
            assert ledger.submit(relay, "alone", timeout=110).startswith("451 4.3.0 ")
        names = (f"behind{number}" for number in count())
        wait_until(lambda: ledger.submit(relay, next(names)).startswith("250 "), "the replica's answer", 60)
        check(ledger, relay, recorder, is_doubtful=True)
