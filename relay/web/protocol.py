"""HTTP/1.1 with strangers: so many connections and no more, and whoever begins a request goes on with it.

SECURITY: a connection costs a descriptor, and without descriptors no mail comes in (`relay.descriptors` counts these
in). Who opens many, or never ends the head of a request, keeps the pages busy at most.
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class WebProtocol(H11Protocol):
    """One connection. It is closed where there are `most` already, and after `head_seconds` without a request."""

    most: ClassVar[int] = 250
    head_seconds: ClassVar[float] = 30.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, if there is room."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._watch()

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
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
