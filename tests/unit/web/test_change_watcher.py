"""The watcher behind the live pages: it looks only while somebody listens, and tells everybody."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from relay.web.kit.change_watcher import ChangeWatcher
from tests.peers.moments import a_while

QUICK = 0.01


class World:
    """Something that changes."""

    def __init__(self) -> None:
        self.value = 0
        self.looks = 0

    def look(self) -> int:
        self.looks += 1
        return self.value


async def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_so():
            return
        await asyncio.sleep(QUICK)  # between two looks
    raise AssertionError("it did not come")


async def test_everybody_hears_of_a_change_and_nobody_looks_when_nobody_listens() -> None:
    world = World()
    change_watcher = ChangeWatcher(world.look, looks_every=QUICK)
    heard: list[int] = []

    async def listen(who: int) -> None:
        async with change_watcher.listening(), aclosing(change_watcher.changes(quiet=60)) as changes:
            async for is_change in changes:
                assert is_change
                heard.append(who)
                return

    tasks = [asyncio.create_task(listen(who)) for who in range(3)]
    await _until(lambda: world.looks > 2)
    assert heard == []
    world.value += 1
    await asyncio.gather(*tasks)
    assert sorted(heard) == [0, 1, 2]
    assert not change_watcher.is_watching
    looks = world.looks
    await a_while(5 * QUICK)
    assert world.looks == looks


async def test_what_changes_while_a_listener_is_busy_is_told_when_it_comes_back() -> None:
    world = World()
    change_watcher = ChangeWatcher(world.look, looks_every=QUICK)
    async with change_watcher.listening(), aclosing(change_watcher.changes(quiet=60)) as changes:
        world.value += 1
        assert await anext(changes)
        world.value += 1
        looks = world.looks
        await _until(lambda: world.looks > looks + 2)
        async with asyncio.timeout(10):
            assert await anext(changes)


async def test_silence_is_told_and_closing_ends_all() -> None:
    change_watcher = ChangeWatcher(lambda: 1, looks_every=QUICK)
    async with change_watcher.listening(), aclosing(change_watcher.changes(quiet=QUICK)) as changes:
        assert await anext(changes) is False
        waiting = asyncio.create_task(anext(changes, None))
        await change_watcher.aclose()
        async with asyncio.timeout(10):
            assert await waiting is None
    assert not change_watcher.is_watching


async def test_there_is_an_end_to_how_many_listen() -> None:
    change_watcher = ChangeWatcher(lambda: 1, looks_every=60)
    places = [change_watcher.listening() for _ in range(100)]
    for place in places:
        assert not change_watcher.is_full
        await place.__aenter__()
    assert change_watcher.is_full
    for place in places:
        await place.__aexit__(None, None, None)
    assert not change_watcher.is_watching
