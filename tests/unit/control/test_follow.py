"""`messages.follow`: who follows hears of each message that comes and of each that is in another state, once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.control.context import ControlContext
from relay.control.messages import follow
from relay.control.messages.follow import news_between
from relay.control.refused import Refused
from relay.delivery.administrative_actions import hold, release, remove
from relay.delivery.outcome import State
from relay.store.queue.history import QueueStates
from relay.system.clock import utc_now
from tests.unit.control.control_kit import AdminOperations, parts_in
from tests.unit.control.queue_kit import START, new, stored

OLD, FIRST, SECOND = (letter * 24 for letter in "abc")


@pytest.fixture
async def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlContext]:
    monkeypatch.setattr(follow, "_LOOKS_EVERY", 0.01)
    monkeypatch.setattr(follow, "_QUIET", 3)
    async with parts_in(tmp_path) as parts:
        yield parts


class Ear:
    """Somebody who follows."""

    def __init__(self, items: AsyncGenerator[dict[str, Any]]) -> None:
        self._items = items

    async def next(self) -> dict[str, Any]:
        """What is told next, if not nothing."""
        async with asyncio.timeout(20):
            while not (item := await anext(self._items)):
                pass
            return item

    async def states(self, *expected: tuple[str, str]) -> None:
        """Hear of these messages in these states, and of none between them."""
        assert [(one["id"], one["state"]) for one in [await self.next() for _ in expected]] == list(expected)


@asynccontextmanager
async def following_in(parts: ControlContext, **chosen: str) -> AsyncIterator[Ear]:
    async with aclosing(AdminOperations(parts).stream("messages.follow", chosen)) as items:
        yield Ear(items)


async def test_what_comes_and_what_becomes_of_it(parts: ControlContext) -> None:
    queue = parts.queue
    await queue.add(new(stored(State.QUEUED, id=OLD)))
    async with following_in(parts) as ear:
        assert await ear.next() == {"begun": True}
        await queue.add(new(stored(State.QUEUED, id=FIRST, minute=1)))
        await ear.states((FIRST, "queued"))
        await queue.edit(OLD, hold(utc_now()))
        await ear.states((OLD, "held"))
        await queue.edit(OLD, release(utc_now()))
        await ear.states((OLD, "queued"))
        await queue.edit(FIRST, remove(utc_now()))
        await ear.states((FIRST, "removed"))
        over = replace(stored(State.DELIVERED, id=SECOND), created=utc_now())
        await queue.record([new(over)])
        await ear.states((SECOND, "delivered"))


async def test_it_begins_with_what_was_there_since_a_time(parts: ControlContext) -> None:
    await parts.queue.add(*(new(stored(State.QUEUED, id=id_, minute=n)) for n, id_ in enumerate((OLD, FIRST, SECOND))))
    async with following_in(parts, since=START.replace(minute=1).isoformat()) as ear:
        await ear.states((SECOND, "queued"), (FIRST, "queued"))
        assert await ear.next() == {"begun": True}


async def test_only_what_is_asked_for_is_told(parts: ControlContext) -> None:
    queue = parts.queue
    async with following_in(parts, to="bob@customer.example", state="held") as ear:
        await ear.next()
        await queue.add(new(stored(State.QUEUED, id=OLD)))
        await queue.add(new(stored(State.QUEUED, id=FIRST, to=("bob@customer.example",))))
        for id_ in (OLD, FIRST):
            await queue.edit(id_, hold(utc_now()))
        await ear.states((FIRST, "held"))
    with pytest.raises(Refused, match="there is no state 'helt'"):
        async with following_in(parts, state="helt") as ear:
            await ear.next()


async def test_silence_is_broken_now_and_then(parts: ControlContext) -> None:
    async with aclosing(AdminOperations(parts).stream("messages.follow", {})) as items:
        assert await anext(items) == {"begun": True}
        assert await anext(items) == {}


async def test_it_ends_with_the_relay(parts: ControlContext) -> None:
    operations = AdminOperations(parts)
    async with aclosing(operations.stream("messages.follow", {})) as items:
        await anext(items)
        operations.end()
        assert [item async for item in items if item] == []


async def test_so_many_may_follow_and_who_leaves_makes_room(
    parts: ControlContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_MOST_FOLLOWERS", 1)
    operations = AdminOperations(parts)
    for _ in range(2):
        async with aclosing(operations.stream("messages.follow", {})) as items:
            assert await anext(items)
            with pytest.raises(Refused, match="1 others follow the messages already"):
                await anext(operations.stream("messages.follow", {}))


@pytest.mark.parametrize(
    ("before", "now", "news"),
    [
        (QueueStates({"b": "queued", "a": "queued"}, {}), QueueStates({"b": "queued", "a": "queued"}, {}), []),
        (QueueStates({"a": "queued"}, {}), QueueStates({"c": "queued", "b": "queued", "a": "queued"}, {}), ["b", "c"]),
        (QueueStates({"a": "queued"}, {}), QueueStates({}, {"a": "delivered"}), ["a"]),
        (QueueStates({}, {"a": "delivered"}), QueueStates({}, {}), []),
        (QueueStates({}, {"a": "delivered"}), QueueStates({}, {"b": "failed", "a": "delivered"}), ["b"]),
        # Three are watched. One is over, so that an older one moves up; then a new one pushes it out.
        (
            QueueStates({"d": "queued", "c": "queued", "b": "queued"}, {}),
            QueueStates({"d": "queued", "b": "held", "a": "queued"}, {"c": "delivered"}),
            ["b", "c"],
        ),
        (
            QueueStates({"d": "queued", "c": "queued", "b": "queued"}, {}),
            QueueStates({"e": "queued", "d": "queued", "c": "queued"}, {}),
            ["e"],
        ),
        (QueueStates({"d": "queued", "c": "queued", "b": "queued"}, {}), QueueStates({}, {"a": "delivered"}), ["a"]),
    ],
)
def test_what_is_news(before: QueueStates, now: QueueStates, news: list[str]) -> None:
    assert list(news_between(before, now, most=3)) == news
