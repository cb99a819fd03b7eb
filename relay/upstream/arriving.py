"""A message whose end is still to come: what of it is there, and then what follows."""

import asyncio
from collections.abc import AsyncIterator

from relay.mail.content import GrowingBody

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
