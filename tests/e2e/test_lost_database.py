"""A PostgreSQL that is lost in every way there is, under a running relay: what needs no store goes on, what does is
refused in time, nothing is lost, and all of it recovers by itself.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.control.refused import Refused
from relay.listener import replies
from tests.e2e.ledger import arrivals, control, message, sees_store, settle_all
from tests.e2e.lost_database import BOUND, BROKEN, LOSSES, Place, named, stopped
from tests.peers import postgres as peer
from tests.peers.canaries import RIGHT
from tests.peers.fixtures import StartRelay
from tests.peers.packages import program
from tests.peers.postgres import postgres_server
from tests.peers.raw import RawClient
from tests.peers.recorder import Recorder
from tests.peers.relay import Relay, open_server
from tests.peers.short_windows import short_windows
from tests.peers.system import wait_until
from tests.peers.wire import wire_to

pytestmark = [pytest.mark.slow, pytest.mark.needs(*peer.NEEDS)]

NO_ROOM = "452 4.3.1 There is no room for the message now; please try again later"
# How long a database may say nothing, in seconds, in the place of 25, and what a minute has (`short_windows`).
SILENCE, MINUTE = 6.0, 12.0
SOON = 10.0
MEANWHILE = 6
_SMALL_DISK = """
mount -t tmpfs -o size=40m,mode=0700 none "$1" && chown postgres "$1" && shift &&
exec setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"
"""


@contextmanager
def full(place: Place) -> Iterator[None]:
    """The disk of its tables has no room left."""
    filler = Path(f"/proc/{place.server.pid}/root{place.server.folder}/small/filler")
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 65536):
            pass
    try:
        yield
    finally:
        filler.unlink()


UNUSED = [f"unused-{loss}" for loss in (*LOSSES, "full")]


@pytest.fixture
def small_place() -> Iterator[Place]:
    """A PostgreSQL whose tables are on a disk of 40 MB, in a mount namespace of its own."""
    with postgres_server() as server, wire_to(server.folder / ".s.PGSQL.5432") as wire:
        server.stop()
        small = server.folder / "small"
        small.mkdir()
        server.start(program("unshare"), "--mount", "sh", "-c", _SMALL_DISK, "sh", str(small))
        server.sql("postgres", f"CREATE TABLESPACE small LOCATION '{small}'")
        server.sql("postgres", "CREATE DATABASE small TEMPLATE template0 OWNER relay TABLESPACE small")
        yield Place(server, wire, "small")


def directory(port: int) -> dict[str, Any]:
    """Channels: one as usual, one that is stored first, one with a pace, and for each loss one that nobody has used."""
    server = open_server(port, auth="plain", allow_plaintext_password=True)
    paced = {**server, "messages_per_minute": 240, "recipients_per_day": 4000}

    def channel(name: str, **keys: Any) -> dict[str, Any]:
        return {"address": f"{name}@acmejets.example", "override": True, **keys}

    return {
        "default_server": "acmejets",
        "servers": {"acmejets": server, "paced": paced},
        "channels": {
            "support": channel("support"),
            "kept": channel("kept", mode="queued"),
            **{name: channel(name) for name in UNUSED},
            "paced": channel("paced", server="paced"),
            "straight": channel("straight", mode="direct"),
        },
    }


class Clients:
    """Sends messages, each by a connection of its own, and remembers what was promised."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.promised: list[str] = []
        self.patience = 150.0  # seconds for each reply; who waits longer fails

    def send(self, channel: str, name: str) -> str:
        with RawClient(self.relay.endpoint, self.patience) as client:
            if not client.greeting.startswith("220"):
                return client.greeting
            reply = client.submit(f"{channel}@acmejets.example", f"{name}@customer.example", message(name))
        if reply.startswith("250 "):
            self.promised.append(name)
        return reply

    def is_taken(self, channel: str, name: Iterator[str]) -> bool:
        return self.send(channel, next(name)).startswith("250 ")


def numbered(prefix: str) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{prefix}.{number}"


def started(
    start_relay: StartRelay, place: Place, recorder: Recorder, *, silence: float = SILENCE, minute: float = 0
) -> Clients:
    """A relay of two workers that have used all accounts but those of UNUSED."""
    settings = {
        "store": place.url,
        "workers": 2,
        "delivery": {
            "mode": "auto",
            "patience": f"{silence * 3 / 5:g}s",  # 15 seconds for a database that says nothing for 25
            "retry": ["200ms"],
            "unknown_pause": "300ms",
            "probe": ["1h"],
        },
    }
    relay = start_relay(directory(recorder.port), settings, starts=False)
    for channel in ("support", "kept", *UNUSED, "paced", "straight"):
        relay.set_password("channel", channel, RIGHT)
    relay.windows = short_windows(silence=silence, minute=minute)
    relay.start()
    wait_until(lambda: len(relay.ask("status")["workers"]) == 2, "all workers")
    clients = Clients(relay)
    for channel in ("support", "kept", "paced", "straight"):
        for number in range(12):  # each worker has some
            assert clients.send(channel, f"before.{channel}.{number}").startswith("250 "), channel
    return clients


def check_lost(clients: Clients, loss: str, refusal: str, *, may_find_room: bool = False) -> None:
    """What holds while the database is lost so. On a full disk some messages may still find room that became free."""
    # What needs no store waits for none: less than a real database that says nothing is waited for.
    clients.patience = SOON
    for number in range(MEANWHILE):
        for channel in ("support", "straight"):
            reply = clients.send(channel, f"{loss}.{channel}.{number}")
            assert reply.startswith("250 2.0.0 Ok: delivered via acmejets: "), reply
    clients.patience = BOUND
    names = numbered(f"{loss}.kept")
    for _ in range(2):
        reply = clients.send("kept", next(names))
        while may_find_room and reply.startswith("250 2.0.0 Ok: queued as "):
            reply = clients.send("kept", next(names))
        assert reply == refusal
    clients.patience = 150.0


