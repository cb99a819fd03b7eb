import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from relay.limits.ledger import Purpose, Spent
from relay.limits.rows import Taken
from relay.store.queue.queue import Queue
from tests.unit.store.store_kit import MINUTE, NOW

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


def purpose(username: str = "jane", *, is_shared: bool = False) -> Purpose:
    return Purpose("acmejets", username, "message", NOW - MINUTE, is_shared)


async def test_what_a_rule_takes_it_takes_by_what_all_have_taken(queue: Queue) -> None:
    def up_to_five(rows: Sequence[tuple[datetime, int]], now: datetime) -> Taken:
        return Taken(max(0, min(3, 5 - sum(count for _, count in rows))), now)

    taken = await asyncio.gather(*(queue.take(purpose(), up_to_five) for _ in range(3)))
    assert sorted(one.count for one in taken) == [0, 2, 3]
    spent = await queue.spent()
    assert {replace(one, since=NOW, count=0) for one in spent} == {replace(SPENT, kind="message", count=0)}
    assert sum(one.count for one in spent) == 5
    assert (await queue.take(purpose("john"), up_to_five)).count == 3
    assert (await queue.take(purpose("john", is_shared=True), up_to_five)).count == 0


async def test_what_counts_is_found_by_its_time_and_by_who_shares_it(queue: Queue) -> None:
    jane, john = replace(SPENT, kind="message"), replace(SPENT, kind="message", username="john", count=2)
    await queue.spend([jane, john, replace(jane, since=NOW - MINUTE), SPENT, replace(jane, server="other")], {})
    assert await queue.spent_for(purpose()) == [(NOW, 3)]
    assert sorted(await queue.spent_for(purpose(is_shared=True))) == [(NOW, 2), (NOW, 3)]
    await queue.spend([replace(jane, count=-3)], {})
    assert await queue.spent_for(purpose()) == []
    assert jane not in await queue.spent()
