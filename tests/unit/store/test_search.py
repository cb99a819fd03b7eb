"""Searching page by page: what no index answers, with hostile texts, in windows that are not all looked at."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from relay.mail.address import Address
from relay.store.queue import search
from relay.store.queue.queue import Queue
from relay.store.queue.search import SearchCriteria
from tests.unit.store.store_kit import MINUTE, NOW, StorePlace, history, new, new_message, open_queue


@pytest.fixture
async def queue(place: StorePlace) -> AsyncIterator[Queue]:
    async with open_queue(place) as opened:
        yield opened


async def _record(queue: Queue, id_: str, minute: int, *, to: str = "bob@there.example", **facts: Any) -> None:
    sender = facts.pop("sender", "support@acmejets.example")
    message = new_message(id_, to=(to,), **{"state": "delivered", "created": NOW + minute * MINUTE, **facts})
    envelope = replace(message.envelope, sender=Address.parse(sender) if sender else None)
    await queue.record([history(replace(message, envelope=envelope))])


async def _ids(queue: Queue, limit: int = 50, **wanted: Any) -> list[str]:
    return [message.id for message in (await queue.find(SearchCriteria(**wanted), limit=limit)).messages]


async def test_pages_follow_each_other_without_a_gap_where_times_are_the_same(queue: Queue) -> None:
    for number in range(7):
        await _record(queue, f"m{number}", number // 3)
    ids: list[str] = []
    place, pages = None, 0
    while True:
        found = await queue.find(SearchCriteria(), limit=2, after=place)
        ids += [message.id for message in found.messages]
        pages += 1
        if found.next is None:
            break
        place = found.next
    assert ids == [f"m{number}" for number in reversed(range(7))]
    assert pages == 4


async def test_every_fact_narrows_the_search(queue: Queue) -> None:
    await _record(queue, "a", 1, sender="Jane@acmejets.example", profile="jane", subject="Your flight")
    await _record(queue, "b", 2, to="Ann@Customer.example", profile=None, subject="Grüße aus ZÜRICH", state="failed")
    await _record(queue, "c", 3, sender="", message_id="<Odd-1@there.example>")
    assert await _ids(queue, sender=Address.parse("jane@acmejets.example")) == ["a"]
    assert await _ids(queue, sender="") == ["c"]
    assert await _ids(queue, sender_part="JANE@") == ["a"]
    assert await _ids(queue, sender_part="@ACMEJETS.example") == ["b", "a"]
    assert await _ids(queue, to_part="@customer.") == ["b"]
    assert await _ids(queue, subject="FLIGHT") == ["a"]
    assert await _ids(queue, subject="grüße aus zürich") == []
    assert await _ids(queue, subject="zürich") == ["b"]
    assert await _ids(queue, subject="GRÜ") == ["b"]
    assert await _ids(queue, profile="jane") == ["a"]
    assert await _ids(queue, profile="") == ["b"]
    assert await _ids(queue, profiles=["jane", "other"]) == ["a"]
    assert await _ids(queue, state="failed", contains="ann@customer") == ["b"]
    assert await _ids(queue, contains="odd-1@") == ["c"]
    assert await _ids(queue, until=NOW + 2 * MINUTE) == ["a"]
    assert await _ids(queue, since=NOW + 2 * MINUTE, until=NOW + 3 * MINUTE) == ["b"]


@pytest.mark.parametrize("text", ["%", "_", "/", "\\", "'", '"', "%%_", "//%", "ü%"])
async def test_a_hostile_text_means_itself(queue: Queue, text: str) -> None:
    await _record(queue, "plain", 1, subject="nothing odd in here")
    await _record(queue, "odd", 2, subject=f"before {text} after")
    assert await _ids(queue, subject=text) == ["odd"]
    assert await _ids(queue, contains=text) == ["odd"]


async def test_a_search_that_takes_too_long_ends_and_goes_on_from_there(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "WINDOW", 3)
    for number in range(10):
        await _record(queue, f"m{number}", number, subject="wanted" if number in {1, 2} else "other")
    assert await _ids(queue, subject="wanted") == ["m2", "m1"], "all windows are looked at where there is time"
    found, place, looks = list[str](), None, 0
    while True:
        page = await queue.find(SearchCriteria(subject="wanted"), limit=5, after=place, seconds=0)
        found += [message.id for message in page.messages]
        looks += 1
        if page.next is None:
            break
        place = page.next
    assert found == ["m2", "m1"]
    assert looks == 4


async def test_what_waits_is_found_the_oldest_first(queue: Queue) -> None:
    await _record(queue, "over", 0)
    for number in range(4):
        message = new_message(
            f"w{number}", created=NOW + number * MINUTE, profile=f"p{number % 2}", subject=f"s{number}"
        )
        await queue.add(new(replace(message, held_by="main/mailer" if number == 3 else "", state="held")))
    page = await queue.find(SearchCriteria(), limit=3, is_waiting=True)
    assert [message.id for message in page.messages] == ["w0", "w1", "w2"]
    rest = await queue.find(SearchCriteria(), limit=3, after=page.next, is_waiting=True)
    assert [message.id for message in rest.messages] == ["w3"]
    assert rest.next is None
    mine = SearchCriteria(profiles=["p0"], held_by="main/mailer")
    assert [message.id for message in (await queue.find(mine, limit=9, is_waiting=True)).messages] == ["w0", "w2", "w3"]
    subject = SearchCriteria(contains="S2", state="held")
    assert [message.id for message in (await queue.find(subject, limit=9, is_waiting=True)).messages] == ["w2"]
    assert await queue.held_counts() == {"main/mailer": 1}
    assert await queue.waiting_profiles() == {"p0", "p1"}


async def test_counts_over_time_are_by_state_and_step(queue: Queue) -> None:
    for number, state in enumerate(("delivered", "delivered", "failed", "held")):
        await _record(queue, f"m{number}", number * 4, state=state)
    day = timedelta(days=1)
    found = await queue.counts_over_time(["delivered", "failed"], NOW - day, NOW + day, timedelta(minutes=5))
    begin = NOW.replace(minute=0, second=0, microsecond=0)
    assert sorted(found) == [
        (begin, "delivered", 1),
        (begin + 5 * MINUTE, "delivered", 1),
        (begin + 10 * MINUTE, "failed", 1),
    ]
    assert await queue.counts_over_time(["failed"], NOW, NOW + 8 * MINUTE, day) == []
    assert await queue.has_any("failed")
    assert not await queue.has_any("unknown")
