"""HTTP/1.1 with strangers: so many connections and no more, and whoever begins a request goes on with it.

SECURITY: a connection costs a descriptor, and without descriptors no mail comes in (`relay.descriptors` counts these
in). Who opens many, never ends the head of a request, or does not read the answer, keeps the pages busy at most; and
who comes when there are too many takes the place of the one that has waited longest without asking anything.
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class WebProtocol(H11Protocol):
    """One of at most `most` connections. It is closed after `head_seconds` without a request, or `unread_seconds` in
    which nothing of an answer could be written.
    """

    most: ClassVar[int] = 250
    head_seconds: ClassVar[float] = 30.0
    unread_seconds: ClassVar[float] = 60.0
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _since: float = 0.0  # since when it waits for a request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, in the place of another one where there are too many."""
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(self.connections) > self.most and not self._replace_one():
            transport.abort()
        else:
            self._watch()

    def _replace_one(self) -> bool:
        """End the connection that has waited longest for a request; False where all are being answered."""
        others = (one for one in self.connections if isinstance(one, WebProtocol) and one is not self)
        waiting = [one for one in others if not one._is_answering and not one.transport.is_closing()]
        if not waiting:
            return False
        min(waiting, key=lambda one: one._since).transport.abort()
        return True

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Wait for the next request, from now on."""
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Write no more until the other side has read, which it does in time."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the other side has read."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Go on, and look whether a whole head has come."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """Let the time run while a head is waited for. Between two requests uvicorn closes by itself."""
        if self._is_answering:
            self._forget()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
