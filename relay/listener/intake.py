"""One message on its way in, by DATA or BDAT: how much of it there may be, and what is kept of it.

Whatever is wrong, the client is heard to the end of its message: what it sends on would be read as commands otherwise
(RFC 1870 section 6.3). Nothing of a message that is refused is kept meanwhile.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeVar

from relay import log
from relay.listener import replies
from relay.listener.behind import Behind
from relay.listener.memory import Memory
from relay.listener.pace import Flow
from relay.listener.rounds import Rounds
from relay.mail.content import Content, ContentReader, ContentRefused, GrowingBody, InMemory, NewBody
from relay.mail.reply import Reply
from relay.store.errors import StoreError, StoreFull

_Result = TypeVar("_Result")


class Intake:
    """Takes the octets of one message. A context manager: what it holds of the common memory is free again after it.

    `largest` is in octets; `clock` says the time in seconds for `flow`; `new_body` begins what gathers the body.
    `on_growth` is called when more of a large message has gone to disk. `rounds` is shared by all messages.
    """

    on_growth: Callable[[], None] | None = None

    def __init__(
        self,
        largest: int,
        memory: Memory,
        flow: Flow,
        clock: Callable[[], float],
        new_body: NewBody = InMemory,
        rounds: Rounds | None = None,
    ) -> None:
        self._largest = largest
        self._memory = memory
        self._flow = flow
        self._clock = clock
        self._rounds = rounds or Rounds()
        self._body = Behind(new_body())
        self._reader = ContentReader(self._body)
        self._size = 0
        self._taken = 0
        self._refusal: Reply | None = None

    @property
    def refusal(self) -> Reply | None:
        """What is known to be wrong already; `finish` may find more."""
        return self._refusal

    def turn(self, octets: bytes) -> AbstractAsyncContextManager[object]:
        """Return the turn in which these octets may be fed."""
        return self._rounds.share(octets)

    def feed(self, octets: bytes) -> None:
        """Take the next octets, without dot-stuffing; `settle` follows. Raises ContentRefused (421) where they come
        too slowly to wait. Every other refusal waits for `finish`.
        """
        self.pass_by(octets)
        self._size += len(octets)
        if self._size > self._largest:
            self._refuse(replies.TOO_LARGE)
        elif self._refusal is None and not self._memory.take(len(octets)):
            self._refuse(replies.NO_MEMORY)
        elif self._refusal is None:
            self._taken += len(octets)
            self._read(octets)

    async def settle(self) -> None:
        """Let go to disk what should be there."""
        if self._body.is_due:
            await self._keep(self._body.hand_on)
            if self.on_growth is not None:
                self.on_growth()

    def so_far(self) -> tuple[bytes, GrowingBody] | None:
        """Return header block and body of a large message as far as it is on disk; None before the header is complete.

        The body is the one of `finish`, and grows until then.
        """
        header, body = self._reader.header, self._body.so_far()
        return None if header is None or body is None else (header, body)

    @property
    def size(self) -> int:
        """How many octets have come."""
        return self._size

    def pass_by(self, octets: bytes) -> None:
        """Let octets go that nobody wants. Raises ContentRefused (421) where they come too slowly to wait."""
        if self._flow.is_too_slow(len(octets), self._clock()):
            raise ContentRefused(replies.TOO_SLOW)

    async def finish(self) -> Content:
        """Return the message, which goes on holding its memory. Raises ContentRefused."""
        content = await self._end() if self._refusal is None else None
        if content is None:
            assert self._refusal is not None
            raise ContentRefused(self._refusal)
        return content

    def close(self) -> None:
        """Give the memory back: nobody has the message any more, or somebody else answers for it."""
        self._memory.give_back(self._taken)
        self._taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, octets: bytes) -> None:
        try:
            self._reader.feed(octets)
        except StoreError as error:
            self._refuse_unkept(error)
        else:
            self._free()

    async def _end(self) -> Content | None:
        reader = self._reader
        if not self._body.keeps(reader.held - self._body.held):
            return await self._keep(reader.finish)
        try:
            return reader.finish()
        except StoreError as error:
            self._refuse_unkept(error)
            return None

    async def _keep(self, write: Callable[[], _Result]) -> _Result | None:
        """Return the result of what may have to wait for the disk; None where it failed."""
        try:
            result = await asyncio.get_running_loop().run_in_executor(None, write)
        except StoreError as error:
            self._refuse_unkept(error)
            return None
        self._free()
        return result

    def _free(self) -> None:
        """Give back what has gone to disk, or will never leave: it is no memory any more."""
        octets = self._taken - self._reader.held
        if octets > 0:
            self._memory.give_back(octets)
            self._taken -= octets

    def _refuse_unkept(self, error: StoreError) -> None:
        log.broken(str(error))
        self._refuse(replies.NO_ROOM if isinstance(error, StoreFull) else replies.INTERNAL_FAULT)

    def _refuse(self, reply: Reply) -> None:
        self._refusal = reply
        self._body = Behind(InMemory())
        self._reader = ContentReader(self._body)
        self.close()
