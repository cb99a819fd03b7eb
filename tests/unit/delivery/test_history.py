"""The history that is written behind: what it keeps while the store is away, and what it lets go."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.delivery.history import History
from relay.store.db.errors import StoreError
from relay.store.queue.queue import Queue
from tests.peers.told import capture_logs
from tests.unit.store.store_kit import NOW, attempt, new_message, open_queue

ENDED = attempt(1, ended=NOW, reply="250 2.0.0 Ok")


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Queue]:
    async with open_queue(tmp_path / "relay.db") as opened:
        yield opened


def take(history: History, name: str) -> None:
    history.record(new_message(name, state="delivered", next_attempt=None), ENDED)


async def names(queue: Queue) -> set[str]:
    return {message.id for message in await queue.search(limit=10_000)}


def away(monkeypatch: pytest.MonkeyPatch, *, is_written: bool = False) -> None:
    """Let the store fail; `is_written`: it writes, and its answer is lost."""
    real = Queue.record

    async def record(self: Queue, news: Any, *, again: bool) -> None:
        if is_written:
            await real(self, news, again=again)
        raise StoreError("the store cannot be reached")

    monkeypatch.setattr(Queue, "record", record)


async def test_what_was_handed_over_while_the_store_was_away_is_written_later(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.delivery.history._BATCH", 3)
    history = History(queue)
    with monkeypatch.context() as broken:
        away(broken)
        for number in range(5):
            take(history, f"m{number}")
            await history.flush()
    take(history, "m5")
    await history.flush()
    assert await names(queue) == {f"m{number}" for number in range(6)}


async def test_what_is_too_much_is_let_go_counted_and_told(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.delivery.history._MOST", 4)
    lost: list[int] = []
    history = History(queue, lost.append)
    with capture_logs() as told:
        with monkeypatch.context() as broken:
            away(broken)
            for number in range(7):
                take(history, f"m{number}")
                await history.flush()
        assert sum(lost) == 3
        await history.flush()
    assert await names(queue) == {"m3", "m4", "m5", "m6"}
    said = "\n".join(line["what"] for line in told)
    assert said.count("only the last 4 messages are kept") == 1
    assert said.count("the history lacks 3 messages that were handed over while the store was away") == 1
    assert said.count("the store cannot be reached") == 1


async def test_what_was_written_and_not_confirmed_is_written_once(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.delivery.history._BATCH", 2)
    history = History(queue)
    for name in ("a", "b", "c"):
        take(history, name)
    with monkeypatch.context() as broken:
        away(broken, is_written=True)
        await history.flush()
        await history.flush()
    assert await names(queue) == {"a", "b"}
    take(history, "d")
    await history.flush()
    assert await names(queue) == {"a", "b", "c", "d"}


async def test_what_comes_while_a_batch_is_written_is_of_the_next_one(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy relay would commit a few messages at a time, again and again."""
    history, batches = History(queue), list[list[str]]()
    real = Queue.record

    async def record(self: Queue, news: Any, *, again: bool) -> None:
        batches.append([new.message.id for new in news])
        take(history, f"later {len(batches)}")
        await real(self, news, again=again)

    monkeypatch.setattr(Queue, "record", record)
    for name in ("m1", "m2"):
        take(history, name)
    await history.flush()
    assert batches == [["m1", "m2"]]
    await history.flush()
    assert batches == [["m1", "m2"], ["later 1"]]
