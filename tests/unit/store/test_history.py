from dataclasses import replace
from datetime import timedelta

import pytest

from relay.mail.address import Address
from relay.store.queue.messages import StoredMessage
from relay.store.queue.queue import Queue
from tests.peers.rows import each_row
from tests.unit.store.store_kit import NOW, attempt, history, new, new_message

HOUR = timedelta(hours=1)


def sent_by(message: StoredMessage, address: str | None) -> StoredMessage:
    sender = Address.parse(address) if address else None
    return replace(message, envelope=replace(message.envelope, sender=sender))


@pytest.fixture
async def filled(queue: Queue) -> Queue:
    """Messages of five hours: 0 and 1 in the queue, the others finished."""
    messages = (
        new_message("0", created=NOW, profile="jane", state="held", next_attempt=None),
        sent_by(new_message("1", created=NOW + HOUR, to=("x@there.example", "Y@There.example")), None),
        new_message("2", created=NOW + 2 * HOUR, state="delivered", message_id="plain"),
        sent_by(new_message("3", created=NOW + 3 * HOUR, state="failed"), "Help@AcmeJets.example"),
        new_message("4", created=NOW + 4 * HOUR, to=("y@there.example",), state="delivered"),
    )
    await queue.add(*map(new, messages[:2]))
    await queue.record([history(message) for message in messages[2:]])
    return queue


def address(text: str) -> Address:
    return Address.parse(text)


@each_row(
    ("wanted", "found"),
    [
        ({}, "43210"),
        ({"sender": address("support@acmejets.example")}, "420"),
        ({"sender": address("HELP@acmejets.example")}, "3"),
        ({"sender": address("nobody@acmejets.example")}, ""),
        ({"to": address("y@there.example")}, "41"),
        ({"to": address("bob@there.example")}, "320"),
        ({"since": NOW + 2 * HOUR}, "432"),
        ({"state": "delivered"}, "42"),
        ({"state": "held"}, "0"),
        ({"message_id": "<3@acmejets.example>"}, "3"),
        ({"message_id": "3@acmejets.example"}, "3"),
        ({"message_id": "<plain>"}, "2"),
        ({"message_id": "other"}, ""),
        ({"sender": address("support@acmejets.example"), "to": address("bob@there.example"), "since": NOW}, "20"),
        ({"state": "delivered", "to": address("y@there.example"), "message_id": "<4@acmejets.example>"}, "4"),
    ],
)
async def test_a_search_finds_what_all_of_it_is_true_of(filled: Queue, wanted: dict[str, object], found: str) -> None:
    everything = await filled.search(**wanted, limit=9)  # type: ignore[arg-type]
    assert [message.id for message in everything] == list(found)
    first = await filled.search(**wanted, limit=1)  # type: ignore[arg-type]
    assert first == everything[:1]
    if first:
        assert await filled.search(**wanted, limit=9, after=first[0]) == everything[1:]  # type: ignore[arg-type]


async def test_the_queue_is_listed_oldest_first_and_page_by_page(filled: Queue) -> None:
    both = await filled.list_queue(limit=9)
    assert [message.id for message in both] == ["0", "1"]
    assert await filled.list_queue(limit=1) == both[:1]
    assert await filled.list_queue(limit=1, after=both[0]) == both[1:]
    assert await filled.list_queue(limit=1, after=both[1]) == []
    assert await filled.list_queue(limit=9, profile="jane") == both[:1]
    assert await filled.list_queue(limit=9, state="queued") == both[1:]
    assert await filled.list_queue(limit=9, state="delivered") == []


async def test_messages_of_one_moment_are_all_listed(queue: Queue) -> None:
    await queue.add(*(new(new_message(f"{number}")) for number in range(5)))
    for read in (queue.list_queue, queue.search):
        seen: list[str] = []
        last = None
        while page := await read(limit=2, after=last):
            seen += [message.id for message in page]
            last = page[-1]
        assert sorted(seen) == ["0", "1", "2", "3", "4"]


async def test_counts_and_the_oldest_are_of_the_queue(filled: Queue) -> None:
    assert await filled.counts() == {"held": 1, "queued": 1}
    assert await filled.oldest() == NOW
    ages = await filled.oldest_by_state(["queued", "held", "sending"])
    assert set(ages) == {"queued", "held"}
    assert min(ages.values()) == NOW
    assert await filled.due_times() == {"support": NOW}


async def test_an_id_is_found_by_how_it_begins(queue: Queue) -> None:
    await queue.record([history(new_message(id_, state="delivered")) for id_ in ("abc1", "abc2", "abd", "b")])
    assert await queue.ids_starting("abc", 9) == ["abc1", "abc2"]
    assert await queue.ids_starting("abc", 1) == ["abc1"]
    assert await queue.ids_starting("b", 9) == ["b"]
    assert await queue.ids_starting("%", 9) == []
    assert await queue.ids_starting("", 9) == []


async def test_more_messages_than_one_statement_names(queue: Queue) -> None:
    await queue.record([history() for _ in range(1201)])
    found = await queue.search(limit=2000)
    assert len(found) == len({message.id for message in found}) == 1201
    assert all(len(message.recipients) == 1 for message in found)


async def test_attempts_come_in_their_order(queue: Queue) -> None:
    await queue.record([replace(history(new_message("a", state="failed")), attempt=attempt(1, ended=NOW))])
    assert await queue.attempts("a") == (attempt(1, ended=NOW),)
    assert await queue.attempts("missing") == ()
