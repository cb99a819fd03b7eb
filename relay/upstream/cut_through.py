"""Cut-through: a large message goes on to its server while its client still sends it.

`Arriving` is the message: what of it is there, and then what follows. `CutThroughTransaction` sends it. It uses a
connection that is open and idle, and needs nothing else: no login, no turn. If it fails before the final dot, nothing
follows from that: the message is sent again in the usual way, and the server's reply to that counts. So all rules about
refusals, holds and what is stored are those of `Upstream.deliver`.

SAFETY: the final dot waits for `finish`, which is called when the message is complete and every check has passed, and
for the gate. Ending it before that closes the connection, and the server has no message.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

from relay.mail.content import GrowingBody
from relay.upstream.outcome import Outcome, Phase
from relay.upstream.transaction import Progress, Transfer

# Seconds. Who pauses longer would keep a connection from all others, and the server waiting.
LONGEST_PAUSE = 5.0


class Arriving:
    """The message: its header block, and a body that grows until `end`. `more` is called when it has grown."""

    def __init__(self, header: bytes, body: GrowingBody) -> None:
        self.header = header
        self._body = body
        self._is_whole = False
        self._news = asyncio.Event()

    def is_of(self, body: object) -> bool:
        """Whether this is the body that grows here."""
        return self._body is body

    def more(self) -> None:
        """There is more of it."""
        self._news.set()

    def end(self) -> None:
        """It is whole."""
        self._is_whole = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the whole message as it comes. Raises TimeoutError when it comes too slowly."""
        yield self.header + b"\r\n"
        start = 0
        while True:
            is_last = self._is_whole  # asked before what there is: nothing comes behind it
            self._news.clear()
            for chunk in self._body.since(start):
                yield chunk
                start += len(chunk)
            if is_last:
                return
            if not self._is_whole:
                async with asyncio.timeout(LONGEST_PAUSE):
                    await self._news.wait()


class _Shared(Progress):
    """The progress of a head start, which tells the final dot to whoever has taken it on, too."""

    __slots__ = ("owner",)

    def __init__(self) -> None:
        super().__init__()
        self.owner: Progress | None = None

    def note_final_dot(self) -> None:
        Progress.note_final_dot(self)
        assert self.owner is not None
        self.owner.note_final_dot()


class CutThroughTransaction:
    """One message on its way. `begin` hands it over; `most` is the largest that the server takes, 0 for any."""

    def __init__(
        self, transfer: Transfer, begin: Callable[[Transfer, Progress], Coroutine[Any, Any, Outcome]], most: int
    ) -> None:
        assert transfer.arriving is not None
        self._arriving = transfer.arriving
        self._transfer = transfer
        self._most = most
        self._progress = _Shared()
        self._progress.before_final_dot = self._gate
        self._owned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.get_running_loop().create_task(begin(transfer, self._progress))
        self.task.add_done_callback(self._let_go)

    def abandon(self) -> None:
        """End it, unless somebody has taken it on: the connection is closed, and nobody has the message."""
        if self._progress.owner is None:
            self.task.cancel()

    async def finish(self, transfer: Transfer, progress: Progress) -> Outcome | None:
        """Take it on with the whole message, and return what came of it; None where it has to be handed over anew.

        To be cancelled as `Upstream.deliver`. Called once.
        """
        if self.task.done() or not self._is_for(transfer):
            self.abandon()
            return None
        self._progress.owner = progress
        progress.phase = self._progress.phase
        self._arriving.end()
        self._owned.set_result(None)
        outcome = await self.task
        if progress.final_dot_sent or outcome.accepted is not None:
            return outcome
        progress.phase = Phase.RESOLVE
        return None

    def _let_go(self, _: asyncio.Task[Outcome]) -> None:
        self._progress.before_final_dot = None  # no circle: it would keep the message, and its file

    async def _gate(self) -> None:
        await self._owned
        owner = self._progress.owner
        assert owner is not None
        if owner.before_final_dot is not None:
            await owner.before_final_dot()

    def _is_for(self, transfer: Transfer) -> bool:
        """Whether what is on its way is what is to be handed over."""
        begun, content = self._transfer, transfer.content
        if not self._arriving.is_of(content.body) or self._arriving.header != content.header:
            return False
        if 0 < self._most < content.size:
            return False
        # Whatever else a transfer says must be the same; all or none is what this always is.
        now = replace(transfer, cut_through=None, all_or_none=True, arriving=begun.arriving, content=begun.content)
        return now == begun
