"""How much of what waits a process takes, where others send for the same account."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from relay.delivery.outcome import State
from relay.store.queue.messages import StoredMessage
from tests.peers.moments import a_while
from tests.unit.delivery.bench_kit import DeliveryKit
from tests.unit.delivery.delivery_kit import dispatching, limited, reached, stored, upstream_of

SCOPE = "acmejets/support@acmejets.example"


@dataclass
class Some:
    """So many of the connections, and what it is told of the rest."""

    granted: int
    limits: set[int] = field(default_factory=set)
    backlogs: list[int] = field(default_factory=list)

    def claims(self, scope: str, limit: int) -> int:
        assert scope == SCOPE
        self.limits.add(limit)
        return min(limit, max(1, self.granted))

    def expect(self, scope: str, limit: int, backlog: int) -> None:
        self.backlogs.append(backlog)


async def test_no_more_is_taken_than_there_are_connections_for_and_more_when_there_are(delivery: DeliveryKit) -> None:
    limited(delivery, max_connections=5)
    upstream, some = upstream_of(delivery), Some(2)
    upstream.gate = asyncio.Event()
    ids = [await stored(delivery) for _ in range(8)]
    async with dispatching(delivery, some):
        async with asyncio.timeout(10):
            while len(upstream.transfers) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await a_while(0.1)
            assert len(upstream.transfers) == 2
            assert some.backlogs[-1] == 5  # it would use all
            some.granted = 4
            while len(upstream.transfers) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        upstream.gate.set()
        for id_ in ids:
            await reached(delivery, id_, State.DELIVERED)
    assert some.limits == {5}
    assert some.backlogs[-1] == 0


async def test_a_worker_that_took_all_does_not_look_again(
    delivery: DeliveryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(delivery, max_connections=5)
    upstream, looks = upstream_of(delivery), list[int]()
    upstream.gate = asyncio.Event()
    claim = delivery.queue.claim

    async def counted(profiles: Collection[str | None], limit: int, now: datetime, state: str) -> list[StoredMessage]:
        found = await claim(profiles, limit, now, state)
        looks.append(len(found))
        return found

    monkeypatch.setattr(delivery.queue, "claim", counted)
    ids = [await stored(delivery) for _ in range(3)]
    async with dispatching(delivery):
        async with asyncio.timeout(10):
            while len(upstream.transfers) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await a_while(0.1)
        before = len(looks)
        upstream.gate.set()
        for id_ in ids:
            await reached(delivery, id_, State.DELIVERED)
        assert len(looks) == before
        assert sum(looks) == 3


@pytest.mark.parametrize("limits", [{}, {"messages_per_minute": 6000}])
async def test_what_comes_while_another_takes_long_waits_only_for_a_connection(
    delivery: DeliveryKit, limits: dict[str, Any]
) -> None:
    limited(delivery, max_connections=3, **limits)
    upstream = upstream_of(delivery)
    upstream.gate = asyncio.Event()
    ids = [await stored(delivery)]
    async with dispatching(delivery) as runner, asyncio.timeout(10):
        while not upstream.transfers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ids += [await stored(delivery) for _ in range(3)]
        runner.wake()
        while len(upstream.transfers) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        upstream.gate.set()
        for id_ in ids:
            await reached(delivery, id_, State.DELIVERED)


async def test_with_a_pace_one_connection_more_than_there_is_would_be_used(delivery: DeliveryKit) -> None:
    limited(delivery, max_connections=5, messages_per_minute=600)
    upstream, some = upstream_of(delivery), Some(0)
    upstream.gate = asyncio.Event()
    ids = [await stored(delivery) for _ in range(3)]
    async with dispatching(delivery, some):
        async with asyncio.timeout(10):
            while not upstream.transfers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            while 2 not in some.backlogs:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(upstream.transfers) == 1
        upstream.gate.set()
        for id_ in ids:
            await reached(delivery, id_, State.DELIVERED)
    assert max(some.backlogs) == 2
