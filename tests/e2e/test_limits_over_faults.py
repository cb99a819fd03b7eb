"""The limits of accounts over every fault, at servers that count: one process, workers, and nodes at a PostgreSQL.

Connections, messages in any minute and recipients in any day (both short, `tests.peers.short_windows`) are never one
too many, while processes are killed, stopped and cut off, the database ends and clocks are set. After the last fault
nearly all that is allowed is used again, as long as mail waits. All faults are one chain over one ledger.
"""

import os
import signal
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lost_database import Place, silent, stopped
from tests.e2e.paced import BODY, settings, two_servers
from tests.e2e.turned_clock import DAY, NEEDS, TurnedClock
from tests.peers import postgres as peer
from tests.peers.fixtures import StartRelay
from tests.peers.provider import Provider, provider_server
from tests.peers.short_windows import short_windows
from tests.peers.system import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.needs(NEEDS)]

# Seconds.
SHORT_MINUTE, SHORT_DAY, PIECE = 10.0, 30, 2
# A busy machine reads late what was written in time: the servers count in windows that are shorter by so much.
LATE = 1.0
CONNECTIONS, PER_MINUTE, PER_DAY = 3, 30, 60
# The stretch that holds as many as a minute may: with the margin between processes (`relay.limits.constants`). A day is
# used again when whoever waits for it has looked, which is every ten seconds.
FULL_MINUTE, FULL_DAY = SHORT_MINUTE + 2.0, SHORT_DAY + PIECE + 10.0
NEARLY = 0.95
# More wait than a minute lets go; and so many more must begin before the next fault comes.
WAITING, BETWEEN = 50, 8


@dataclass
class House:
    """One or more relays that share what they use up, and the two servers that count it."""

    day: Provider
    minute: Provider
    clocks: list[TurnedClock]
    place: Place | None = None
    submitted: dict[str, int] = field(default_factory=lambda: {"support": 0, "sales": 0})

    def top_up(self) -> bool:
        """Let more wait at both servers than may go; return whether more do."""
        for channel, provider in (("support", self.day), ("sales", self.minute)):
            with self.clocks[0].relay.connect() as client:
                while self.submitted[channel] < len(provider.taken) + WAITING:
                    name = f"{channel}{self.submitted[channel]}@customer.example"
                    if not client.submit(f"{channel}@acmejets.example", name, BODY).startswith("250 "):
                        return False
                    self.submitted[channel] += 1
        return True

    def try_to_send(self, seconds: float) -> None:
        """Let clients of all relays try for so long, whatever they are answered."""
        end = time.monotonic() + seconds

        def client(clock: TurnedClock) -> None:
            while time.monotonic() < end:
                with suppress(OSError), clock.relay.connect() as connection:
                    connection.submit("live@acmejets.example", "live@customer.example", BODY)

        clients = [threading.Thread(target=client, args=(clock,)) for clock in self.clocks for _ in range(2)]
        for one in clients:
            one.start()
        for one in clients:
            one.join(60)

    def goes_on(self) -> None:
        """Wait until mail goes on at the server whose minute never ends."""
        before = len(self.minute.taken)
        wait_until(self.top_up, "that mail is stored", 60)
        wait_until(lambda: len(self.minute.taken) >= before + BETWEEN, "mail that goes on", 60)

    def is_used_up(self, since: float) -> bool:
        """Whether nearly all that is allowed was used in some minute and some day after a moment."""
        self.top_up()
        minute = [taken.at for taken in self.minute.taken if taken.at > since]
        day = [taken.at for taken in self.day.taken if taken.at > since]
        return most_in(minute, FULL_MINUTE) >= NEARLY * PER_MINUTE and most_in(day, FULL_DAY) >= NEARLY * PER_DAY


def most_in(moments: Sequence[float], seconds: float) -> int:
    """The most that any stretch of so many seconds holds."""
    ordered = sorted(moments)
    return max((bisect_left(ordered, at + seconds) - index for index, at in enumerate(ordered)), default=0)


def is_killed(house: House) -> None:
    for clock in house.clocks[-1:]:
        clock.kill()
        clock.start()


def is_stopped(house: House) -> None:
    for clock in house.clocks[-1:]:
        assert clock.relay.stop() == 0
        clock.start()


def loses_a_worker(house: House) -> None:
    relay = house.clocks[0].relay
    wait_until(lambda: len(relay.ask("status")["workers"]) == 2, "both workers", 30)
    victim = relay.ask("status")["workers"][1]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in _workers(house) and len(_workers(house)) == 2, "another worker", 30)


