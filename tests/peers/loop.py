"""An asyncio loop in a thread of its own, for peers that tests of any kind talk to."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from relay.listener.sockets import close

T = TypeVar("T")

_DEADLINE = 20.0
_TURNS = 3  # from the transport of an accepted connection to the first step of the task that talks on it, and one more


class LoopThread:
    """A running event loop; what is left on it when it ends is cancelled."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="peer", daemon=True)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_DEADLINE)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE)
        self._loop.close()


async def stop_listening(server: asyncio.Server) -> None:
    """Let nobody in any more, and have who was just let in begin: a task that is cancelled before closes nothing."""
    await close(server)
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    # One more turn: a transport that was aborted reports it on the next one.
    await asyncio.sleep(0)
