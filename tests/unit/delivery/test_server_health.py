"""Servers that nobody gets through to: told from the first attempt in vain until one gets through."""

from datetime import UTC, datetime, timedelta

import pytest

from relay.delivery.holds import ServerHealth
from relay.directory.model import Meaning
from relay.mail.reply import Reply
from relay.upstream.outcome import Failure, Phase

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def failed(phase: Phase, meaning: Meaning = Meaning.TEMPORARY) -> Failure:
    reply = Reply(451, "4.4.1", "The mail server cannot be reached")
    return Failure(phase=phase, reply=reply, meaning=meaning, from_server=False, detail="port 25 is closed")


def test_a_server_is_told_with_since_when_and_why_the_longest_first() -> None:
    reach = ServerHealth()
    reach.note("late", failed(Phase.RESOLVE), lambda: NOW + MINUTE)
    for minute in range(3):
        reach.note("early", failed(Phase.CONNECT), lambda minute=minute: NOW + minute * MINUTE)  # type: ignore[misc]
    early, late = reach.unreached(NOW + 3 * MINUTE)
    assert (early.server, early.since, early.times, early.phase) == ("early", NOW, 3, Phase.CONNECT)
    assert "port 25 is closed" in early.why
    assert late.server == "late"


@pytest.mark.parametrize(
    "after", [None, failed(Phase.LOGIN), failed(Phase.RCPT), failed(Phase.GREETING, Meaning.THROTTLE)]
)
def test_it_is_over_when_one_gets_through(after: Failure | None) -> None:
    reach = ServerHealth()
    reach.note("main", failed(Phase.STARTTLS), lambda: NOW)
    reach.note("main", after, lambda: NOW + MINUTE)
    assert reach.unreached(NOW + MINUTE) == []


def test_what_nobody_tries_any_more_is_forgotten() -> None:
    reach = ServerHealth()
    reach.note("main", failed(Phase.CONNECT), lambda: NOW)
    assert reach.unreached(NOW + 5 * 60 * MINUTE)
    assert reach.unreached(NOW + 7 * 60 * MINUTE) == []
