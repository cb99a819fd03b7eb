"""A clock that is set, back by hours or forward by days: what waits is tried as usual, nothing is given up early."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.paced import BODY, SUPPORT, directory
from tests.e2e.turned_clock import DAY, HOUR, NEEDS, TurnedClock
from tests.peers.fixtures import StartRelay
from tests.peers.provider import Provider, provider_server
from tests.peers.relay import Relay
from tests.peers.system import wait_until

pytestmark = [pytest.mark.needs(NEEDS), pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = {"delivery": {"mode": "queued", "retry": ["2s"]}, "log": {"format": "json"}}
LATER = "451 4.3.0 Try again later"


@pytest.fixture
def upstream() -> Iterator[Provider]:
    with provider_server(Provider()) as server:
        server.moods.extend([LATER] * 1000)
        yield server


@pytest.fixture
def clock(upstream: Provider, start_relay: StartRelay, tmp_path: Path) -> TurnedClock:
    relay = start_relay(directory(upstream.port), SETTINGS, starts=False)
    clock = TurnedClock(relay, tmp_path / "clock")
    clock.start()
    return clock


def submit(relay: Relay) -> None:
    with relay.connect() as client:
        assert client.submit(SUPPORT, "you@customer.example", BODY).startswith("250 2.0.0 Ok: queued as ")


def tried_again(upstream: Provider, times: int = 2) -> None:
    """Wait until what waits was tried again, at its usual pause of two seconds."""
    before = len(upstream.refusals)
    wait_until(lambda: len(upstream.refusals) >= before + times, "another attempt", 60)


def wait_for_word(relay: Relay, times: int) -> None:
    """Wait until the relay has said so often that the clock was set."""
    wait_until(lambda: relay.log_file.read_text().count("clock_set") >= times, "the word about the clock", 60)


def waiting(relay: Relay) -> dict[str, Any]:
    (message,) = relay.ask("queue", "list")
    found: dict[str, Any] = message
    return found


def delivered_once(relay: Relay, upstream: Provider) -> None:
    """Let the server take it: it comes to its recipient, and nothing else comes, such as a report about it."""
    upstream.moods.clear()
    wait_until(lambda: relay.ask("queue", "list") == [], "the empty queue", 60)
    assert [message.recipients for message in upstream.taken] == [("you@customer.example",)]


def test_a_clock_that_is_set_while_the_relay_runs_changes_nothing_for_what_waits(
    clock: TurnedClock, upstream: Provider
) -> None:
    submit(clock.relay)
    tried_again(upstream)
    for hours in (-2, 5 * 24, 0):
        clock.turn(hours * HOUR)
        tried_again(upstream)
        assert waiting(clock.relay)["state"] in {"queued", "sending"}
    delivered_once(clock.relay, upstream)


def test_a_clock_that_is_set_while_no_relay_runs_changes_nothing_for_what_waits(
    clock: TurnedClock, upstream: Provider
) -> None:
    submit(clock.relay)
    tried_again(upstream)
    for hours in (-2, 5 * 24):
        clock.kill()
        clock.turn(hours * HOUR)
        clock.start()
        tried_again(upstream)
        assert waiting(clock.relay)["state"] in {"queued", "sending"}
    delivered_once(clock.relay, upstream)


def test_a_clock_that_is_set_passes_no_limit_of_a_day(start_relay: StartRelay, tmp_path: Path) -> None:
    with provider_server(Provider(per_day=3)) as server:
        relay = start_relay(directory(server.port, recipients_per_day=3), SETTINGS, starts=False)
        clock = TurnedClock(relay, tmp_path / "clock")
        clock.start()
        for _ in range(4):
            submit(relay)
        server.wait_for(3, 60)
        wait_until(lambda: "3 recipients a day" in waiting(relay)["reason"], "the end of the day's budget", 60)
        for times, days in enumerate((5, -1), start=1):
            clock.turn(days * DAY)
            wait_for_word(relay, times)
            assert "3 recipients a day" in waiting(relay)["reason"]
            clock.kill()
            clock.start()
            assert "3 recipients a day" in waiting(relay)["reason"]
        assert server.refusals == []
