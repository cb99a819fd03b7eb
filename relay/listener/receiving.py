"""A message on its way in, by DATA or BDAT: how its end is found, how much of it there may be, and what is kept of it.

SECURITY: only CR LF . CR LF ends the message of DATA. Anything else that looks like an end (a bare LF or CR around the
dot) is content, so no client can hide a second message in one (SMTP smuggling, CVE-2023-51764 and its like). A chunk of
BDAT (RFC 3030) is never looked at for an end or a dot. Whatever is wrong, the client is heard to the end of its message
or chunk: what it sends on would be read as commands otherwise (RFC 1870 section 6.3). Nothing of a message that is
refused is kept meanwhile.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Final, Self, TypeVar

from relay import log
from relay.listener import replies
from relay.listener.commands import BdatCommand
from relay.listener.connection import Connection
from relay.listener.ports import Submission
from relay.listener.session_limits import Flow
from relay.mail.content import (
    Body,
    Content,
    ContentReader,
    ContentRefused,
    Gathering,
    GrowingBody,
    InMemory,
    NewBody,
    read_at_once,
)
from relay.mail.reply import Reply
from relay.store.db.errors import StoreError, StoreFull

MUCH: Final = 32 * 1024  # octets; less is quickly worked on
_BLOCK: Final = 512 * 1024  # octets for one way to a thread and back, which takes a tenth of a millisecond
# Octets a second. Who is slower would keep a connection to the server from others for long, and gains little.
_FAST: Final = 1024 * 1024
_END: Final = b"\r\n.\r\n"
_LINE_END: Final = b"\r\n"
_DOTTED: Final = b"\r\n."
_NO_WAIT: Final = nullcontext()
_Result = TypeVar("_Result")


class DotReader:
    """Takes the bytes behind 354 as they come and gives the message's own: without dot-stuffing and without the end.

    All work is done on whole chunks by the interpreter's own string search, never line by line.
    """

    def __init__(self) -> None:
        self._held = b""
        self._before = b""  # what was put before the first octet, until it is taken off
        self._has_begun = False
        self.has_ended = False
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what is certain to be content. After `has_ended`, `rest` holds what follows the message."""
        if not self._has_begun and chunk:
            self._has_begun = True
            if chunk.startswith(b"."):
                # As if a line had just ended: the end may come at once, and the first line may be dot-stuffed.
                self._held = self._before = _LINE_END
        text = self._held + chunk if self._held else chunk
        # To look for one octet takes a hundredth of the time for three, and encoded files have no dot.
        dot = text.find(b".")
        dotted = text.find(_DOTTED, dot - 2 if dot > 2 else 0) if dot >= 0 else -1
        end = text.find(_END, dotted) if dotted >= 0 else -1
        if end >= 0:
            self.has_ended = True
            self.rest = text[end + len(_END) :]
            text = text[: end + len(_LINE_END)]
        else:
            border = len(text) - _held_back(text)
            self._held = text[border:]
            text = text[:border]
        if not text:
            return text
        # RFC 5321 section 4.5.2: the first dot of a line is not content. A "\r\n." never lies across the border.
        content = text.replace(_DOTTED, _LINE_END) if dotted not in {-1, end} else text
        if self._before:
            content, self._before = content.removeprefix(self._before), b""
        return content


def read_whole(octets: bytes, largest: int) -> tuple[Content, bytes] | None:
    """Return a small message that one read brought whole, and what follows it; None where it takes more than a look.

    That is as nearly all small messages are: no line begins with a dot, and all lines are canonical. `largest` is in
    octets.
    """
    end = octets.find(_DOTTED)
    if octets[end : end + len(_END)] != _END or octets[:1] == b"." or end + len(_LINE_END) > largest:
        return None
    content = read_at_once(octets[: end + len(_LINE_END)])
    return None if content is None else (content, octets[end + len(_END) :])


def _held_back(text: bytes) -> int:
    """Return how many of the last octets may be the beginning of the end."""
    return next((count for count in range(len(_END) - 1, 0, -1) if text.endswith(_END[:count])), 0)


