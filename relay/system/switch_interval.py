"""Whose turn it is in Python: a thread that works lets others on after 5 ms, and the event loop asks often.

A message asks some thirty times, so that it takes 150 ms while a thread works. With shorter turns it takes a tenth.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_ORDINARY = 0.005  # Python's own
_SHORT = 0.0005  # each change of turns costs some microseconds


async def in_short_turns(job: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Run a long job in a thread, and let the event loop on every half millisecond.

    Where several go on at once, the first that ends ends the short turns for all.
    """
    sys.setswitchinterval(_SHORT)
    try:
        return await asyncio.to_thread(job, *args, **named)
    finally:
        sys.setswitchinterval(_ORDINARY)