def _workers(house: House) -> list[int]:
    return [one["pid"] for one in house.clocks[0].relay.ask("status")["workers"]]


def loses_its_connections(house: House) -> None:
    house.day.cut()
    house.minute.cut()


def is_days_ahead(house: House) -> None:
    house.clocks[-1].turn(5 * DAY)


def is_a_day_behind(house: House) -> None:
    house.clocks[-1].turn(-DAY)


def loses_its_database(house: House) -> None:
    assert house.place is not None
    with stopped(house.place):
        house.try_to_send(6)


def is_cut_off_from_its_database(house: House) -> None:
    assert house.place is not None
    with silent(house.place):
        house.try_to_send(6)


Fault = Callable[[House], None]
_ALONE: tuple[Fault, ...] = (is_killed, loses_its_connections, is_days_ahead, is_stopped, is_a_day_behind, is_killed)
_TOGETHER: tuple[Fault, ...] = (
    is_killed,
    loses_its_database,
    is_days_ahead,
    is_stopped,
    is_cut_off_from_its_database,
    loses_its_connections,
    is_a_day_behind,
)


@pytest.fixture
def servers() -> Iterator[tuple[Provider, Provider]]:
    """One that counts recipients a day, and one that counts messages a minute; both count connections."""
    with ExitStack() as stack:
        yield (
            stack.enter_context(
                provider_server(Provider(connections=CONNECTIONS, per_day=PER_DAY, day=SHORT_DAY - LATE))
            ),
            stack.enter_context(
                provider_server(Provider(connections=CONNECTIONS, per_minute=PER_MINUTE, minute=SHORT_MINUTE - LATE))
            ),
        )


def house_of(
    servers: tuple[Provider, Provider],
    start_relay: StartRelay,
    folder: Path,
    relays: Sequence[Mapping[str, Any]],
    place: Place | None = None,
) -> House:
    """Start a relay with each of these settings, and with a clock of its own."""
    day, minute = servers
    of_day = {"max_connections": CONNECTIONS, "recipients_per_day": PER_DAY, "messages_per_minute": PER_MINUTE}
    of_minute = {"max_connections": CONNECTIONS, "messages_per_minute": PER_MINUTE}
    directory = two_servers(day.port, minute.port, of_day, of_minute)
    house = House(day, minute, [], place)
    for number, more in enumerate(relays):
        relay = start_relay(directory, {**settings("queued", "2s"), **more}, starts=False)
        relay.windows = short_windows(minute=SHORT_MINUTE, day=SHORT_DAY, lease=6, shares=12, silence=6)
        clock = TurnedClock(relay, folder / f"clock{number}")
        clock.start()
        house.clocks.append(clock)
    return house


def check(house: House, faults: Sequence[Fault]) -> None:
    """Nothing is ever too much over a chain of faults, and in the end nearly all is used."""
    house.goes_on()
    for fault in faults:
        try:
            fault(house)
            house.goes_on()
            refused = [*house.day.refusals, *house.minute.refusals]
            assert not refused, "one too many"
        except BaseException as error:
            error.add_note(f"after a house that {fault.__name__.replace('_', ' ')}")
            raise
    moment = time.monotonic()
    wait_until(lambda: house.is_used_up(moment), "a minute and a day of which nearly all is used", 180)
    assert [*house.day.refusals, *house.minute.refusals] == []


@pytest.mark.timeout(400)
def test_one_process(servers: tuple[Provider, Provider], start_relay: StartRelay, tmp_path: Path) -> None:
    check(house_of(servers, start_relay, tmp_path, [{}]), _ALONE)


@pytest.mark.timeout(400)
def test_two_workers(servers: tuple[Provider, Provider], start_relay: StartRelay, tmp_path: Path) -> None:
    check(house_of(servers, start_relay, tmp_path, [{"workers": 2}]), (loses_a_worker, *_ALONE))


@pytest.mark.long
@pytest.mark.timeout(500)
@pytest.mark.needs(*peer.NEEDS)
def test_three_nodes(servers: tuple[Provider, Provider], place: Place, start_relay: StartRelay, tmp_path: Path) -> None:
    shared = {"store": place.url, "secrets": {"master_key": f"file:{tmp_path / 'master.key'}"}}
    nodes = [{**shared, "node": name} for name in ("one", "two", "three")]
    check(house_of(servers, start_relay, tmp_path, nodes, place), _TOGETHER)