def check_recovered(clients: Clients, recorder: Recorder, loss: str, unused: str, *, within: float = 60) -> None:
    """Nothing is lost, all is in the history, and new mail is stored again."""
    names = numbered(f"healed.{loss}")
    wait_until(partial(clients.is_taken, "kept", names), "mail that is stored again", within)
    wait_until(lambda: sees_store(clients.relay), "the store of the first worker", 60)
    wait_until(partial(clients.is_taken, unused, numbered(unused)), "a share that can be had again", 60)
    wait_until(lambda: lacking(clients) != set(clients.promised), "the store of the first worker, to be read", 60)
    settle_all(clients.relay)
    wait_until(lambda: not set(clients.promised) - set(arrivals(recorder)), "all that was promised", 30)
    twice = {name for name, count in arrivals(recorder).items() if count > 1}
    assert not twice, "what was refused and what was promised is sent once"
    wait_until(lambda: lacking(clients) == set(), "the history of all that was handed over", 60)


def lacking(clients: Clients) -> set[str]:
    """What was promised and is not in the history, as far as that can be read: a connection may still be a dead one."""
    promised = set(clients.promised)
    with suppress(Refused):
        found = control(clients.relay).stream("messages.list", {})
        return promised - {one["recipients"][0]["address"].partition("@")[0] for one in found}
    return promised


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("silence", "within"), [(SILENCE, 60), pytest.param(25.0, 15, marks=pytest.mark.long)], ids=["short", "real"]
)
def test_a_lost_database(
    silence: float, within: float, place: Place, start_relay: StartRelay, recorder: Recorder
) -> None:
    """In every way, one after the other, in one life of the relay."""
    clients = started(start_relay, place, recorder, silence=silence)
    for loss, lose in LOSSES.items():
        unused = f"unused-{loss}"
        with named(loss):
            with lose(place):
                check_lost(clients, loss, BROKEN)
                if loss != "read-only":
                    assert clients.send(unused, "secret") == BROKEN, "neither worker has a share of its connections"
                    done = clients.relay.command("status")
                    assert done.status == 0
                    assert "running as process" in done.out
                    assert "cannot be reached" in done.out
            check_recovered(clients, recorder, loss, unused, within=within)


@pytest.mark.timeout(300)
@pytest.mark.needs("root", "unshare", "setpriv")
def test_a_full_disk_of_the_database(small_place: Place, start_relay: StartRelay, recorder: Recorder) -> None:
    clients = started(start_relay, small_place, recorder)
    names = numbered("filling")
    with full(small_place):
        # What has room in pages that are there already is taken still.
        wait_until(lambda: clients.send("kept", next(names)) == NO_ROOM, "a full disk", 60)
        check_lost(clients, "full", NO_ROOM, may_find_room=True)
    check_recovered(clients, recorder, "full", "unused-full")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("silence", "minute"), [(SILENCE, MINUTE), pytest.param(25.0, 60.0, marks=pytest.mark.long)], ids=["short", "real"]
)
def test_the_pace_of_an_account_holds_and_goes_on_while_the_database_is_away(
    silence: float, minute: float, place: Place, start_relay: StartRelay, recorder: Recorder
) -> None:
    clients = started(start_relay, place, recorder, silence=silence, minute=minute)
    names = numbered("paced")
    parts = "SELECT count(*) FROM shares WHERE scope LIKE 'pace %' AND held = 120"
    wait_until(lambda: place.server.sql(place.database, parts)[0][0] == 2, "the parts of both workers")
    with stopped(place):
        wait_until(partial(clients.is_taken, "paced", names), "the part of the pace", 110)
        before = len(recorder.messages)

        def goes_on() -> bool:
            clients.send("paced", next(names))
            return len(recorder.messages) - before >= 10

        wait_until(goes_on, "ten messages more", 60)
    check_recovered(clients, recorder, "pace", "unused-stopped")
    spent = place.server.sql(place.database, "SELECT sum(number) FROM budgets WHERE kind = 'recipient'")[0][0]
    assert spent >= sum(name.startswith(("paced", "before.paced")) for name in clients.promised)


@pytest.mark.timeout(200)
def test_nobody_waits_for_a_worker_that_cannot_begin_without_the_database(
    place: Place, start_relay: StartRelay, recorder: Recorder
) -> None:
    """One of two is killed meanwhile: who meets its socket is turned away at once, and tries again."""
    clients = started(start_relay, place, recorder)
    worker = clients.relay.ask("status")["workers"][1]
    with stopped(place):
        os.kill(int(worker["pid"]), signal.SIGKILL)
        wait_until(lambda: is_turned_away(clients.relay), "the end of a worker that cannot begin", 30)
        greetings = [greeting_of(clients.relay) for _ in range(30)]
        assert {greeting[:3] for greeting in greetings} == {"220", "421"}
        assert str(replies.NOT_READY) in greetings
        names = numbered("lost")
        assert sum(clients.is_taken("support", names) for _ in range(30)) >= 5
    wait_until(lambda: clients.relay.command("status").status == 0, "the database, as the relay sees it", 30)
    wait_until(lambda: len(clients.relay.ask("status")["workers"]) == 2, "the worker", 30)
    wait_until(lambda: {greeting_of(clients.relay)[:3] for _ in range(30)} == {"220"}, "that nobody is turned away", 30)


def greeting_of(relay: Relay) -> str:
    with RawClient(relay.endpoint, 10) as client:
        return client.greeting


def is_turned_away(relay: Relay) -> bool:
    try:
        return greeting_of(relay).startswith("421 ")
    except OSError:
        return False