class Memory:
    """The octets of all messages that clients have sent and nobody has answered for yet. What one takes, it returns."""

    def __init__(self, octets: int) -> None:
        self.free = octets  # that nobody has taken

    def take(self, octets: int) -> bool:
        """Take octets, or none: False where that many are not free."""
        if octets > self.free:
            return False
        self.free -= octets
        return True

    def give_back(self, octets: int) -> None:
        """Return what was taken."""
        self.free += octets


class Turns:
    """Turns of the loop for large pieces of work: where much comes to many sessions at once, one works in each turn.

    Otherwise one turn would take as long as the work of all of them, and everybody else would wait for that. All
    sessions share one. A share is a context.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    def share(self, octets: bytes) -> AbstractAsyncContextManager[object]:
        """Return the turn in which these octets may be worked on."""
        return self if len(octets) >= MUCH else _NO_WAIT

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            self._lock.release()


class SpoolWriter:
    """Gathers a body for another who may write it to disk. `hand_on` and `finish` may wait for the disk, `add` never.

    The kernel takes what is written into its memory at once, until there is too much of it: then each write waits for
    the disk, and the loop must not.
    """

    def __init__(self, body: Gathering) -> None:
        self._body = body
        self._waiting: list[bytes] = []
        self._octets = 0  # of those

    @property
    def held(self) -> int:
        """How many octets are in memory now."""
        return self._octets + self._body.held

    @property
    def is_due(self) -> bool:
        """Whether so much waits that it is time to hand it on."""
        return self._octets >= _BLOCK

    def keeps(self, octets: int) -> bool:
        """Whether so many more octets stay in memory, and nothing waits."""
        return not self._waiting and self._body.keeps(octets)

    def add(self, chunk: bytes) -> None:
        """Take the next chunk. Waits for nothing."""
        octets = len(chunk)
        if not self._waiting and self._body.keeps(octets):
            self._body.add(chunk)
        else:
            self._waiting.append(chunk)
            self._octets += octets

    def hand_on(self) -> None:
        """Hand on what waits. Nothing may be added meanwhile. Raises what the other raises."""
        waiting, self._waiting, self._octets = self._waiting, [], 0
        for chunk in waiting:
            self._body.add(chunk)

    def so_far(self) -> GrowingBody | None:
        """Return what has been handed on, where that is outside of memory."""
        return self._body.so_far()

    def finish(self) -> Body:
        """Return the body. Raises what the other raises."""
        if self._waiting:
            self.hand_on()
        return self._body.finish()


class MessageReceiver:
    """Takes the octets of one message. A context manager: what it holds of the common memory is free again after it.

    `largest` is in octets; `clock` says the time in seconds for `flow`; `new_body` begins what gathers the body.
    `on_growth` is called when more of a large message has gone to disk. `turns` is shared by all messages.
    """

    on_growth: Callable[[], None] | None = None

    def __init__(
        self,
        largest: int,
        memory: Memory,
        flow: Flow,
        clock: Callable[[], float],
        new_body: NewBody = InMemory,
        turns: Turns | None = None,
    ) -> None:
        self._largest = largest
        self._memory = memory
        self._flow = flow
        self._clock = clock
        self._turns = turns
        self._body = SpoolWriter(new_body())
        self._reader = ContentReader(self._body)
        self._taken = 0
        self.size = 0  # octets that have come
        self.refusal: Reply | None = None  # what is known to be wrong already; `finish` may find more

    def turn(self, octets: bytes) -> AbstractAsyncContextManager[object]:
        """Return the turn in which these octets may be fed."""
        return self._turns.share(octets) if self._turns is not None else _NO_WAIT

    @property
    def is_due(self) -> bool:
        """Whether so much waits for the disk that `settle` has to come before the next octets."""
        return self._body.is_due

    def feed(self, octets: bytes) -> None:
        """Take the next octets, without dot-stuffing; `settle` follows where it `is_due`.

        Raises ContentRefused (421) where they come too slowly to wait. Every other refusal waits for `finish`.
        """
        count = len(octets)
        if self._flow.is_too_slow(count, self._clock()):
            raise ContentRefused(replies.TOO_SLOW)
        self.size += count
        if self.size > self._largest:
            self._refuse(replies.TOO_LARGE)
        elif self.refusal is None and not self._memory.take(count):
            self._refuse(replies.NO_MEMORY)
        elif self.refusal is None:
            self._taken += count
            try:
                self._reader.feed(octets)
            except StoreError as error:
                self._refuse_unkept(error)
            else:
                if self.size > MUCH:  # a smaller one gives all back at its end, which is soon
                    self._free()

    def pass_by(self, octets: bytes) -> None:
        """Let octets go that nobody wants. Raises ContentRefused (421) where they come too slowly to wait."""
        if self._flow.is_too_slow(len(octets), self._clock()):
            raise ContentRefused(replies.TOO_SLOW)

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

    async def finish(self) -> Content:
        """Return the message, which goes on holding its memory. Raises ContentRefused."""
        if self.refusal is None:
            reader = self._reader
            if self._body.keeps(reader.held - self._body.held):
                try:
                    return reader.finish()
                except StoreError as error:
                    self._refuse_unkept(error)
            elif (content := await self._keep(reader.finish)) is not None:
                return content
        assert self.refusal is not None
        raise ContentRefused(self.refusal)

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
        self.refusal = reply
        self._body = SpoolWriter(InMemory())
        self._reader = ContentReader(self._body)
        self.close()


async def read_on(connection: Connection, receiver: MessageReceiver, dots: DotReader, octets: bytes) -> None:
    """Read a message from these octets on to its end, whatever is wrong with it. What was pipelined behind it stays.

    Raises ContentRefused (421) as the receiver does, and ClientLeft where the client goes before the end.
    """
    await receiver.settle()
    while True:
        octets = octets or await connection.chunk()
        async with receiver.turn(octets):
            receiver.feed(dots.feed(octets))
        await receiver.settle()
        if dots.has_ended:
            break
        octets = b""
    connection.unread(dots.rest)


class Chunks:
    """One message that comes by BDAT. Once something of it was refused, all that follows of it is refused alike.

    `refusal` is given where no message may come now.
    """

    def __init__(self, receiver: MessageReceiver, refusal: Reply | None = None) -> None:
        self._receiver = receiver
        self._refusal = refusal

    async def read(self, connection: Connection, chunk: BdatCommand) -> Content | None:
        """Read one chunk; return the message after the last, else None. Raises ContentRefused and ClientLeft."""
        left = chunk.octets
        while left:
            octets = await connection.chunk(left)
            left -= len(octets)
            if self._refusal is None:
                async with self._receiver.turn(octets):
                    self._receiver.feed(octets)
                await self._receiver.settle()
            else:
                self._receiver.pass_by(octets)
        self._refusal = self._refusal or self._receiver.refusal
        if self._refusal is not None:
            raise ContentRefused(self._refusal)
        return await self._receiver.finish() if chunk.is_last else None

    def close(self) -> None:
        """Forget the message."""
        self._receiver.close()


class CutThrough:
    """One large message that `Acceptance` is told of before it is complete, so that it can be sent early.

    A context manager: what was foreseen and is not taken by then is abandoned. `open_` begins its submission; `clock`
    tells the time in seconds, and `began` when the message began (None: now).
    """

    def __init__(
        self,
        receiver: MessageReceiver,
        open_: Callable[[], Submission],
        clock: Callable[[], float],
        began: float | None = None,
    ) -> None:
        self._receiver = receiver
        self._open = open_
        self._clock = clock
        self._began = clock() if began is None else began
        self._submission: Submission | None = None
        self._is_over = False
        receiver.on_growth = self._grown

    def take(self) -> Submission:
        """Return the submission of the whole message, which is the one that was foreseen where there is one."""
        self._is_over = True
        return self._submission or self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Abandon what was foreseen and not taken."""
        if not self._is_over and self._submission is not None:
            self._submission.abandon()
        self._is_over = True
        self._receiver.on_growth = None  # no circle: it would keep the message, and its file

    def _grown(self) -> None:
        if self._submission is not None:
            self._submission.more()
        elif not self._is_over and (found := self._receiver.so_far()) is not None:
            self._is_over = self._receiver.size < _FAST * (self._clock() - self._began)
            if not self._is_over:
                self._submission = self._open()
                self._submission.foresee(*found)
