"""A rolling day: 24 hours of mixed load in three minutes, with restarts, reloads, changes and every failure upstream.

Nothing that was promised is lost, nothing arrives twice but what nobody could know of, and what the relay holds at the
end of the day is what it held in the morning. RELAY_DAY_SEED plays a day again.
"""

import os
import random
import signal
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused
from tests.e2e.ledger import control, times_unknown
from tests.long.day import Clients, Condition
from tests.long.moody import Mood, Upstream, Upstreams, moody_upstreams
from tests.peers.canaries import RIGHT, WRONG
from tests.peers.fixtures import Certificates
from tests.peers.relay import Relay, open_server, relay_process
from tests.peers.system import LOOPBACK, wait_until

HOUR = 6.0  # seconds
CLIENTS = 5
MIB = 1024 * 1024
SETTINGS: Mapping[str, Any] = {
    "delivery": {
        "mode": "auto",
        "patience": "1s",
        "retry": ["300ms", "600ms", "1s"],
        "probe": ["1s"],
        "unknown_pause": "1s",
        "connect_timeout": "2s",
        "reply_timeout": "4s",
    },
    "log": {"format": "json", "level": "info"},
}
BAD = [mood for mood in Mood if mood is not Mood.GOOD]
# Restarts are over by noon: the same process then has a long afternoon, in which it must not grow.
NOON, LOOKS = 8, (14, 19, 23)
# Measured: 2 to 6 MB from the first look to the last, with five times as much mail, too. By tracemalloc nothing of
# Python grows but the addresses that are remembered (4,096 of them); the rest are the caches of a database that grows.
MORE_MEMORY = 12 * MIB
# Connections to the store: one that writes, one for duties, four that read. One comes when it is needed for the first
# time, which may be late in the day: as many read at once as happen to ask at once. So do the threads of a pool.
MOST_CONNECTIONS = 6
MORE_THREADS = 4
LATE_BODIES = 2  # of some forty large messages since noon; one was seen still open a second after the end of the queue
FILES = {".directory.toml.lock", "directory.toml", "master.key", "node.id", "relay.db"}
_CLOSING = 1.0  # until connections that were closed are gone
SEED = int(os.environ.get("RELAY_DAY_SEED") or time.time())


