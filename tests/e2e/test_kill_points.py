"""SIGKILL at named points of the real process: what had its 250 arrives, and arrives twice only where it must.

It must where the kill falls between our final dot and the record of its answer: nobody can know then if the server has
the message. The points are the ones of `killed_relay.POINTS`.
"""

import random
from collections.abc import Iterable
from functools import partial

import pytest

from tests.e2e import ledger as books
from tests.e2e.kills import MODES, Lives, check, directory, settings, start_to_die, submit_by_four, wait_for_kill
from tests.e2e.ledger import REFUSED, Ledger
from tests.peers.fixtures import StartRelay
from tests.peers.recorder import Recorder

# Three pieces on the wire.
LARGE = (b"x" * 998 + b"\r\n") * 300
# Between our final dot and the record of its answer.
DOUBTFUL = {
    "dot answered",
    "answer read",
    "before the outcome",
    "in the settlement",
    "settled, not committed",
    "report not committed",
}
ON_THE_WAY = (
    "before connecting",
    "logged in",
    "sender named",
    "recipient named",
    "announced",
    "in the content",
    "before the dot",
    "dot answered",
    "answer read",
)
RARE = {"before connecting", "logged in"}  # many messages share a connection
AFTERWARDS = (
    "before the dot is recorded",
    "dot not committed",
    "dot recorded",
    "before the outcome",
    "in the settlement",
    "settled, not committed",
    "settled",
)
STORING = ("stored, not committed", "committed, not answered")
PLAIN = [
    *((mode, point) for mode in MODES for point in ON_THE_WAY),
    *((mode, point) for mode in ("queued", "in line", "gone") for point in (*STORING, *AFTERWARDS)),
    *(
        ("in line", point)
        for point in ("claimed, not committed", "claimed", "attempt not committed", "attempt recorded")
    ),
    *(("gone", point) for point in ("patience ended", "going on alone")),
]
# Enough to see at once when something is wrong; the others take longer together.
QUICK = ("stored, not committed", "committed, not answered", "dot recorded", "settled, not committed")
TOGETHER = ("announced", "in the content", "dot answered")
# Where a message is killed that has a report in the end, and at which call of it.
REPORTING = (
    ("committed, not answered", 1),
    ("before the outcome", 1),
    ("report not committed", 1),
    ("settled, not committed", 1),
    ("settled", 1),
    ("settled", 2),
)


def kill_at_each(points: Iterable[str], mode: str, lives: Lives) -> None:
    """Kill a relay at one point after the other, each time with a message that is there when the relay comes back."""

    def stored(name: str) -> None:
        assert books.arrivals(lives.recorder)[name], "it was in the store"

    for point in points:
        is_stored = mode in {"queued", "in line"} and point != "stored, not committed"
        lives.end_at(
            point,
            name=point.replace(" ", "-").replace(",", ""),
            body=LARGE,
            count=3 if point == "in the content" else 1,
            is_doubtful=point in DOUBTFUL,
            owes=partial(stored, point.replace(" ", "-").replace(",", "")) if is_stored else lambda: None,
        )
    lives.end()


def begun(mode: str, start_relay: StartRelay, recorder: Recorder) -> Lives:
    return Lives(start_relay(directory(mode, recorder.port), settings(mode), starts=False), recorder)


def test_a_kill_at_the_first_points_to_look_at(start_relay: StartRelay, recorder: Recorder) -> None:
    kill_at_each(QUICK, "queued", begun("queued", start_relay, recorder))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_kill_at_each_point_of_a_delivery(mode: str, start_relay: StartRelay, recorder: Recorder) -> None:
    kill_at_each((point for each, point in PLAIN if each == mode), mode, begun(mode, start_relay, recorder))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_kill_where_commands_leave_together(mode: str, start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.replies["EHLO"] = b"250-recorder.test\r\n250-8BITMIME\r\n250 PIPELINING\r\n"
    kill_at_each(TOGETHER, mode, begun(mode, start_relay, recorder))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["queued", "in line", "auto"])
def test_a_kill_while_a_report_is_made(mode: str, start_relay: StartRelay, recorder: Recorder) -> None:
    recorder.replies[f"RCPT TO:<{REFUSED}>"] = b"550 5.1.1 No such user here\r\n"
    lives = begun(mode, start_relay, recorder)

    def reported(name: str) -> None:
        if name in lives.ledger.promised or mode != "auto":
            assert books.reports(recorder)[name] == 1, "the report is owed like the message"

    for number, (point, count) in enumerate(REPORTING):
        name = f"killed{number}"
        is_doubtful = point in DOUBTFUL or point == "committed, not answered"
        lives.end_at(point, REFUSED, name=name, count=count, is_doubtful=is_doubtful, owes=partial(reported, name))
    lives.end()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
def test_kills_at_all_points_under_load_of_several_clients(
    mode: str, start_relay: StartRelay, recorder: Recorder
) -> None:
    """One round after the other over the same store, so that each round begins with what the ones before left."""
    chance = random.Random(mode)
    relay = start_relay(directory(mode, recorder.port), settings(mode), starts=False)
    ledger = Ledger()
    points = [point for each, point in PLAIN if each == mode]
    chance.shuffle(points)
    for number, point in enumerate(points):
        start_to_die(relay, point, 1 if point in RARE else chance.randint(1, 20))
        submit_by_four(ledger, relay, str(number))
        wait_for_kill(relay)
    relay.start()
    check(ledger, relay, recorder, is_doubtful=True)
    assert len(ledger.promised) > len(points), "the clients got somewhere"
