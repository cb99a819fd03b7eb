"""How late the event loop is: what is measured, and how long it is remembered."""

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.system.event_loop import Lag, LoopLag

MINUTE = 60.0
SAMPLES = st.lists(st.tuples(st.floats(0, 30), st.floats(0, 1)), max_size=50)


@given(SAMPLES, st.floats(0, 120))
def test_the_greatest_of_the_last_minute(steps: list[tuple[float, float]], later: float) -> None:
    lag, now, taken = Lag(), 0.0, list[tuple[float, float]]()
    for pause, late in steps:
        now += pause
        lag.note(late, now)
        taken.append((now, late))
        assert lag.greatest(now) == max(late for at, late in taken if at >= now - MINUTE)
    now += later
    assert lag.greatest(now) == max((late for at, late in taken if at >= now - MINUTE), default=0.0)


async def test_a_step_that_holds_the_loop_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + next(late)
        await asyncio.Event().wait() if now > 101 else None

    late = iter([0.0, 0.25, 0.0, 1.5])
    monkeypatch.setattr("relay.system.event_loop.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("relay.system.event_loop.asyncio", SimpleNamespace(sleep=sleep))
    lag = LoopLag()
    assert lag.seconds == 0.0
    watch = asyncio.create_task(lag.watch())
    await asyncio.sleep(0)
    watch.cancel()
    assert lag.seconds == pytest.approx(0.25)
