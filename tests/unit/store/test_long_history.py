"""A history of 100,000 messages: searching it is bounded, and counting it reads one index."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.mail.address import Address
from relay.store.queue.queue import Queue
from relay.store.queue.search import ListPosition, SearchCriteria
from tests.unit.store.cost_kit import cost, full_scans, plan_of
from tests.unit.store.history_kit import fill_history
from tests.unit.store.store_kit import NOW, open_queue

pytestmark = pytest.mark.slow

MANY = 100_000
STATES = ("delivered", "failed", "queued", "held", "sending", "unknown", "removed")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "state" / "relay.db"
    fill_history(path, MANY)
    return path


@pytest.fixture
async def queue(filled: Path) -> AsyncIterator[Queue]:
    async with open_queue(filled) as opened:
        yield opened


@pytest.mark.parametrize(
    ("wanted", "most"),
    [
        # A page of the newest, or of what an index finds, with room for twice as much. To look at all of the messages
        # for one of these takes thousands.
        ({}, 10),
        ({"sender": Address.parse("agent9@acmejets.example")}, 10),
        ({"to": Address.parse("r777@there.example")}, 5),
        ({"message_id": "777@acmejets.example"}, 5),
        ({"profile": "agent7"}, 10),
        ({"contains": "flight 777", "since": NOW - 30 * DAY}, 5_000),
        ({"profile": "nobody"}, 5),
        ({"profile": "agent7", "subject": "flight 7"}, 20),
        # Everything is looked at, for nothing, and once.
        ({"sender_part": "nobody"}, 3_500),
        ({"to_part": "nobody"}, 6_000),
        ({"contains": "in none of them"}, 8_000),
    ],
)
async def test_a_page_is_found_by_few_steps(queue: Queue, wanted: dict[str, Any], most: int) -> None:
    """`most` is thousands of steps of SQLite's virtual machine."""
    assert await cost(lambda: queue.find(SearchCriteria(**wanted), limit=50)) < most


@pytest.mark.parametrize("times", [{}, {"since": NOW - 9 * DAY, "until": NOW}])
async def test_the_messages_of_a_profile_are_read_from_its_index(queue: Queue, times: dict[str, Any]) -> None:
    after = ListPosition(NOW - DAY, "h")
    plan = await plan_of(queue, lambda: queue.find(SearchCriteria(profile="agent7", **times), limit=50, after=after))
    assert "INDEX ix_messages_profile (profile=? AND " in plan
    assert "TEMP B-TREE" not in plan


async def test_what_waits_is_not_looked_for_among_all_that_a_profile_sent(queue: Queue) -> None:
    plan = await plan_of(queue, lambda: queue.find(SearchCriteria(profile="agent7"), limit=50, is_waiting=True))
    assert "ix_messages_profile" not in plan


async def test_a_profile_and_a_state_go_by_the_index_of_the_state(queue: Queue) -> None:
    plan = await plan_of(queue, lambda: queue.find(SearchCriteria(profile="agent7", state="failed"), limit=50))
    assert "ix_messages_state (state=?" in plan


async def test_counting_reads_one_index(queue: Queue) -> None:
    assert await cost(lambda: queue.counts_over_time(STATES, NOW - 90 * DAY, NOW, DAY)) < 3_000
    assert await cost(lambda: queue.counts_over_time(STATES, NOW - DAY, NOW, DAY / 288)) < 60
    found = await queue.counts_over_time(STATES, NOW - 90 * DAY, NOW, DAY)
    assert sum(one.number for one in found) == MANY


async def test_every_question_reads_an_index(queue: Queue) -> None:
    questions = {
        "COVERING INDEX ix_messages_state (state=? AND created>? AND created<?)": lambda: queue.counts_over_time(
            STATES, NOW - DAY, NOW, DAY
        ),
        "COVERING INDEX ix_messages_created": lambda: queue.find(SearchCriteria(contains="77"), limit=5),
        "ix_messages_state (state=?": lambda: queue.find(SearchCriteria(contains="77", state="failed"), limit=5),
        "ix_messages_open": lambda: queue.find(SearchCriteria(contains="77"), limit=5, is_waiting=True),
        "ix_messages_created ((created,id)<(?,?))": lambda: queue.find(
            SearchCriteria(), limit=5, after=ListPosition(NOW - DAY, "h0")
        ),
        "ix_messages_held": queue.held_counts,
        "COVERING INDEX ix_messages_open": queue.waiting_profiles,
        "COVERING INDEX ix_messages_state (state=?)": lambda: queue.has_any("unknown"),
    }
    for index, question in questions.items():
        plan = await plan_of(queue, question)
        assert index in plan, plan
        assert full_scans(plan) == []