@pytest.fixture
def upstreams(certificates: Certificates, tmp_path: Path) -> Iterator[Upstreams]:
    pem = tmp_path / "server.pem"
    pem.write_bytes(certificates.server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with moody_upstreams({"own": Upstream(context, RIGHT), "house": Upstream(None, RIGHT)}) as found:
        yield found


@pytest.fixture
def relay(upstreams: Upstreams, certificates: Certificates) -> Iterator[Relay]:
    with relay_process(directory(upstreams, certificates), SETTINGS) as relay:
        relay.set_password("server", "own", RIGHT)
        relay.set_password("channel", "support", RIGHT)
        yield relay


def directory(upstreams: Upstreams, certificates: Certificates, *more: str) -> dict[str, Any]:
    """A profile in each mode: with an account of its own, its server's, or none; and as many more as wanted."""
    own = {"host": LOOPBACK, "port": upstreams.servers["own"].port, "security": "tls", "auth": "plain"}
    house = open_server(upstreams.servers["house"].port)
    channels: dict[str, Any] = {
        "support": {"address": "support@acmejets.example", "override": True},
        "sales": {"address": "sales@acmejets.example"},
        "desk": {"address": "desk@acmejets.example", "server": "house", "override": True, "mode": "queued"},
        "robot": {"address": "robot@acmejets.example", "server": "house", "mode": "direct"},
        **{name: {"address": f"{name}@acmejets.example"} for name in more},
    }
    servers = {
        "own": {**own, "ca_file": str(certificates.ca_file), "username": "mailer@acmejets.example"},
        "house": house,
    }
    return {"default_server": "own", "servers": servers, "channels": channels}


class Day:
    """What happens in each hour, by one seed."""

    def __init__(self, relay: Relay, upstreams: Upstreams, certificates: Certificates) -> None:
        self._relay = relay
        self._upstreams = upstreams
        self._certificates = certificates
        self._chance = random.Random(SEED)
        self._moods = self._chance.sample(BAD, len(BAD))
        self.told: list[str] = []

    def hour(self, number: int) -> None:
        """One server is in a bad mood for half of it. The other one is, too, for a while in every third hour."""
        ends = time.monotonic() + HOUR
        first, second = self._chance.sample(list(self._upstreams.servers), 2)
        self._change(number, first, self._moods[number % len(BAD)])
        self._wait(0.2)
        if number % 3 == 0:
            self._change(number, second, self._moods[(number + 2) % len(BAD)])
        if number < NOON:
            self._restart(number)
        else:
            self._reload(number)
        self._wait(0.2)
        self._change(number, second, Mood.GOOD)
        self._wait(0.1)
        self._change(number, first, Mood.GOOD)
        self._look_around(number)
        time.sleep(max(0.0, ends - time.monotonic()))

    def _change(self, number: int, name: str, mood: Mood) -> None:
        self.told.append(f"{number}: {name} is {mood}")
        self._upstreams.change(name, mood)

    def _wait(self, part: float) -> None:
        """Wait for a part of an hour, more or less."""
        time.sleep(self._chance.uniform(0.5, 1.5) * part * HOUR)

    def _restart(self, number: int) -> None:
        kill = self._chance.choice((signal.SIGTERM, signal.SIGKILL))
        self.told.append(f"{number}: {kill.name}")
        assert self._relay.process is not None
        self._relay.signal(kill)
        status = self._relay.process.wait(40)
        assert status == (0 if kill is signal.SIGTERM else -kill), self._relay.last_words
        self._relay.start()

    def _reload(self, number: int) -> None:
        """Change what may be changed while it runs: the directory by hand and by command, a password, settings."""
        match number % 4:
            case 0:
                more = [f"more{one}" for one in range(self._chance.randint(0, 200))]
                self._relay.write_directory(directory(self._upstreams, self._certificates, *more))
            case 1:
                for _ in range(3):
                    self._relay.signal(signal.SIGHUP)
            case 2:
                self._ask("channel.add", name=f"new{number}", values={"address": f"new{number}@acmejets.example"})
                self._ask("channel.remove", name=f"new{number}")
            case 3:
                self._ask("channel.password", name="support", password=WRONG, unchecked=True)
                self._wait(0.1)
                self._ask("channel.password", name="support", password=RIGHT, unchecked=True)
        self.told.append(f"{number}: change {number % 4}")

    def _look_around(self, number: int) -> None:
        """Ask what people and programs ask all day."""
        self._relay.counters()
        for name in ("queue.list", "messages.list"):
            for _, _ in zip(range(50), control(self._relay).stream(name, {}), strict=False):
                pass

    def _ask(self, operation: str, /, **params: Any) -> Any:
        return control(self._relay).run(operation, params)


def settle(relay: Relay) -> None:
    """Wait until nothing waits any more. What is unknown twice waits for a person, who lets it go on here."""

    def is_settled() -> bool:
        status = control(relay).status()
        counts = status["queue"]
        if counts["held"] and not status["accounts_held"]:
            for entry in list(control(relay).stream("queue.list", {"state": "held"})):
                if entry["reason"].startswith("unknown: "):
                    with suppress(Refused):  # it goes on by itself meanwhile
                        control(relay).run("queue.release", {"id": entry["id"]})
        return not any(counts.values())

    wait_until(is_settled, "the end of the queue", 60)


def unexplained(relay: Relay, upstreams: Upstreams) -> dict[str, int]:
    """Return who got a message more often than the history explains: each time too many, nobody knew of one."""
    twice = {recipient: count - 1 for recipient, count in upstreams.taken.items() if count > 1}
    return {one: count for one, count in twice.items() if count > times_unknown(relay, one.partition("@")[0])}


@contextmanager
def telling(day: Day, clients: Clients) -> Iterator[None]:
    """Say with any failure how the day went, and how it can be had again."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"RELAY_DAY_SEED={SEED}; {', '.join(day.told)}; {dict(clients.outcomes)}")
        raise


def quiet_condition(relay: Relay, upstreams: Upstreams, clients: Clients) -> Condition:
    """Let all rest and everything be delivered, look at the relay, and go on."""
    clients.rest()
    settle(relay)
    time.sleep(_CLOSING)
    found = Condition.of(relay, upstreams.open)
    clients.go_on()
    return found


@pytest.mark.long
@pytest.mark.timeout(420)
def test_a_rolling_day(relay: Relay, upstreams: Upstreams, certificates: Certificates) -> None:
    print(f"RELAY_DAY_SEED={SEED}")  # noqa: T201 - to play it again
    day, clients = Day(relay, upstreams, certificates), Clients(relay, SEED, CLIENTS)
    conditions: list[Condition] = []
    with telling(day, clients):
        with clients:
            for number in range(24):
                day.hour(number)
                if number in LOOKS:
                    conditions.append(quiet_condition(relay, upstreams, clients))
            clients.rest()
        settle(relay)
        assert [one for one in clients.promised if not upstreams.taken[one]] == [], "a lost message"
        assert [one for one in clients.to_report if not upstreams.reports[one]] == [], "a lost report"
        assert unexplained(relay, upstreams) == {}, "more than once, and nobody said that it was unknown"
        assert len(clients.promised) > 1000, "the clients got somewhere"
        morning, *_, evening = conditions
        assert [one.descriptors for one in conditions] == [morning.descriptors] * len(LOOKS), "leaked descriptors"
        assert max(one.connections for one in conditions) <= MOST_CONNECTIONS, "leaked connections to the store"
        assert max(one.bodies for one in conditions) <= LATE_BODIES, "large bodies that nobody closes"
        assert [one.files for one in conditions] == [morning.files] * len(LOOKS), "files that were left"
        assert evening.threads <= morning.threads + MORE_THREADS, conditions
        assert evening.memory - morning.memory < MORE_MEMORY, conditions
        assert relay.stop() == 0
        assert {path.name for path in relay.state_dir.iterdir()} == FILES
