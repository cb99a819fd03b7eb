"""Two relays with one directory in a database that is lost: mail goes on by what they have in memory, and afterwards
both go by what the database says, also where a replica took over that lacks the last change.
"""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.e2e.ledger import sees_store
from tests.e2e.replica import REPLICA, SECONDS, SHORT, is_replayed, url_of, wait_for_replica
from tests.peers import postgres as peer
from tests.peers.cluster import share_key
from tests.peers.postgres import Postgres, postgres_server, replica_of
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, one_channel, open_server, relay_process
from tests.peers.system import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs(*peer.NEEDS, "pg_basebackup"),
    pytest.mark.timeout(300),
]
# docs/cluster.md: no command waits longer for a database of two hosts that is dead.
BOUND = 50.0
# docs/cluster.md says two; a busy machine adds to them.
IN_EFFECT = 2.0 + 20.0
# So many clients meet each of two workers, but once in a thousand times.
CLIENTS = 10
BOTH = pytest.mark.parametrize("two", [1, 2], indirect=True, ids="{} workers".format)
BODY = b"Subject: x\r\n\r\nx\r\n"


@dataclass(frozen=True)
class Two:
    """Two relays at one database, and its replica."""

    one: Relay
    other: Relay
    primary: Postgres
    replica: Postgres

    @property
    def both(self) -> tuple[Relay, Relay]:
        return self.one, self.other

    def fail_over(self) -> None:
        """Let the replica take over from a primary that is dead."""
        self.primary.stop()  # immediate
        self.replica.promote()


@pytest.fixture(params=[1])
def two(request: pytest.FixtureRequest, recorder: Recorder) -> Iterator[Two]:
    """Each relay has as many workers as the test says, or one."""
    with ExitStack() as stack:
        primary = stack.enter_context(postgres_server())
        database = primary.new_database()
        replica = stack.enter_context(replica_of(primary, REPLICA))
        wait_for_replica(primary, "async")
        keys: dict[str, Any] = {
            "store": url_of(database, primary, replica),
            "directory": "database",
            "delivery": {"mode": "auto"},
            "workers": request.param,
        }
        one, other = (
            stack.enter_context(
                relay_process(one_channel(open_server(recorder.port)), {**keys, "node": name}, starts=False)
            )
            for name in ("one", "other")
        )
        imported = one.command("directory", "import")
        assert imported.status == 0, imported.text
        share_key(one, other)
        for relay in (one, other):
            relay.directory_file.unlink()
            relay.windows = SHORT
            relay.start()
        found = Two(one, other, primary, replica)
        add(one, "known")
        for relay in found.both:
            wait_until(partial(accepts, relay, "known"), "the first agent", 10)
            for _ in range(CLIENTS):
                check_goes_on(relay, "known")  # with its share of the connections in memory, too
        yield found


def address(agent: str) -> str:
    return f"{agent}@acmejets.example"


def try_to_add(relay: Relay, agent: str) -> bool:
    return relay.command("agent", "add", agent, "--address", address(agent)).status == 0


def add(relay: Relay, agent: str) -> None:
    done = relay.command("agent", "add", agent, "--address", address(agent))
    assert done.status == 0, done.text


def answers(relay: Relay, agent: str) -> set[str]:
    """Return what those are answered who send as an agent, by all workers."""
    found = set()
    for _ in range(CLIENTS):
        with relay.connect() as client:
            found.add(client.envelope(address(agent))[0][:3])
    return found


def accepts(relay: Relay, agent: str) -> bool:
    return answers(relay, agent) == {"250"}


def refuses(relay: Relay, agent: str) -> bool:
    return answers(relay, agent) == {"550"}


def check_goes_on(relay: Relay, agent: str) -> None:
    """Mail is handed over by the directory in memory, and waits for no database: there is none meanwhile."""
    with relay.connect() as client:
        reply = client.submit(address(agent), "you@customer.example", BODY)
    assert reply.startswith("250 2.0.0 Ok: delivered via acmejets: "), reply


def check_refused(relay: Relay) -> None:
    """A change is refused in one sentence, and in time."""
    done = relay.command("agent", "add", "meanwhile", "--address", address("meanwhile"), seconds=BOUND)
    assert done.status == 1, done.text
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("the store postgresql://relay@")


def check_same(two: Two, *agents: str) -> None:
    """Both go by these agents, as the database does, and have nothing against that."""
    for relay in two.both:
        wait_until(partial(sees_store, relay), "the store")
        assert {agent["name"] for agent in relay.ask("agent", "list")} == set(agents)
        assert relay.ask("status")["directory"]["ok"]


@BOTH
def test_mail_goes_on_while_a_database_hangs_and_until_a_replica_takes_over(two: Two) -> None:
    """A change is refused in time meanwhile, and taken again after each."""
    with two.primary.frozen(), ThreadPoolExecutor(4) as threads:
        refused = [threads.submit(check_refused, relay) for relay in (*two.both, *two.both)]
        while not all(one.done() for one in refused):
            for relay in two.both:
                check_goes_on(relay, "known")
            time.sleep(0.5)
        for one in refused:
            one.result()
    wait_until(partial(try_to_add, two.one, "thawed"), "a change after it hung", SECONDS)
    wait_until(partial(accepts, two.other, "thawed"), "that change at the other", SECONDS)

    wait_until(partial(is_replayed, two.primary), "the replica")
    two.primary.stop()
    for relay in two.both:
        check_goes_on(relay, "known")
        check_refused(relay)
    two.replica.promote()
    wait_until(partial(try_to_add, two.one, "new"), "a change after the promotion", SECONDS)
    wait_until(partial(accepts, two.other, "new"), "the change at the other", SECONDS)
    add(two.other, "newer")
    wait_until(partial(accepts, two.one, "newer"), "the next change", IN_EFFECT)
    check_same(two, "known", "thawed", "new", "newer")


@BOTH
def test_after_a_replica_that_lacks_the_last_change_all_go_by_what_it_says(two: Two) -> None:
    wait_until(partial(is_replayed, two.primary), "the replica")
    two.primary.refuse_replicas()
    add(two.one, "lost")
    wait_until(partial(accepts, two.other, "lost"), "the change that will be lost", IN_EFFECT)
    two.fail_over()
    for relay in two.both:
        wait_until(partial(refuses, relay, "lost"), "what the replica says", SECONDS)
    add(two.other, "new")
    wait_until(partial(accepts, two.one, "new"), "a change after that", IN_EFFECT)
    add(two.one, "lost")
    wait_until(partial(accepts, two.other, "lost"), "the lost change, made again", IN_EFFECT)
    check_same(two, "known", "new", "lost")


def test_a_node_that_slept_through_it_goes_by_what_the_replica_says(two: Two) -> None:
    """There was another change meanwhile, with the number of the one that is lost."""
    wait_until(partial(is_replayed, two.primary), "the replica")
    two.primary.refuse_replicas()
    add(two.one, "lost")
    wait_until(partial(accepts, two.other, "lost"), "the change that will be lost", IN_EFFECT)
    two.other.signal(signal.SIGSTOP)
    two.fail_over()
    wait_until(partial(try_to_add, two.one, "new"), "a change after that", SECONDS)
    two.other.signal(signal.SIGCONT)
    wait_until(partial(accepts, two.other, "new"), "what the replica says", SECONDS)
    assert refuses(two.other, "lost")
    check_same(two, "known", "new")
