"""Time that a test lets pass because there is nothing to wait for."""

import asyncio


async def a_while(seconds: float = 0.1) -> None:
    """Let pass what it would take, where something happened that must not: of what stays away nobody is told.

    On a slow machine such a look finds less; it never fails without a reason.
    """
    await asyncio.sleep(seconds)
