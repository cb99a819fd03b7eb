"""Passwords that somebody tries at the sign-in page: each costs time, and soon no more are looked at."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.peers.canaries import WRONG, canary
from tests.peers.console import ADMINISTRATOR, VIEWER, Console, console_process
from tests.peers.recorder import Recorder
from tests.peers.relay import one_channel, open_server
from tests.peers.visitor import Page, Visitor

pytestmark = pytest.mark.slow

LIMIT = 4


@pytest.fixture(scope="module")
def console(upstream: Recorder) -> Iterator[Console]:
    with console_process(one_channel(open_server(upstream.port)), {"limits": {"login_failures": LIMIT}}) as running:
        yield running


def tried(console: Console, name: str) -> list[tuple[Page, float]]:
    """Try as often as may be and twice more, and return each answer with how long it took."""
    found = []
    for _ in range(LIMIT + 2):
        began = time.monotonic()
        found.append((Visitor(console.url).sign_in(name, WRONG), time.monotonic() - began))
    return found


def test_a_name_that_there_is_and_one_that_there_is_not_are_told_alike(console: Console) -> None:
    """Both at once: a failure counts for the name, because all people may come through one proxy of this machine."""
    with ThreadPoolExecutor() as pool:
        known, unknown = pool.map(lambda name: tried(console, name), (VIEWER, "nobody-here"))
    for answers in (known, unknown):
        assert [page.status for page, _ in answers] == [403] * LIMIT + [429] * 2
        took = [seconds for _, seconds in answers]
        assert took[2] >= 1
        assert took[3] >= 2
        assert "too many passwords were wrong; try again in 5 minutes" in answers[-1][0].text
        assert not [page for page, _ in answers if page.set_cookie()]
    for (one, _), (other, _) in zip(known, unknown, strict=True):
        assert one.text.replace(VIEWER, "NAME") == other.text.replace("nobody-here", "NAME")
        assert sorted(one.headers) == sorted(other.headers)


def test_the_right_password_does_not_help_then_and_others_still_come_in(console: Console) -> None:
    barred = Visitor(console.url).sign_in(VIEWER, canary(VIEWER))
    assert (barred.status, barred.set_cookie(), barred.headers["Retry-After"]) == (429, "", "300")
    # The name in other spellings is the same name.
    assert Visitor(console.url).sign_in(VIEWER.upper(), canary(VIEWER)).status == 429
    assert Visitor(console.url).sign_in(ADMINISTRATOR, canary(ADMINISTRATOR)).status == 303


def test_a_crowd_gets_no_more_answers_than_one(console: Console) -> None:
    with ThreadPoolExecutor(12) as pool:
        pages = list(pool.map(lambda _: Visitor(console.url).sign_in("crowd", WRONG), range(12)))
    assert [page.status for page in pages].count(403) <= LIMIT
    assert {page.status for page in pages} <= {403, 429}


def test_no_password_is_shown_again(console: Console) -> None:
    page = Visitor(console.url).sign_in("somebody", canary("typed"))
    assert "somebody" in page.text
    assert canary("typed")[:12] not in page.text
