"""The garbage collector rests while a directory is made, and forgets nothing for ever."""

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from relay.control.transport.socket import made
from relay.system import process
from relay.system.process import Collector, in_short_turns, loading

pytestmark = pytest.mark.slow


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def nothing_set_aside() -> Iterator[None]:
    """What the run has set aside of its own (tests/conftest.py) is looked through meanwhile."""
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.enable()


async def test_it_rests_within_and_works_again_whatever_happens() -> None:
    async with Collector().at_rest():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    with pytest.raises(ZeroDivisionError):
        async with Collector().at_rest():
            raise ZeroDivisionError
    assert gc.isenabled()


async def test_the_last_of_several_sets_the_process_back() -> None:
    with loading():
        with loading():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    may_end, ordinary = threading.Event(), sys.getswitchinterval()
    long = asyncio.create_task(in_short_turns(may_end.wait, 10))
    short = await in_short_turns(sys.getswitchinterval)
    assert short < ordinary
    assert sys.getswitchinterval() == short, "another job goes on"
    may_end.set()
    assert await long
    assert sys.getswitchinterval() == ordinary


async def test_who_makes_something_once_does_not_count_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """To count is one step of many milliseconds, in which no message moves."""

    def count() -> int:
        raise AssertionError

    monkeypatch.setattr(gc, "get_freeze_count", count)

    def make() -> Knot:
        assert not gc.isenabled()
        return Knot()

    assert await made(make)
    assert gc.isenabled()


async def test_who_is_cancelled_while_it_looks_leaves_it_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    looking, may_end = threading.Event(), threading.Event()

    def look() -> None:
        looking.set()
        may_end.wait(10)

    monkeypatch.setattr(process, "_TIMES", 1)
    monkeypatch.setattr(process, "_look_everywhere", look)

    async def rest() -> None:
        resting = Collector()
        async with resting.at_rest():
            resting._most = -1

    task = asyncio.create_task(rest())
    assert await asyncio.to_thread(looking.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_end.set()
    assert gc.isenabled()


async def test_garbage_that_was_set_aside_is_found_when_there_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_TIMES", 3)
    monkeypatch.setattr(process, "_GROWTH", 0.5)
    resting = Collector()
    async with resting.at_rest():
        knot = weakref.ref(Knot())
    gc.collect()
    assert knot() is not None, "it is set aside"
    for _ in range(2):
        async with resting.at_rest():
            pass
    assert knot() is None


async def test_nobody_looks_through_everything_while_no_more_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_TIMES", 1)
    resting = Collector()
    async with resting.at_rest():
        knot = weakref.ref(Knot())
    for _ in range(5):
        async with resting.at_rest():
            pass
    assert knot() is not None
