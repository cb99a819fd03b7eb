"""Who has much to do takes turns, and nobody else waits for all of them."""

import asyncio

from relay.listener.receiving import Turns

MUCH, LITTLE = bytes(32 * 1024), b"x"


async def test_one_works_in_each_round_of_the_loop() -> None:
    shared, rounds = Turns(), list[int]()
    now = 0

    async def work() -> None:
        async with shared.share(MUCH):
            rounds.append(now)

    workers = [asyncio.create_task(work()) for _ in range(5)]
    while not all(worker.done() for worker in workers):
        now += 1
        await asyncio.sleep(0)
    assert len(set(rounds)) == 5


async def test_little_work_waits_for_nobody() -> None:
    shared = Turns()
    async with shared.share(MUCH), asyncio.timeout(10), shared.share(LITTLE):
        pass


async def test_a_worker_that_fails_or_leaves_lets_the_next_one_work() -> None:
    shared = Turns()

    async def fail() -> None:
        async with shared.share(MUCH):
            raise ValueError

    async def wait() -> None:
        async with shared.share(MUCH):
            raise AssertionError

    async with shared.share(MUCH):
        leaving = asyncio.create_task(wait())
        failing = asyncio.create_task(fail())
        await asyncio.sleep(0)
        leaving.cancel()
    assert [type(error) for error in await asyncio.gather(leaving, failing, return_exceptions=True)] == [
        asyncio.CancelledError,
        ValueError,
    ]
    async with asyncio.timeout(10), shared.share(MUCH):
        pass
