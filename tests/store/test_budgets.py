from dataclasses import replace
from datetime import timedelta

from relay.store.budgets import Spent
from relay.store.queue import Queue
from tests.store.store_kit import MINUTE, NOW

SPENT = Spent(server="acmejets", username="jane", kind="recipient", since=NOW, count=3)


async def test_what_is_spent_adds_up_and_can_be_given_back(queue: Queue) -> None:
    assert await queue.spent() == ()
    later, other = replace(SPENT, since=NOW + MINUTE), replace(SPENT, since=NOW + 2 * MINUTE, username="john")
    await queue.spend([SPENT, later, other], {})
    await queue.spend([replace(SPENT, count=4), replace(later, count=-1), replace(SPENT, kind="message", count=9)], {})
    assert set(await queue.spent()) == {
        replace(SPENT, count=7),
        replace(later, count=2),
        other,
        replace(SPENT, kind="message", count=9),
    }


async def test_what_counts_no_more_is_dropped_by_kind(queue: Queue) -> None:
    message, old = replace(SPENT, kind="message"), replace(SPENT, since=NOW - timedelta(days=2))
    await queue.spend([SPENT, message, old], {})
    await queue.spend([], {"recipient": NOW, "message": NOW + MINUTE})
    assert await queue.spent() == (SPENT,)
