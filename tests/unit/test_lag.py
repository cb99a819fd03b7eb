"""How late the event loop is: what is measured, and how long it is remembered."""

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from relay.lag import Lag, LoopLag

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


async def test_a_step_that_holds_the_loop_up_is_found() -> None:
    lag = LoopLag()
    watch = asyncio.create_task(lag.watch())
    assert lag.seconds == 0.0
    await asyncio.sleep(0.01)
    time.sleep(0.3)  # noqa: ASYNC251 - what nobody should do
    await asyncio.sleep(0.01)
    watch.cancel()
    assert 0.2 < lag.seconds < 5
