"""Several ways out over one store: the server never sees more connections than the account may have."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from relay.directory.model import Account
from relay.limits.connection_leases import ConnectionLeases
from relay.limits.shares import OneMachine
from relay.store.db.database import open_database
from relay.store.queue.queue import Queue
from relay.upstream.outcome import Outcome
from relay.upstream.pool import Upstream
from relay.upstream.transaction import Transfer
from tests.dialogs.upstream.upstream_kit import FAST, Counting, Line, ScriptedServer, scripted, server_at, transfer_to
from tests.peers.moments import a_while

pytestmark = pytest.mark.timeout(60)
TIMEOUTS = replace(FAST, reply=10, final=10, idle=30)


@dataclass
class Worker:
    """What one process has of the way out, and what it handed over."""

    queue: Queue
    shares: ConnectionLeases
    upstream: Upstream
    running: asyncio.Task[None]
    outcomes: list[Outcome] = field(default_factory=list)

    async def send(self, transfer: Transfer, number: int) -> None:
        async def one() -> None:
            self.outcomes.append(await self.upstream.deliver(transfer))

        await asyncio.gather(*(one() for _ in range(number)))


@asynccontextmanager
async def workers(path: Path, count: int) -> AsyncIterator[list[Worker]]:
    """So many, which tell each other at once when something is to be had."""
    found: list[Worker] = []

    def tell() -> None:
        for worker in found:
            worker.shares.look()

    async with AsyncExitStack() as stack:
        for number in range(count):
            database = await open_database(path)
            stack.push_async_callback(database.close)
            queue = Queue(database, f"worker {number}")
            stack.push_async_callback(queue.aclose)
            shares = ConnectionLeases(
                queue, f"worker {number}", OneMachine(count), lease=queue.durations.shares, tell=tell
            )
            stack.push_async_callback(shares.aclose)
            running = asyncio.create_task(shares.run())
            stack.callback(running.cancel)
            upstream = Upstream("relay.example", TIMEOUTS, shares.allowance)
            stack.push_async_callback(upstream.aclose)
            found.append(Worker(queue, shares, upstream, running))
        yield found


async def slowly(line: Line) -> None:
    """Take a message as a server does that has some work with it."""
    await asyncio.sleep(0.01)  # a slow server
    await line.send(b"250 2.0.0 taken\r\n")


def to(server: ScriptedServer, account: str = "jane", **settings: object) -> Transfer:
    return transfer_to(server_at(server.port, **settings), account=Account("acme", account))


async def test_all_have_their_part_and_never_more_than_the_limit_together(tmp_path: Path) -> None:
    async with scripted(kind=Counting, answers={".": slowly}) as server, workers(tmp_path / "relay.db", 3) as all_:
        assert isinstance(server, Counting)
        each = to(server, max_connections=6)
        async with asyncio.timeout(30):
            done, others = await asyncio.wait(
                [asyncio.create_task(worker.send(each, 150)) for worker in all_], return_when=asyncio.FIRST_COMPLETED
            )
            counts = sorted(len(worker.outcomes) for worker in all_)
            await asyncio.gather(*done, *others)
        assert all(outcome.accepted for worker in all_ for outcome in worker.outcomes)
        assert len(server.messages) == 450
        assert counts[0] > 0.6 * counts[-1]
        assert server.most == 6


async def test_who_is_alone_soon_has_all_and_gives_half_of_it_to_the_next(tmp_path: Path) -> None:
    async with scripted(kind=Counting, answers={".": slowly}) as server, workers(tmp_path / "relay.db", 2) as all_:
        assert isinstance(server, Counting)
        one, two = all_
        each = to(server, max_connections=4)
        async with asyncio.timeout(30):
            first = asyncio.create_task(one.send(each, 1000))
            await _until(lambda: one.shares.allowance("acme/jane").granted == 4)
            second = asyncio.create_task(two.send(each, 60))
            await _until(lambda: two.shares.allowance("acme/jane").granted == 2)
            assert one.shares.allowance("acme/jane").granted == 2
            await second
            first.cancel()
            await asyncio.wait({first})
        assert server.most == 4


async def test_one_connection_is_shared_by_all_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.limits.connection_leases._EPOCH_SECONDS", 1)
    async with scripted(kind=Counting, answers={".": slowly}) as server, workers(tmp_path / "relay.db", 3) as all_:
        assert isinstance(server, Counting)
        each = to(server, max_connections=1)
        async with asyncio.timeout(30):
            await asyncio.gather(*(worker.send(each, 60) for worker in all_))
        assert len(server.messages) == 180
        assert server.most == 1


async def test_what_a_process_that_died_had_is_there_for_the_others(tmp_path: Path) -> None:
    async with scripted(kind=Counting, answers={".": slowly}) as server, workers(tmp_path / "relay.db", 2) as all_:
        assert isinstance(server, Counting)
        dies, lives = all_
        each = to(server, max_connections=4)
        async with asyncio.timeout(30):
            last_words = asyncio.create_task(dies.send(each, 1000))
            await _until(lambda: dies.shares.allowance("acme/jane").granted == 4)
            dies.running.cancel()  # it does nothing more for the others
            rest = asyncio.create_task(lives.send(each, 50))
            await a_while(1.5)
            assert not lives.outcomes
            last_words.cancel()
            await dies.upstream.aclose()
            await _until(lambda: server.open_now == 0)  # one that was taking a message has not read its end yet
            await dies.queue.drop_shares()  # as whoever takes its place does
            lives.shares.look()
            await rest
        assert all(outcome.accepted for outcome in lives.outcomes)
        assert server.most == 4


async def test_accounts_that_share_a_limit_share_it_over_all_processes(tmp_path: Path) -> None:
    async with scripted(kind=Counting, answers={".": slowly}) as server, workers(tmp_path / "relay.db", 2) as all_:
        assert isinstance(server, Counting)
        each = [to(server, f"user{number}", max_connections=3, shared_limits=True) for number in range(5)]
        async with asyncio.timeout(30):
            await asyncio.gather(*(worker.send(one, 10) for worker in all_ for one in each))
        assert len(server.messages) == 100
        assert server.most == 3
        assert {worker.shares.allowance("acme").granted > 0 for worker in all_} == {True}


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  what is waited for knows no event
        await asyncio.sleep(0.01)  # a slow server
