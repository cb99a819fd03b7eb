"""What has been opened and has to be closed again, the last first; tasks that go on meanwhile belong to it."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from relay import log


class TaskExitStack(AsyncExitStack):
    """An exit stack that runs tasks, too: each ends when its turn comes."""

    def run(self, job: Coroutine[Any, Any, None]) -> None:
        """Let a job go on until everything that was opened after this is closed."""
        task = asyncio.get_running_loop().create_task(job)
        task.add_done_callback(_tell_end)
        self.callback(task.cancel)


def _tell_end(task: "asyncio.Task[None]") -> None:
    """Tell of a part that should go on for ever and has ended."""
    if not task.cancelled() and task.exception() is not None:
        log.broken("a part of the relay ended by a fault of ours; start it anew", exc_info=task.exception())
